"""TTFT charts: how long each workload waited for its first token, what it was promised, and how another run did.

Decides what is drawn; numbers are those of `accounts.distribution`. All workloads share one logarithmic axis.
"""

from __future__ import annotations

from gridctl.accounts.distribution import Distribution, Distributions
from gridctl.render.account import count_text, ms_text, share_text
from gridctl.report.axis import Scale, decades
from gridctl.report.drawing import (
    BOTTOM,
    WIDTH,
    figure,
    legend,
    moment_labels,
    picture,
    stairs,
    stroke,
    swatch,
    words,
)
from gridctl.report.markup import Markup, element, joined, number

MOST_WORKLOADS = 24
_HEIGHT, _LEFT, _RIGHT, _TOP = 150.0, 18.0, 18.0, 16.0
_QUANTILES = (("p50", "p50_ms", 3.0, "key end"), ("p99", "p99_ms", -3.0, "key"))
"""What is marked, and its label: one reads leftwards, one rightwards, so that they never meet."""


def ttft_charts(found: Distributions, other: Distributions | None = None, other_name: str = "") -> list[Markup]:
    """A chart per workload, those with most requests first, `MOST_WORKLOADS` at most; then what the marks mean."""
    chosen = sorted(found.items, key=lambda item: (-item.requests, item.workload))[:MOST_WORKLOADS]
    others = {item.workload: item for item in other.items} if other else {}
    return [
        _chart(index, item, others.get(item.workload), found.edges_ms)
        for index, item in enumerate(sorted(chosen, key=lambda item: item.workload))
    ]


def ttft_legend(other_name: str = "") -> Markup:
    """The marks of every chart."""
    entries = [
        (swatch("f-busy"), "answered requests; each bar is a tenth of a decade"),
        (stroke("quantile"), "p50 and p99"),
        (stroke("limit"), "promised"),
    ]
    if other_name:
        entries.append((stroke("other"), f"run {other_name}"))
    return legend(entries)


def told_of(item: Distribution) -> str:
    """A distribution in words."""
    if not item.answered:
        return f"{item.requests:,} requests, none answered."
    unanswered = item.requests - item.answered
    limits = "; ".join(f"promised {ms_text(limit.threshold_ms)} ms at p{limit.percentile:g}" for limit in item.limits)
    return (
        f"{item.answered:,} answered: p50 {ms_text(item.p50_ms)} ms, p95 {ms_text(item.p95_ms)} ms, "
        f"p99 {ms_text(item.p99_ms)} ms"
        + (f"; {unanswered:,} never answered" if unanswered else "")
        + (f"; {limits}." if limits else ".")
    )


def _chart(index: int, item: Distribution, other: Distribution | None, edges_ms: tuple[float, ...]) -> Markup:
    across = Scale(edges_ms[0], edges_ms[-1], _LEFT, WIDTH - _RIGHT, is_log=True)
    edges = [across.at(edge) for edge in edges_ms]
    ground = _HEIGHT - BOTTOM
    shares = _shares(item)
    others = _shares(other) if other else []
    up = Scale(0.0, max([*shares, *others, 1e-9]), ground, _TOP)
    bars = [
        element(
            "rect",
            {
                "x": number(edges[at]),
                "y": number(up.at(share)),
                "width": number(edges[at + 1] - edges[at] - 0.6),
                "height": number(max(ground - up.at(share), 0.6)),
            },
            element("title", None, _bar_text(edges_ms[at], edges_ms[at + 1], item.counts[at], share)),
        )
        for at, share in enumerate(shares)
        if share
    ]
    parts = [element("g", {"class": "f-busy"}, *bars), element("path", {"class": "axis", "d": _floor(ground)})]
    if other and others:
        parts.append(element("path", {"class": "other", "d": stairs(edges, [up.at(share) for share in others])}))
    parts += [_quantiles(item, across, ground), _limits(item, across, ground)]
    parts.append(
        moment_labels(across, [(value, _ms_label(value)) for value in decades(*across_ends(edges_ms))], ground)
    )
    told = told_of(item)
    drawn = picture(f"ttft-{index}", f"Time to first token of {item.workload}", told, WIDTH, _HEIGHT, *parts)
    return figure(item.workload, told, drawn)


def across_ends(edges_ms: tuple[float, ...]) -> tuple[float, float]:
    """The ends of the axis."""
    return edges_ms[0], edges_ms[-1]


def _shares(item: Distribution) -> list[float]:
    return [count / item.answered for count in item.counts] if item.answered else []


def _floor(ground: float) -> str:
    return f"M{number(_LEFT)} {number(ground)}H{number(WIDTH - _RIGHT)}"


def _quantiles(item: Distribution, across: Scale, ground: float) -> Markup:
    parts = []
    for name, field, aside, side in _QUANTILES:
        value = getattr(item, field)
        if value is None:
            continue
        x = across.at(value)
        parts.append(element("path", {"class": "quantile", "d": f"M{number(x)} {number(_TOP - 2)}V{number(ground)}"}))
        parts.append(words(x + aside, _TOP - 5, name, side))
    return joined(*parts)


def _limits(item: Distribution, across: Scale, ground: float) -> Markup:
    parts = []
    for limit in item.limits:
        x = across.at(limit.threshold_ms)
        parts.append(
            element(
                "path",
                {"class": "limit", "d": f"M{number(x)} {number(_TOP)}V{number(ground)}"},
                element("title", None, f"promised: p{limit.percentile:g} within {ms_text(limit.threshold_ms)} ms"),
            )
        )
    return joined(*parts)


def _bar_text(low_ms: float, high_ms: float, count: int, share: float) -> str:
    return f"{low_ms:.3g} to {high_ms:.3g} ms: {count_text(count)} ({share_text(share)})"


def _ms_label(value: float) -> str:
    """A power of ten of milliseconds.

    >>> [_ms_label(v) for v in (0.1, 1.0, 100.0, 1000.0, 100000.0)]
    ['0.1 ms', '1 ms', '100 ms', '1 s', '100 s']
    """
    return f"{value / 1000:,.0f} s" if value >= 1000 else f"{value:g} ms"
