"""Flow chart: ribbons from where requests came from to where they were served, as wide as they are many.

Decides what is drawn; numbers are those of `accounts.flows`. At most `MOST_NODES` on a side: the rest is one of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gridctl.accounts.flows import Flow, Flows
from gridctl.render.account import count_text, share_text
from gridctl.report.drawing import figure, picture, words
from gridctl.report.markup import Markup, element, number

MOST_NODES = 14
REST = "others"
NOWHERE = "nowhere"
_WIDTH, _LEFT, _RIGHT, _NODE, _GAP, _LEAST = 720.0, 130.0, 560.0, 10.0, 9.0, 2.0


def target_name(flow: Flow) -> str:
    """Where a flow ends, in words."""
    if flow.tier == "-":
        return NOWHERE
    return f"{flow.tier} {flow.region}".strip()


def flow_chart(found: Flows) -> Markup:
    """Origins at the left, tiers of engines at the right."""
    amounts = _amounts(found.items)
    left = _sums(amounts, 0)
    right = _sums(amounts, 1)
    total = sum(left.values()) or 1
    height = 340.0 + 6 * max(len(left), len(right))
    space = height - 30 - _GAP * max(len(left), len(right))
    scale = max(space, 100.0) / total
    from_y, to_y = _stacked(left, scale), _stacked(right, scale)
    parts = []
    next_from, next_to = dict(from_y), dict(to_y)
    for (origin, target), (requests, good) in amounts.items():
        wide = requests * scale
        y1, y2 = next_from[origin], next_to[target]
        next_from[origin] += wide
        next_to[target] += wide
        title = f"{origin} to {target}: {count_text(requests)} ({share_text(requests / total)}), {good} good"
        parts.append(_ribbon(y1, y2, max(wide, 0.5), title))
    parts += [_node(_LEFT - _NODE, y, left[name] * scale, name, left[name], total, "end") for name, y in from_y.items()]
    parts += [_node(_RIGHT, y, right[name] * scale, name, right[name], total, "") for name, y in to_y.items()]
    told = "; ".join(f"{name} served {share_text(count / total)}" for name, count in right.items())
    drawn = picture("flows", "Where requests came from and were served", f"{told}.", _WIDTH, height, *parts)
    framed = element(
        "div", {"class": "scroll", "tabindex": 0, "role": "group", "aria-label": "Flows, wide"},
        element("div", {"class": "wide"}, drawn),
    )  # fmt: skip
    return figure(f"From {found.told_apart_by} of origin to serving tier", f"{told}.", framed)


def _amounts(items: Sequence[Flow]) -> dict[tuple[str, str], tuple[int, int]]:
    """Requests and good ones by ends, the largest ends of each side by name, all others together."""
    kept_from = _largest([(flow.origin, flow.requests) for flow in items])
    kept_to = _largest([(target_name(flow), flow.requests) for flow in items])
    amounts: dict[tuple[str, str], tuple[int, int]] = {}
    ordered = sorted(items, key=lambda flow: (-kept_from.get(flow.origin, 0), flow.origin, flow.tier, flow.region))
    for flow in ordered:
        target = target_name(flow)
        ends = (flow.origin if flow.origin in kept_from else REST, target if target in kept_to else REST)
        requests, good = amounts.get(ends, (0, 0))
        amounts[ends] = (requests + flow.requests, good + flow.good)
    return amounts


def _largest(pairs: Sequence[tuple[str, int]]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for name, count in pairs:
        sums[name] = sums.get(name, 0) + count
    ordered = sorted(sums.items(), key=lambda pair: (-pair[1], pair[0]))
    return dict(ordered if len(ordered) <= MOST_NODES else ordered[: MOST_NODES - 1])


def _sums(amounts: Mapping[tuple[str, str], tuple[int, int]], side: int) -> dict[str, int]:
    sums: dict[str, int] = {}
    for ends, (requests, _) in amounts.items():
        sums[ends[side]] = sums.get(ends[side], 0) + requests
    return dict(sorted(sums.items(), key=lambda pair: (pair[0] == REST, -pair[1], pair[0])))


def _stacked(sums: Mapping[str, int], scale: float) -> dict[str, float]:
    y, tops = 14.0, {}
    for name, count in sums.items():
        tops[name] = y
        y += max(count * scale, _LEAST) + _GAP
    return tops


def _ribbon(y1: float, y2: float, wide: float, title: str) -> Markup:
    left, middle, right = number(_LEFT), number((_LEFT + _RIGHT) / 2), number(_RIGHT)
    top1, top2, end1, end2 = (number(y) for y in (y1, y2, y1 + wide, y2 + wide))
    path = (
        f"M{left} {top1}C{middle} {top1} {middle} {top2} {right} {top2}"
        f"V{end2}C{middle} {end2} {middle} {end1} {left} {end1}z"
    )
    return element("path", {"class": "ribbon", "d": path}, element("title", None, title))


def _node(x: float, y: float, height: float, name: str, count: int, total: int, side: str) -> Markup:
    text_x = x - 6 if side == "end" else x + _NODE + 6
    box = {"x": number(x), "y": number(y), "width": number(_NODE), "height": number(max(height, _LEAST))}
    label = f"{name} {share_text(count / total)}"
    return element(
        "g",
        None,
        element("rect", {"class": "node", **box}),
        words(text_x, y + max(height, _LEAST) / 2 + 4, label, f"key {side}".strip()),
    )
