"""A comparison as text: numbers side by side with a verdict, then what moved where, why, and the largest movers.

Decides which numbers a person sees: those that differ, or all with `wide`; JSON and CSV carry every one. Must not
compute.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import msgspec

from gridctl.accounts.contrast import Contrast
from gridctl.accounts.movement import Flow, Movement, Mover
from gridctl.accounts.resampling import BLOCKS
from gridctl.render.account import count_text, ms_text, share_text
from gridctl.render.cell import ABSENT, visible
from gridctl.render.gates import value_text
from gridctl.render.rows import Column, Item, render_rows
from gridctl.resources.gate import unit_of

MOST_FLOWS = 12
"""Flows that a table shows; JSON has all."""
_ROW_COLUMNS = tuple(Column(name, name) for name in Contrast.__struct_fields__)
_FLOWS = (
    Column("before", "before"),
    Column("after", "after"),
    Column("requests", "requests", align="right", text=count_text),
    Column("share", "share", align="right", text=share_text),
    Column("ttft_ms_change", "ttft", align="right"),
    Column("e2e_ms_change", "e2e", align="right"),
    Column("usd_change", "own usd", align="right"),
    Column("told", "what came of it"),
)
_MOVERS = (
    Column("id", "id", align="right"),
    Column("workload", "workload"),
    Column("origin", "origin"),
    Column("before", "before"),
    Column("after", "after"),
    Column("ttft_ms_before", "ttft before", align="right", text=ms_text),
    Column("ttft_ms_after", "ttft after", align="right", text=ms_text),
    Column("ttft_ms_change", "change", align="right"),
    Column("reason", "what came of it"),
)


def contrast_items(contrasts: Sequence[Contrast]) -> list[Item]:
    """Every number as a row of exact values, for CSV and JSON Lines."""
    return [msgspec.structs.asdict(contrast) for contrast in contrasts]


def contrast_columns() -> tuple[Column, ...]:
    """The columns of those rows."""
    return _ROW_COLUMNS


def document(
    baseline: str,
    runs: Sequence[str],
    unpaired: dict[str, str],
    contrasts: Sequence[Contrast],
    movements: Sequence[Movement],
) -> dict[str, object]:
    """The whole comparison as one JSON object; `items` are its numbers."""
    return {
        "baseline": baseline,
        "runs": [{"name": name, "paired": not unpaired[name], "unpaired_because": unpaired[name]} for name in runs],
        "items": contrasts,
        "movements": movements,
    }


def text(
    baseline: str,
    unpaired: dict[str, str],
    contrasts: Sequence[Contrast],
    movements: Sequence[Movement],
    output: str,
) -> str:
    """Numbers of every scope and what moved, for `table`, `wide` and `markdown`."""
    parts = [_method(baseline, unpaired)]
    for scope, found in groupby(contrasts_by_scope(contrasts), key=lambda contrast: tuple(contrast.scope.items())):
        parts.append(_numbers(scope, list(found), baseline, list(unpaired), output))
    parts += [_movement(one, baseline, output) for one in movements]
    return "\n".join(parts)


def contrasts_by_scope(contrasts: Sequence[Contrast]) -> list[Contrast]:
    """The same numbers, those of one scope together, in the order scopes first appear."""
    order = {key: index for index, key in enumerate(dict.fromkeys(tuple(one.scope.items()) for one in contrasts))}
    return sorted(contrasts, key=lambda contrast: order[tuple(contrast.scope.items())])


def _method(baseline: str, unpaired: dict[str, str]) -> str:
    """What is compared with what, and what a verdict means."""
    lines = []
    for name, why in unpaired.items():
        if why:
            lines.append(f"{name} against {baseline}: not the same requests ({why}), so totals only and no verdicts\n")
        else:
            lines.append(f"{name} against {baseline}: the same requests, compared in pairs\n")
    if not all(unpaired.values()):
        lines.append(
            f"`noise`: the 95 % interval of the difference holds 0, both runs resampled alike over {BLOCKS} blocks of "
            "consecutive requests (over draws where both have ten or more)\n"
        )
    return "".join(lines)


def _numbers(
    scope: tuple[tuple[str, str], ...], contrasts: Sequence[Contrast], baseline: str, runs: Sequence[str], output: str
) -> str:
    """One scope: a row per number, a group of columns per run."""
    title = ", ".join(f"{key} {visible(value)}" for key, value in scope) or "in total"
    by_metric: dict[str, dict[str, Contrast]] = {}
    for contrast in contrasts:
        by_metric.setdefault(contrast.metric, {})[contrast.run] = contrast
    items: list[Item] = []
    same = 0
    for metric, found in by_metric.items():
        first = next(iter(found.values()))
        if all(one.value is None and one.baseline is None for one in found.values()):
            continue
        if output != "wide" and all(
            one.difference == 0 and one.verdict in ("same", "unknown") for one in found.values()
        ):
            same += 1
            continue
        item: dict[str, object] = {"metric": metric, "baseline": value_text(metric, first.baseline)}
        for name, one in found.items():
            item |= {
                f"{name} value": value_text(metric, one.value),
                f"{name} change": change_text(one),
                f"{name} bounds": bounds_text(one),
                f"{name} verdict": one.verdict,
            }
        items.append(item)
    columns = [Column("metric", title), Column("baseline", baseline, align="right")]
    for name in runs:
        columns += [
            Column(f"{name} value", name, align="right"),
            Column(f"{name} change", "change", align="right"),
            Column(f"{name} bounds", "95% interval", align="right"),
            Column(f"{name} verdict", "verdict"),
        ]
    told = f"{same} numbers are the same; -o wide shows them\n" if same else ""
    return render_rows(items, columns, output, kind="Comparison") + told


def change_text(contrast: Contrast) -> str:
    """The difference: in points for shares, else as a share of the baseline."""
    if contrast.difference is None:
        return ABSENT
    if unit_of(contrast.metric) == "share":
        return f"{contrast.difference * 100:+.2f} pp"
    if contrast.difference_share is None:
        return _signed(contrast.metric, contrast.difference)
    return f"{contrast.difference_share:+.1%}"


def bounds_text(contrast: Contrast) -> str:
    """Between which values the difference lies, in the same words."""
    if contrast.low is None or contrast.high is None:
        return ABSENT
    if unit_of(contrast.metric) == "share":
        return f"{contrast.low * 100:+.2f}…{contrast.high * 100:+.2f} pp"
    if contrast.baseline:
        return f"{contrast.low / abs(contrast.baseline):+.1%}…{contrast.high / abs(contrast.baseline):+.1%}"
    return f"{_signed(contrast.metric, contrast.low)}…{_signed(contrast.metric, contrast.high)}"


def _signed(metric: str, value: float) -> str:
    return ("+" if value > 0 else "") + value_text(metric, value)


def _movement(movement: Movement, baseline: str, output: str) -> str:
    """What moved between the baseline and one run: the sum, the flows, the largest movers."""
    told = ", ".join(f"{reason} {count:,}" for reason, count in movement.reasons.items())
    share = share_text(movement.moved_share)
    head = f"{movement.run}: {movement.moved:,} of {movement.requests:,} requests moved ({share})"
    head += f" to another {movement.place}, or were served in one run only: {told}\n" if movement.moved else "\n"
    if output == "markdown":
        head += "\n"
    shown = movement.flows if output == "wide" else movement.flows[:MOST_FLOWS]
    parts = [head]
    if shown:
        parts.append(render_rows([_flow_item(flow) for flow in shown], _FLOWS, output, kind="Flows"))
    if len(shown) < len(movement.flows):
        parts.append(f"{len(movement.flows) - len(shown)} smaller flows; -o wide shows them\n")
    if movement.movers:
        rows = render_rows([_mover_item(mover) for mover in movement.movers], _MOVERS, output, kind="Movers")
        parts.append(f"\nlargest changes of a request's time to first token against {baseline}\n")
        parts.append(("\n" if output == "markdown" else "") + rows)
    return "".join(parts)


def _flow_item(flow: Flow) -> Item:
    told = ", ".join(f"{reason} {count:,}" for reason, count in list(flow.reasons.items())[:3])
    return {
        **msgspec.structs.asdict(flow),
        "ttft_ms_change": _ms_change(flow.ttft_ms_change),
        "e2e_ms_change": _ms_change(flow.e2e_ms_change),
        "usd_change": f"{flow.usd_change:+.4f}",
        "told": told,
    }


def _mover_item(mover: Mover) -> Item:
    return {**msgspec.structs.asdict(mover), "ttft_ms_change": _ms_change(mover.ttft_ms_change)}


def _ms_change(value: float | None) -> str:
    return ABSENT if value is None else f"{'+' if value > 0 else ''}{ms_text(value)} ms"
