"""The RUN argument shared by commands that read a run: a name, completed from the grid, or the latest run.

Decides only which run is meant; loading it is the orchestrator's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from gridctl.errors import NotFoundError

if TYPE_CHECKING:
    from gridctl.accounts.intervals import Ensemble
    from gridctl.accounts.rows import Run


def complete_run(incomplete: str) -> list[str]:
    """Names of runs that start with `incomplete`; none when there is no grid to ask."""
    from gridctl.errors import GridctlError
    from gridctl.orchestrator.context import current_grid

    try:
        return [name for name in current_grid().open_runs().list() if name.startswith(incomplete)]
    except (GridctlError, OSError):
        return []


RunArgument = Annotated[
    str | None,
    typer.Argument(metavar="[RUN]", help="A run's name; the latest run when left out.", autocompletion=complete_run),
]


def read_run(name: str | None) -> Run:
    """The run of that name, or the latest.

    Raises: NotFoundError when there is no such run, or none at all.
    """
    from gridctl.orchestrator.runs import load_run

    if name is None:
        from gridctl.orchestrator.context import current_grid

        name = current_grid().open_runs().latest()
        if name is None:
            raise NotFoundError("this grid has no runs yet", fix="gridctl replay run TRACE")
    return load_run(name)


def ensemble_of(run: Run) -> Ensemble | None:
    """The draws of a run. Draws that cannot be read leave the run as if it had none, and a note says so."""
    from gridctl.cli.output import note
    from gridctl.errors import StoreError
    from gridctl.orchestrator.context import current_grid
    from gridctl.orchestrator.plan import load_ensemble

    try:
        return load_ensemble(run.info, current_grid())
    except StoreError as error:
        note(f"without ranges: {error.what}; {error.fix}")
        return None


def comma_list(text: str) -> list[str]:
    """`a,b` as its words.

    >>> comma_list("workload, tier")
    ['workload', 'tier']
    """
    return [word.strip() for word in text.split(",") if word.strip()]


PhaseOption = Annotated[
    str | None,
    typer.Option(
        "--phase",
        metavar="PHASE",
        help="Only what arrived before, during or after the run's faults.",
        autocompletion=lambda: ["before", "during", "after"],
    ),
]


def phase_of(run: Run, phase: str | None, faults_of: Run | None = None) -> Run:
    """The requests of a phase of the run's faults, or of those of another run; the run itself without a phase."""
    if phase is None:
        return run
    from gridctl.accounts.phased import phased
    from gridctl.cli.output import note

    part = phased(run, phase, faults_of)
    lasted = part.info.window_ns / 1e9
    note(f"{phase} the faults: {len(part.rows):,} of {len(run.rows):,} requests of {run.info.name}, {lasted:,.0f} s")
    return part
