"""Drawing: the draws of a run, opened so that any number of them can be looked up.

Decides which requests of draws belong to a run's draws: those whose digest the draw has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gridctl.orchestrator.context import GridHome

if TYPE_CHECKING:
    from gridctl.accounts.drawn import Drawn
    from gridctl.accounts.rows import Run


def drawn_of(run: Run, home: GridHome) -> Drawn | None:
    """A run's draws, with the requests of those whose requests were kept; None where it has no draws."""
    if home.open_draws().plan(run.info.name) is None:
        return None  # most runs: what reads draws takes the whole replay engine to import
    from gridctl.accounts.drawn import Drawn
    from gridctl.accounts.measures import Measures
    from gridctl.orchestrator.plan import load_ensemble
    from gridctl.orchestrator.runs import load_run
    from gridctl.orchestrator.scenario import draw_name

    ensemble = load_ensemble(run.info, home)
    if ensemble is None:
        return None
    there = set(home.open_runs().list())
    kept = {
        draw.draw: found
        for draw in ensemble.draws
        if draw_name(run.info.name, draw.draw) in there
        and (found := load_run(draw_name(run.info.name, draw.draw), home)).info.digest == draw.digest
    }
    return Drawn(ensemble, {number: Measures(found) for number, found in kept.items()})
