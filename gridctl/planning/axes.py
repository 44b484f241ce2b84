"""Axes: what a break-even is searched along, and what the verdicts of several replays come to.

Decides the points of a curve, on which side of a break-even the edge pays, and when it is undecided: a point is decided
when all replays agree, which by chance alone six coins do once in 32 throws; a break-even, when the edge pays somewhere
on the axis in all replays or in none. Nothing is interpolated: a break-even is bracketed by replays and bisected.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median

from gridctl.accounts.plans import Axis, BreakEven, Breakpoint, Side, Verdict
from gridctl.planning.cells import Cell
from gridctl.planning.trial import Priced, Setting

AXES: tuple[Axis, ...] = ("rtt", "load", "budget", "skew")
UNITS: dict[Axis, str] = {"rtt": "ms", "load": "req/s", "budget": "ms", "skew": "share"}
PAYS_ABOVE: dict[Axis, bool] = {"rtt": True, "load": True, "budget": False, "skew": False}
"""Whether the edge gains as the axis rises: with distance to the core and with load; it loses as the promise gets
looser and the demand more uneven."""
RTTS_MS = (5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0)
FACTORS: dict[Axis, tuple[float, ...]] = {
    "load": (0.25, 0.5, 1.0, 2.0, 4.0, 8.0),
    "budget": (0.6, 0.8, 1.0, 1.25, 1.6, 2.0),
}
SKEWS = (0.4, 0.55, 0.7, 0.85)
STEPS = 5
"""Bisections: the bracket, at most a factor of 2 wide, narrows to 2 %."""
MARGIN = 0.01
"""The edge pays when it is cheaper by more than this; less is called the same."""

Judge = Callable[[float], Verdict]


@dataclass(frozen=True, slots=True)
class Crossing:
    """Where one replay's edge starts or ceases to pay; `value` None with `never`, `always` or `neither`."""

    verdict: Breakpoint
    value: float | None = None


def values_of(cell: Cell, axis: Axis) -> tuple[float, ...]:
    """The curve's points, rising; the cell's own value is one of them."""
    if axis == "rtt":
        return tuple(sorted({*RTTS_MS, cell.rtt_ms}))
    if axis == "skew":
        return tuple(sorted({cell.skew, *(skew for skew in SKEWS if skew > cell.skew)}))
    own = cell.load_rps if axis == "load" else cell.budget_ms
    return tuple(own * factor for factor in FACTORS[axis])


def own_setting(cell: Cell) -> Setting:
    """The cell as it is."""
    return Setting(cell.rtt_ms, cell.load_rps, 1.0, cell.skew)


def setting_at(cell: Cell, axis: Axis, value: float) -> Setting:
    """The cell with one thing changed."""
    own = own_setting(cell)
    if axis == "rtt":
        return replace(own, rtt_ms=value)
    if axis == "load":
        return replace(own, load_rps=value)
    return replace(own, budget=value / cell.budget_ms) if axis == "budget" else replace(own, skew=value)


def verdict_of(edge: Priced, core: Priced) -> Verdict:
    """Who is cheaper in one replay, by more than the margin."""
    if edge.usd is None or core.usd is None:
        if edge.usd is None and core.usd is None:
            return "neither"
        return "core" if edge.usd is None else "edge"
    if edge.usd < core.usd * (1 - MARGIN):
        return "edge"
    return "core" if edge.usd > core.usd * (1 + MARGIN) else "same"


def agreed(verdicts: Sequence[Verdict]) -> Verdict:
    """What all replays say; `undecided` when they differ.

    >>> agreed(["edge", "edge"]), agreed(["edge", "core"])
    ('edge', 'undecided')
    """
    return verdicts[0] if len(set(verdicts)) == 1 else "undecided"


def crossing(axis: Axis, values: Sequence[float], judge: Judge) -> Crossing:
    """Where the edge starts to pay for good, going to the side where it gains, bracketed on the curve and bisected."""
    ordered = list(values) if PAYS_ABOVE[axis] else list(reversed(values))
    verdicts = [judge(value) for value in ordered]
    if set(verdicts) == {"neither"}:
        return Crossing("neither")
    pays = [verdict == "edge" for verdict in verdicts]
    if axis == "budget":
        # Below some budget nobody keeps the promise: the edge pays between there and the break-even.
        while pays and verdicts[len(pays) - 1] == "neither":
            pays.pop()
    if not pays[-1]:
        return Crossing("never")
    if all(pays):
        return Crossing("always")
    last = max(index for index, paid in enumerate(pays) if not paid)
    against, paying = ordered[last], ordered[last + 1]
    for _ in range(STEPS):
        middle = (against + paying) / 2 if axis == "skew" else math.sqrt(against * paying)
        if judge(middle) == "edge":
            paying = middle
        else:
            against = middle
    return Crossing("from" if PAYS_ABOVE[axis] else "until", paying)


def pooled(axis: Axis, values: Sequence[float], crossings: Sequence[Crossing]) -> BreakEven:
    """One break-even from that of every replay, the plain one first."""
    kinds = {one.verdict for one in crossings}
    paying = sum(one.verdict not in ("never", "neither") for one in crossings)
    found = sorted(one.value for one in crossings if one.value is not None)
    if paying == len(crossings):
        # A replay in which it always pays has its break-even before the axis begins.
        verdict: Breakpoint = "always" if kinds == {"always"} else "from" if PAYS_ABOVE[axis] else "until"
        edge_of_axis = values[0] if PAYS_ABOVE[axis] else values[-1]
        found = sorted([*found, *([edge_of_axis] * (len(crossings) - len(found)))])
    elif paying:
        verdict = "undecided"
    else:
        verdict = "neither" if kinds == {"neither"} else "never"
    is_found = bool(found) and verdict in ("from", "until")
    return BreakEven(
        axis=axis,
        unit=UNITS[axis],
        verdict=verdict,
        value=median(found) if is_found else None,
        low=found[0] if found and verdict != "always" else None,
        high=found[-1] if found and verdict != "always" else None,
        least=values[0],
        most=values[-1],
        paying=paying,
        replays=len(crossings),
    )


def side_of(priced: Sequence[Priced]) -> Side:
    """One arrangement over its replays, the plain one first."""
    plain = priced[0]
    costs = [one.usd for one in priced if one.usd is not None]
    return Side(
        engines=plain.engines,
        gpus=plain.gpus,
        usd_per_mtok_goodput=plain.usd,
        usd_low=min(costs, default=None),
        usd_high=max(costs, default=None),
        busy_usd_per_mtok_goodput=plain.busy_usd,
        attainment=plain.attainment,
        meets=len(costs),
    )
