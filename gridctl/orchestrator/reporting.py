"""The report service: what a grid knows of a run beyond its rows: where its places are, its gates, how it was made.

Decides where each comes from; computing and drawing are the report's. Places are looked up in the grid as it is now, so
a site deleted since the replay has none.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gridctl.errors import InputError, NotFoundError
from gridctl.orchestrator.context import GridHome
from gridctl.resources import Gate, Site

if TYPE_CHECKING:
    from gridctl.accounts.gate_report import GateReport
    from gridctl.accounts.rows import Run, RunInfo
    from gridctl.geography.place import Place


def places_of(info: RunInfo, home: GridHome) -> dict[str, Place]:
    """Where the run's origins and sites are, by name; what cannot be found is left out."""
    from gridctl.geography.place import place_of, resolve_place

    with home.open_registry() as registry:
        sites = {one.resource.name: one.resource for one in registry.list(Site) if isinstance(one.resource, Site)}
    names = {origin.name for origin in info.origins} | {engine.site for engine in info.engines if engine.site}
    places = {}
    for name in sorted(names):
        if name in sites:
            places[name] = place_of(sites[name])
            continue
        try:
            places[name] = resolve_place(name, sites)
        except (NotFoundError, InputError):
            continue
    return places


def gates_of(run: Run, expressions: Sequence[str], baseline: str | None, home: GridHome) -> GateReport | None:
    """Gates held against the run: those given, else the grid's own; None when there are none.

    Raises: InputError for gates that are wrong on paper, NotFoundError for an unknown baseline."""
    if not expressions:
        with home.open_registry() as registry:
            if not registry.names(Gate):
                return None
    from gridctl.orchestrator.gating import check_gates, hold, read_gates

    gates = read_gates(expressions, home)
    if not expressions and baseline is None:  # nobody asked for those of the grid that need one
        gates = [gate for gate in gates if gate.spec.baseline is None]
    if not gates:
        return None
    check_gates(gates, baseline, home, None)
    return hold(gates, run, baseline, home)


def commands_of(info: RunInfo, beside: str | None) -> tuple[str, ...]:
    """The commands that make the run and its report again, on a grid that is the same."""
    run, policy = shlex.quote(info.name), shlex.quote(info.policy)
    trace = shlex.quote(info.trace)
    compare = f" --compare {shlex.quote(beside)}" if beside else ""
    return (
        f"gridctl replay run {trace} --name {run} --policy {policy} --seed {info.seed} --replace",
        f"gridctl report {run}{compare} --html {shlex.quote(f'{info.name}.html')}",
    )
