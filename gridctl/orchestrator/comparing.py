"""The comparison service: a baseline and other runs of the grid, side by side.

Decides which runs are compared and what is refused; the numbers are the accounts'.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gridctl.errors import UsageError, did_you_mean
from gridctl.orchestrator.context import GridHome
from gridctl.orchestrator.drawing import drawn_of

if TYPE_CHECKING:
    from gridctl.accounts.contrast import Contrast
    from gridctl.accounts.movement import Movement, Place

Advanced = Callable[[int], None]
DIMENSIONS = ("workload", "tenant", "region", "origin")


@dataclass(frozen=True, slots=True)
class Compared:
    """Runs beside a baseline. `unpaired` says, for each run, why its requests are not the baseline's; "" if they are.
    `movements` has one for each run whose requests are."""

    baseline: str
    runs: tuple[str, ...]
    unpaired: dict[str, str]
    contrasts: tuple[Contrast, ...]
    movements: tuple[Movement, ...]


def _unheard(tables: int) -> None:
    return None


def compare_runs(
    names: Sequence[str],
    by: Sequence[str],
    place: Place,
    most_movers: int,
    home: GridHome,
    advanced: Advanced = _unheard,
) -> Compared:
    """The first run beside each of the others, in total and for each combination of `by`.

    `advanced` hears of every table done. Raises: UsageError for fewer than two runs, one named twice or an unknown
    dimension; NotFoundError.
    """
    from gridctl.accounts.contrast import Pair, scopes_by
    from gridctl.accounts.measures import Measures
    from gridctl.accounts.movement import movement
    from gridctl.accounts.pairing import unpaired
    from gridctl.orchestrator.runs import load_run

    if len(names) < 2 or len(set(names)) != len(names):
        raise UsageError("name two runs or more, each once", where="RUN", fix="gridctl replay compare BASELINE RUN")
    _check_dimensions(by)
    base, *others = [load_run(name, home) for name in names]
    measures = [Measures(run) for run in (base, *others)]
    why = {run.info.name: unpaired(base, run) for run in others}
    scopes = scopes_by(measures, by)
    base_drawn = drawn_of(base, home)
    contrasts: list[Contrast] = []
    for run, own in zip(others, measures[1:], strict=True):
        pair = Pair(measures[0], own, why[run.info.name], base_drawn, drawn_of(run, home))
        for scope in scopes:
            contrasts += pair.contrasts(scope)
            advanced(1)
    return Compared(
        baseline=base.info.name,
        runs=tuple(why),
        unpaired=why,
        contrasts=tuple(contrasts),
        movements=tuple(movement(base, run, place, most_movers) for run in others if not why[run.info.name]),
    )


def _check_dimensions(by: Sequence[str]) -> None:
    for word in by:
        if word not in DIMENSIONS:
            near = did_you_mean(word[:64], DIMENSIONS)
            raise UsageError(
                f"runs cannot be compared by {word[:64]!r}",
                where="--by",
                fix=f"did you mean {near}?" if near else f"choose among {', '.join(DIMENSIONS)}",
            )
    if len(set(by)) != len(by):
        raise UsageError("a dimension is named twice", where="--by", fix=f"--by {','.join(dict.fromkeys(by))}")
