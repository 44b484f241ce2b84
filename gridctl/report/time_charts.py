"""Time charts: load, goodness and dollars over a run, with its faults behind them.

Decides what is drawn; numbers are those of `accounts.series`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gridctl.accounts.series import Series
from gridctl.render.account import count_text, share_text, usd_text
from gridctl.render.cell import short_float
from gridctl.report.axis import Scale, duration_text, ticks, time_ticks
from gridctl.report.drawing import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    area,
    figure,
    legend,
    level_lines,
    moment_labels,
    picture,
    stairs,
    stroke,
    swatch,
    words,
)
from gridctl.report.markup import Markup, element, number

S_PER_HOUR = 3600


@dataclass(frozen=True, slots=True)
class Fault:
    """What was broken on purpose, from when to when in seconds of the run; None is until its end."""

    label: str
    what: str
    start_s: float
    end_s: float | None = None


def time_charts(series: Series, faults: Sequence[Fault] = ()) -> list[Markup]:
    """The three charts of a run over time."""
    if not any(series.length_s):
        return []
    axis = _axis(series)
    return [_load(series, axis, faults), _goodness(series, axis, faults), _dollars(series, axis, faults)]


def per_second(series: Series) -> list[float]:
    """Requests a second, bin by bin."""
    return [_rate(count, length) for count, length in zip(series.requests, series.length_s, strict=True)]


def usd_per_hour(series: Series) -> list[float]:
    """All dollars, at the rate they were spent."""
    return [
        _rate(gpu + other, length) * S_PER_HOUR
        for gpu, other, length in zip(series.gpu_usd, series.other_usd, series.length_s, strict=True)
    ]


def good_shares(series: Series) -> list[float | None]:
    """Share of the requests that arrived in a bin that were good; None where none arrived."""
    return [good / count if count else None for good, count in zip(series.good, series.requests, strict=True)]


@dataclass(frozen=True, slots=True)
class _Axis:
    edges: list[float]
    labels: Markup
    scale: Scale
    ground: float = HEIGHT - BOTTOM


def _axis(series: Series) -> _Axis:
    length_s = sum(series.length_s)
    scale = Scale(0.0, length_s, LEFT, WIDTH - RIGHT)
    moments = [0.0]
    for length in series.length_s:
        moments.append(moments[-1] + length)
    return _Axis(
        [scale.at(at) for at in moments], moment_labels(scale, time_ticks(length_s, 4), HEIGHT - BOTTOM), scale
    )


def _load(series: Series, axis: _Axis, faults: Sequence[Fault]) -> Markup:
    offered = per_second(series)
    good = [_rate(count, length) for count, length in zip(series.good, series.length_s, strict=True)]
    marks = ticks(max(offered))
    scale = Scale(0.0, marks[-1], axis.ground, TOP)
    peak = max(range(len(offered)), key=offered.__getitem__)
    told = (
        f"Requests a second in steps of {duration_text(series.bin_s)}: mean "
        f"{count_text(_rate(sum(series.requests), sum(series.length_s)))}, most {count_text(offered[peak])} at "
        f"{duration_text(peak * series.bin_s)}."
    )
    drawn = picture(
        "load",
        "Load over time",
        told,
        WIDTH,
        HEIGHT,
        level_lines(scale, [(value, short_float(value)) for value in marks], LEFT, WIDTH - RIGHT),
        _bands(axis, faults),
        element("path", {"class": "f-good", "d": area(axis.edges, [scale.at(v) for v in good], axis.ground)}),
        element("path", {"class": "line s-ink", "d": stairs(axis.edges, [scale.at(v) for v in offered])}),
        axis.labels,
    )
    key = legend([(stroke("line s-ink"), "offered"), (swatch("f-good"), "good")])
    return figure("Load, requests per second", told, drawn, key)


def _goodness(series: Series, axis: _Axis, faults: Sequence[Fault]) -> Markup:
    shares = good_shares(series)
    known = [share for share in shares if share is not None]
    low = min(known, default=1.0)
    bottom = next(floor for floor in (0.99, 0.98, 0.95, 0.9, 0.8, 0.5, 0.0) if low >= floor)
    scale = Scale(bottom, 1.0, axis.ground, TOP)
    marks = [bottom + (1 - bottom) * step / 4 for step in range(5)]
    worst = min(range(len(shares)), key=lambda index: 2.0 if shares[index] is None else float(shares[index] or 0))
    told = f"Share of the requests that arrived in each step that were good: worst {share_text(low)}" + (
        f" at {duration_text(worst * series.bin_s)}." if known else "."
    )
    runs, start = [], None
    for index, share in enumerate([*shares, None]):
        if share is not None and start is None:
            start = index
        if share is None and start is not None:
            runs.append(stairs(axis.edges[start : index + 1], [scale.at(v or 0.0) for v in shares[start:index]]))
            start = None
    drawn = picture(
        "goodness",
        "Good requests over time",
        told,
        WIDTH,
        HEIGHT,
        level_lines(scale, [(value, f"{value * 100:.4g}%") for value in marks], LEFT, WIDTH - RIGHT),
        _bands(axis, faults),
        element("path", {"class": "line s-good", "d": "".join(runs)}),
        axis.labels,
    )
    key = legend([(stroke("line s-good"), f"good; the axis starts at {bottom:.0%}")])
    return figure("Good requests", told, drawn, key)


def _dollars(series: Series, axis: _Axis, faults: Sequence[Fault]) -> Markup:
    hours = [length / S_PER_HOUR for length in series.length_s]
    busy, paid, other = (
        [usd / hour if hour else 0.0 for usd, hour in zip(column, hours, strict=True)]
        for column in (series.gpu_busy_usd, series.gpu_usd, series.other_usd)
    )
    everything = [gpu + rest for gpu, rest in zip(paid, other, strict=True)]
    marks = ticks(max(max(everything), max(busy)))
    scale = Scale(0.0, marks[-1], axis.ground, TOP)
    told = (
        f"Dollars per hour: owned GPUs cost {usd_text(max(paid))} whether busy or not, of which "
        f"{share_text(_rate(sum(series.gpu_busy_usd), sum(series.gpu_usd)))} was busy; serverless, egress, fallback "
        f"and energy added {usd_text(sum(series.other_usd))} in all."
    )
    drawn = picture(
        "dollars",
        "Cost over time",
        told,
        WIDTH,
        HEIGHT,
        level_lines(scale, [(value, short_float(value)) for value in marks], LEFT, WIDTH - RIGHT),
        _bands(axis, faults),
        element("path", {"class": "f-idle", "d": area(axis.edges, [scale.at(v) for v in paid], axis.ground)}),
        element("path", {"class": "f-busy", "d": area(axis.edges, [scale.at(v) for v in busy], axis.ground)}),
        element("path", {"class": "line s-ink", "d": stairs(axis.edges, [scale.at(v) for v in everything])}),
        axis.labels,
    )
    key = legend([(stroke("line s-ink"), "all"), (swatch("f-idle"), "GPUs, idle"), (swatch("f-busy"), "GPUs, busy")])
    return figure("Cost, dollars per hour", told, drawn, key)


def _bands(axis: _Axis, faults: Sequence[Fault]) -> Markup | None:
    """Faults behind a chart: a band, dashed at its ends, with the number it has in the list of faults."""
    if not faults:
        return None
    parts = []
    for index, fault in enumerate(faults, 1):
        left = axis.scale.at(fault.start_s)
        right = axis.scale.at(axis.scale.high if fault.end_s is None else fault.end_s)
        box = {"x": number(left), "y": number(TOP), "width": number(right - left), "height": number(axis.ground - TOP)}
        ends = (
            f"M{number(left)} {number(TOP)}V{number(axis.ground)}M{number(right)} {number(TOP)}V{number(axis.ground)}"
        )
        parts += [
            element("rect", {"class": "fault", **box}, element("title", None, f"{fault.label}: {fault.what}")),
            element("path", {"class": "faultline", "d": ends}),
            words((left + right) / 2, TOP + 11, str(index), "mid"),
        ]
    return element("g", None, *parts)


def _rate(amount: float, per: float) -> float:
    return amount / per if per else 0.0
