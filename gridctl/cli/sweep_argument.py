"""The SWEEP argument and the workload option shared by commands that read a sweep.

Decides only which sweep is meant: a name, completed from the grid, or the latest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from gridctl.errors import NotFoundError

if TYPE_CHECKING:
    from gridctl.sweeps.sweeping import Sweep


def complete_sweep(incomplete: str) -> list[str]:
    """Names of sweeps that start with `incomplete`; none when there is no grid to ask."""
    from gridctl.errors import GridctlError
    from gridctl.orchestrator.context import current_grid

    try:
        return [name for name in current_grid().open_sweeps().list() if name.startswith(incomplete)]
    except (GridctlError, OSError):
        return []


SweepArgument = Annotated[
    str | None,
    typer.Argument(metavar="[SWEEP]", help="A sweep's name; the latest when left out.", autocompletion=complete_sweep),
]
WorkloadOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="Numbers and front of this workload's requests alone.")
]


def read_sweep(name: str | None) -> Sweep:
    """The sweep of that name, or the latest."""
    from gridctl.orchestrator.context import current_grid
    from gridctl.sweeps.sweeping import load_sweep

    home = current_grid()
    wanted = name or home.open_sweeps().latest()
    if wanted is None:
        raise NotFoundError("this grid has no sweeps yet", fix="gridctl sweep run FILE")
    return load_sweep(home, wanted)
