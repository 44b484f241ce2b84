"""Demand: a trace made small enough for a program: requests a second by place and class at the busiest time.

A class is a workload and, where the trace says one, a model. Origins are merged into places around the busiest of them,
within a radius that grows until there are few enough places; origins that a jurisdiction rule tells apart are never
merged. The round trip from a place is its farthest member's, so merging can make a plan dearer, never too optimistic.
Rates are those of the workload's busiest window, spread over places as the whole trace is: peaks that places have at
different times are taken to coincide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gridctl.errors import InputError
from gridctl.geography.place import Place, place_of, resolve_place
from gridctl.geography.regions import jurisdiction_of
from gridctl.geography.sphere import arcs_km, unit_vector
from gridctl.grid.view import GridView, jurisdiction_at
from gridctl.network.estimate import RttField
from gridctl.network.overrides import Overrides
from gridctl.resources import Site, Workload
from gridctl.traces.trace import UNSAID, Trace
from gridctl.units import NS_PER_S

FIRST_RADIUS_KM = 25.0
GROWTH = 1.5
HALF_EARTH_KM = 20_100.0
MOST_PLACES = 600
PEAK_WINDOWS = 20
"""The busiest window is a twentieth of the trace, at least `LEAST_WINDOW_S`, so that it holds a crowd, not a clump."""
LEAST_WINDOW_S = 10.0


@dataclass(frozen=True, slots=True)
class DemandClass:
    """A workload, and the one model asked for (None: any that the workload accepts)."""

    workload: Workload
    model: str | None

    @property
    def models(self) -> tuple[str, ...]:
        """Models that may serve it."""
        spec = self.workload.spec
        return tuple(name for name in spec.models if self.model in (None, name))

    def __str__(self) -> str:
        return self.workload.name if self.model is None else f"{self.workload.name} ({self.model})"


@dataclass(frozen=True, slots=True)
class Zone:
    """Where a place is, in law."""

    country: str
    jurisdiction: str


@dataclass(frozen=True, slots=True)
class Demand:
    """Requests a second `rate[place, class]`, and which requests of the trace are whose."""

    classes: tuple[DemandClass, ...]
    names: tuple[str, ...]
    zones: tuple[Zone, ...]
    rate: NDArray[np.float64]
    members: tuple[tuple[Place, ...], ...]
    place_of_origin: NDArray[np.int64]
    class_of_request: NDArray[np.int64]

    def rows_of(self, number: int) -> NDArray[np.int64]:
        """Numbers of the requests of one class."""
        return np.flatnonzero(self.class_of_request == number).astype(np.int64)


def measure_demand(view: GridView, trace: Trace) -> Demand:
    """The demand of a complete trace (see `traces.overlay`).

    Raises: InputError for names that the grid does not know."""
    classes, class_of_request = _classes(view, trace)
    places, zones = _origins(view, trace)
    volume = np.bincount(trace.origin, minlength=len(places)).astype(np.float64)
    centre_of, centres = _merged(places, zones, volume, classes)
    number_of = {centre: number for number, centre in enumerate(centres)}
    place_of_origin = np.array([number_of.get(centre, -1) for centre in centre_of], np.int64)
    place = place_of_origin[trace.origin]
    counts = np.zeros((len(centres), len(classes)))
    np.add.at(counts, (place, class_of_request), 1.0)
    seconds = max(trace.duration_ns / NS_PER_S, 1.0)
    peak = np.array([_peak(trace.arrival_ns[class_of_request == number], seconds) for number in range(len(classes))])
    members: list[list[Place]] = [[] for _ in centres]
    for place_here, number in zip(places, place_of_origin.tolist(), strict=True):
        if number >= 0:
            members[number].append(place_here)
    return Demand(
        classes=classes,
        names=tuple(places[centre].name for centre in centres),
        zones=tuple(zones[centre] for centre in centres),
        rate=counts / seconds * peak,
        members=tuple(tuple(each) for each in members),
        place_of_origin=place_of_origin,
        class_of_request=class_of_request,
    )


def round_trips_ms(view: GridView, demand: Demand, sites: Sequence[Site]) -> NDArray[np.float64]:
    """From every place, its farthest member, to every site, shape `(places, sites)`. O(origins · sites)."""
    field = RttField([place_of(site) for site in sites], Overrides(view.links.values()))
    rows = [np.max([field.from_place(member) for member in members], axis=0) for members in demand.members]
    return np.array(rows).reshape(len(demand.members), len(sites)) / 1000.0


def lawful_sites(wanted: DemandClass, zones: Sequence[Zone], sites: Sequence[Site]) -> NDArray[np.bool_]:
    """Which sites the workload's jurisdiction rule lets serve requests from each zone, shape `(zones, sites)`; what is
    unknown is refused."""
    rule = wanted.workload.spec.jurisdiction
    countries = np.array([site.spec.country for site in sites])
    jurisdictions = np.array([jurisdiction_at(site) for site in sites])
    shape = len(zones), len(sites)
    if rule.rule == "any":
        return np.ones(shape, np.bool_)
    if rule.rule == "listed":
        allowed = np.isin(countries, rule.allow) | np.isin(jurisdictions, rule.allow)
        return np.broadcast_to(allowed, shape).copy()
    own = [zone.country if rule.rule == "same-country" else zone.jurisdiction for zone in zones]
    theirs = countries if rule.rule == "same-country" else jurisdictions
    return np.array([(theirs == code) & bool(code) for code in own], np.bool_).reshape(shape)


def _classes(view: GridView, trace: Trace) -> tuple[tuple[DemandClass, ...], NDArray[np.int64]]:
    width = len(trace.models) + 1
    pairs, of = np.unique(trace.workload.astype(np.int64) * width + trace.model + 1, return_inverse=True)
    found = []
    for pair in pairs.tolist():
        name = trace.workloads[pair // width]
        model = trace.models[pair % width - 1] if pair % width else None
        one = DemandClass(view.workloads[name], model)
        if not one.models:
            raise InputError(
                f"workload {name} does not accept model {model}, which the trace asks for",
                where=f"trace {trace.name}",
                fix=f"add {model} to spec.models of workload {name}",
            )
        found.append(one)
    return tuple(found), of.astype(np.int64)


def _origins(view: GridView, trace: Trace) -> tuple[list[Place], list[Zone]]:
    assert int(trace.origin.min()) != UNSAID, "the trace is overlaid first"
    places, zones = [], []
    for name in trace.origins:
        site = view.sites.get(name)
        place = place_of(site) if site is not None else resolve_place(name, view.sites)
        places.append(place)
        zones.append(Zone(place.country, jurisdiction_at(site) if site else jurisdiction_of(place.country)))
    return places, zones


def _merged(
    places: Sequence[Place], zones: Sequence[Zone], volume: NDArray[np.float64], classes: Sequence[DemandClass]
) -> tuple[list[int], list[int]]:
    """For each origin the origin it is merged into (−1: nobody there asks), and those in order of volume."""
    rules = {one.workload.spec.jurisdiction.rule for one in classes}

    def law(zone: Zone) -> tuple[str, str]:
        country = zone.country if "same-country" in rules else ""
        return country, zone.jurisdiction if "same-jurisdiction" in rules else ""

    asking = [index for index in np.argsort(-volume, kind="stable").tolist() if volume[index] > 0]
    vectors = np.array([unit_vector(place.lat, place.lon) for place in places]).reshape(len(places), 3).T
    laws = [law(zone) for zone in zones]
    most = max(MOST_PLACES, len({laws[index] for index in asking}))
    radius = FIRST_RADIUS_KM
    while True:
        centre_of = [-1] * len(places)
        centres: list[int] = []
        by_law: dict[tuple[str, str], list[int]] = {}
        for index in asking:
            here = by_law.setdefault(laws[index], [])
            if here:
                km = arcs_km(unit_vector(places[index].lat, places[index].lon), vectors[:, here])
                nearest = int(np.argmin(km))
                if km[nearest] <= radius:
                    centre_of[index] = here[nearest]
                    continue
            centre_of[index] = index
            here.append(index)
            centres.append(index)
            if len(centres) > most and radius < HALF_EARTH_KM:
                break
        else:
            return centre_of, centres
        radius *= GROWTH


def _peak(arrival_ns: NDArray[np.int64], seconds: float) -> float:
    """Requests of the busiest window over those of the mean one."""
    window = max(LEAST_WINDOW_S, seconds / PEAK_WINDOWS)
    if window >= seconds or not len(arrival_ns):
        return 1.0
    width = int(window * NS_PER_S)
    ends = np.searchsorted(arrival_ns, arrival_ns + width, side="left")
    busiest = int((ends - np.arange(len(arrival_ns))).max())
    return max(1.0, busiest / (len(arrival_ns) * window / seconds))
