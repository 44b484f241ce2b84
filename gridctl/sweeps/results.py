"""Results: what a sweep came to, as rows in the order of its scenarios; and one number over two axes.

Decides what a row's ranges and marks are computed from: numbers are the plain replay's, ranges are of the draws, as in
the tables of a run (`accounts.intervals`). The same results make the same rows, whatever the order they came in.
"""

from __future__ import annotations

from collections.abc import Sequence

from gridctl.accounts.intervals import rank
from gridctl.accounts.pareto import Numbers, SweepRow, front
from gridctl.accounts.tables import EVERYTHING
from gridctl.errors import NotFoundError, did_you_mean
from gridctl.sweeps.sweeping import Planned, Sweep

Bounds = tuple[float | None, float | None]


def rows_of(sweep: Sweep, workload: str | None = None) -> list[SweepRow]:
    """A row per scenario; numbers of one workload where one is named. Raises NotFoundError when it has none."""
    scope = EVERYTHING if workload is None else workload
    if workload is not None:
        _check_workload(sweep, workload)
    plan = sweep.plan
    numbers = {
        draw: [_numbers(sweep, scenario, draw, scope) for scenario in plan.scenarios] for draw in range(plan.seeds)
    }
    fronts = {
        draw: front([_point(one) for one in found]) for draw, found in numbers.items()
    }  # a scenario that is missing a draw is on no front there
    rows = []
    for index, scenario in enumerate(plan.scenarios):
        made = [draw for draw in range(plan.seeds) if numbers[draw][index] is not None]
        rows.append(_row(sweep, scenario, index, numbers, fronts, made))
    return rows


def _row(
    sweep: Sweep,
    scenario: Planned,
    index: int,
    numbers: dict[int, list[Numbers | None]],
    fronts: dict[int, list[bool]],
    made: Sequence[int],
) -> SweepRow:
    plain = sweep.results.get((scenario.key, 0))
    drawn = [found for draw in made if draw and (found := numbers[draw][index]) is not None]
    usd_low, usd_high = _range([one.usd_per_mtok_goodput for one in drawn])
    attained_low, attained_high = _range([one.attainment for one in drawn])
    return SweepRow(
        scenario=scenario.number,
        values=scenario.values,
        state="missing" if plain is None else "invalid" if plain.reason else "done",
        reason=plain.reason if plain is not None else "",
        numbers=numbers[0][index],
        on_front=fronts[0][index],
        replays=len(made),
        front_share=sum(fronts[draw][index] for draw in made) / len(made) if len(made) > 1 else None,
        usd_per_mtok_goodput_low=usd_low,
        usd_per_mtok_goodput_high=usd_high,
        attainment_low=attained_low,
        attainment_high=attained_high,
        digest=plain.digest if plain is not None else "",
    )


def _numbers(sweep: Sweep, scenario: Planned, draw: int, scope: str) -> Numbers | None:
    result = sweep.results.get((scenario.key, draw))
    return result.numbers.get(scope) if result is not None else None


def _point(numbers: Numbers | None) -> Bounds | None:
    return (numbers.usd_per_mtok_goodput, numbers.attainment) if numbers is not None else None


def _range(values: Sequence[float | None]) -> Bounds:
    """Between which values the draws lie; nothing where one has none."""
    known = sorted(value for value in values if value is not None)
    if not known or len(known) < len(values):
        return None, None
    cut = rank(len(known)) - 1
    return known[cut], known[len(known) - 1 - cut]


def _check_workload(sweep: Sweep, workload: str) -> None:
    known = sorted({name for result in sweep.results.values() for name in result.numbers} - {EVERYTHING})
    if workload not in known:
        near = did_you_mean(workload, known)
        raise NotFoundError(
            f"sweep {sweep.plan.name} has no requests of workload {workload}",
            where="--workload",
            fix=f"did you mean {near}?" if near else f"one of: {', '.join(known)}",
        )
