"""`gridctl down`: end the orchestrator of this grid."""

from __future__ import annotations

from typing import Annotated

import typer

from gridctl.cli.amounts import seconds_of
from gridctl.cli.options import DryRunOption
from gridctl.cli.output import note


def command(
    grace: Annotated[
        str | None, typer.Option(metavar="TIME", help="What requests under way get; what up was given otherwise.")
    ] = None,
    now: Annotated[bool, typer.Option("--now", help="End now: requests under way are cut off.")] = False,
    dry_run: DryRunOption = False,
) -> None:
    """Stop the orchestrator of this grid, letting requests under way finish. None running is no failure.

    Example:
      gridctl down --grace 2m
    """
    from gridctl.orchestrator.context import current_grid
    from gridctl.orchestrator.live import down, running, stop_elsewhere

    home = current_grid()
    grace_s = 0.0 if now else seconds_of(grace, "--grace") if grace is not None else None
    if home.remote is not None:
        stopping = stop_elsewhere(home, grace_s, dry_run=dry_run)
        note(f"{'would stop' if dry_run else 'stopping'} process {stopping} at {home.remote.url}")
        return
    if dry_run:
        found = running(home)
        note("no orchestrator runs for this grid" if found is None else f"would stop process {found.pid}")
        return
    ended = down(home, grace_s=grace_s, now=now, say=note)
    note("no orchestrator runs for this grid" if ended is None else f"stopped process {ended.pid}")
