"""Origins: where the requests of a trace come from, as places. A crowd stands where its origin stands."""

from __future__ import annotations

from gridctl.accounts.facts import Origin
from gridctl.errors import InputError, NotFoundError
from gridctl.geography.place import Place, place_of, resolve_place
from gridctl.geography.regions import jurisdiction_of, region_of
from gridctl.grid.view import GridView, jurisdiction_at
from gridctl.traces.crowd import known_origin
from gridctl.traces.trace import Traffic


def origins_of(view: GridView, traffic: Traffic) -> tuple[Origin, ...]:
    """Where requests of a trace come from. Raises InputError for what is nowhere."""
    return resolve_origins(view, traffic)[1]


def resolve_origins(view: GridView, trace: Traffic) -> tuple[list[Place], tuple[Origin, ...]]:
    """Where each origin name of the trace is."""
    places: list[Place] = []
    origins: list[Origin] = []
    for name, given in ((known_origin(name), name) for name in trace.origins):
        site = view.sites.get(name)
        try:
            place = place_of(site) if site is not None else _place_named(name, view, trace)
        except NotFoundError as error:
            raise InputError(
                f"the trace names an origin: {error.what}", where=f"trace {trace.name}", fix=error.fix
            ) from error
        jurisdiction = jurisdiction_at(site) if site is not None else jurisdiction_of(place.country)
        places.append(place)
        origins.append(
            Origin(name=given, country=place.country, region=region_of(place.country), jurisdiction=jurisdiction)
        )
    return places, tuple(origins)


def _place_named(name: str, view: GridView, trace: Traffic) -> Place:
    try:
        return resolve_place(name, view.sites)
    except NotFoundError as error:
        raise InputError(
            f"a request comes from {name}, which is neither a site, a city nor lat,lon",
            where=f"trace {trace.name}",
            fix=error.fix,
        ) from None
