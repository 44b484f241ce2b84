"""The report service: what a grid knows of a run beyond its rows: where its places are, its gates, how it was made.

Decides where each comes from; computing and drawing are the report's. Places are looked up in the grid as it is now, so
a site deleted since the replay has none.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gridctl.errors import NotFoundError
from gridctl.orchestrator.context import GridHome
from gridctl.resources import Gate, Site

if TYPE_CHECKING:
    from gridctl.accounts.facts import RunInfo
    from gridctl.accounts.gate_report import GateReport
    from gridctl.accounts.rows import Run
    from gridctl.geography.place import Place

MOST_UNKNOWN = 20
"""Names that are no city, after which no more are looked up: each costs a search for the nearest spelling."""


def places_of(info: RunInfo, home: GridHome) -> dict[str, Place]:
    """Where the run's origins and sites are, by name; what cannot be found is left out."""
    from gridctl.geography.place import Place, place_of

    with home.open_registry() as registry:
        sites = {one.resource.name: one.resource for one in registry.list(Site) if isinstance(one.resource, Site)}
    countries = {origin.name: origin.country for origin in info.origins}
    names = countries.keys() | {engine.site for engine in info.engines if engine.site}
    places = {name: place_of(sites[name]) for name in sorted(names & sites.keys())}
    unknown = 0
    for name in sorted(names - sites.keys()):
        found = _coordinates(name) or (_city(name) if unknown < MOST_UNKNOWN else None)
        if found is None:
            unknown += 1
        else:
            places[name] = Place(name, *found, countries.get(name, ""))
    return places


def _coordinates(name: str) -> tuple[float, float] | None:
    """The point that `48.86,2.35` names."""
    try:
        lat, lon = map(float, name.split(","))
    except ValueError:
        return None
    return (lat, lon) if -90 <= lat <= 90 and -180 <= lon <= 180 else None


def _city(name: str) -> tuple[float, float] | None:
    from gridctl.geography.cities import find_city

    try:
        city = find_city(name)
    except NotFoundError:
        return None
    return city.lat, city.lon


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


def commands_of(info: RunInfo, beside: str | None, seeds: int = 1) -> tuple[str, ...]:
    """The commands that make the run and its report again, on a grid that is the same.

    A run keeps its trace's name, not its file: `TRACE` stands for that."""
    run, policy = shlex.quote(info.name), shlex.quote(info.policy)
    words = ["gridctl replay run TRACE", f"--name {run} --policy {policy} --seed {info.seed}"]
    words += [f"--seeds {seeds}"] if seeds > 1 else []
    words += [] if info.centralized else ["--no-centralized"]
    compare = f" --compare {shlex.quote(beside)}" if beside else ""
    return (" ".join(words), f"gridctl report {run}{compare} --html {shlex.quote(f'{info.name}.html')}")
