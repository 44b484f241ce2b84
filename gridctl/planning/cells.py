"""Cells: a workload in a region, made small: a few places its demand comes from, and what an engine is and costs there.

Decides what "edge" and "core" are for a break-even. Edge: an engine at every place, more dealt out evenly. Core: all
engines at one site, the same round trip from every place. The same workload, requests, router and twin in both; the
GPU and its price may differ. Where the workload's jurisdiction rule binds requests to their origin, a cell keeps to the
places of the jurisdiction (or country) with the largest demand, and its core stands there too, so that only distance
and price are compared; whether such a core exists today is said in a note.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from gridctl.errors import InputError
from gridctl.geography.place import place_of
from gridctl.geography.regions import region_of
from gridctl.grid.view import GridView, jurisdiction_at
from gridctl.network.overrides import Overrides
from gridctl.planning.offers import Offer, Prices, check_gpu, engine_offers
from gridctl.resources import Link, LinkSpec, Metadata, Resource, Site, Workload
from gridctl.traces.trace import Trace

CORE = "plan-core"
FARTHEST_MS = 400.0
USUAL_GPU = "rtx-pro-6000"
"""What is compared in a grid without clusters."""
ASSUMED_RTT_MS = 50.0
"""The round trip to the core of a grid without core sites."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What the user fixed; None is chosen from the grid."""

    places: int = 4
    edge_gpu: str | None = None
    core_gpu: str | None = None
    variant: str | None = None
    prices: str = "default"
    markup: float = 0.0


@dataclass(frozen=True, slots=True)
class Cell:
    """One workload in one region. `common` are the resources of every arrangement; `trace` is a number of the stage."""

    workload: Workload
    region: str
    places: tuple[Site, ...]
    weights: tuple[float, ...]
    common: tuple[Resource, ...]
    edge_offer: Offer
    core_offer: Offer
    edge_usd: float
    core_usd: float
    rtt_ms: float
    core_site: str
    load_rps: float
    trace: int
    notes: tuple[str, ...]

    @property
    def budget_ms(self) -> float:
        """Threshold of the tightest latency objective; of TPOT where there is no other."""
        latency = [one.threshold_ms for one in self.workload.spec.objectives if one.metric != "tpot_ms"]
        return min(latency) if latency else min(one.threshold_ms for one in self.workload.spec.objectives)

    @property
    def skew(self) -> float:
        """The largest place's share when all are alike, which is how the cell is cut."""
        return 1 / len(self.places)


def demand_by_site(view: GridView, trace: Trace | None) -> dict[str, dict[str, float]]:
    """Per workload, demand of every site: requests of the trace where there is one, else people served."""
    if trace is None:
        people = {site.name: float(site.spec.population) for site in view.sites.values() if site.spec.population > 0}
        people = people or {site.name: 1.0 for site in view.sites.values() if site.spec.tier != "core"}
        return dict.fromkeys(view.workloads, people)
    counts: dict[str, dict[str, float]] = {}
    width = len(trace.origins)
    pairs, numbers = np.unique(trace.workload.astype(np.int64) * width + trace.origin, return_counts=True)
    for pair, number in zip(pairs.tolist(), numbers.tolist(), strict=True):
        name, origin = trace.workloads[pair // width], trace.origins[pair % width]
        if origin in view.sites:
            counts.setdefault(name, {})[origin] = float(number)
    return counts


def make_cell(
    view: GridView,
    workload: Workload,
    region: str,
    demand: Mapping[str, float],
    wish: Wish,
    load_rps: float,
    trace: int,
) -> Cell | None:
    """The cell, or None when nobody of the region asks for the workload.

    Raises: InputError when no GPU holds a variant that is good enough, or a price is missing."""
    here = [
        (amount, name)
        for name, amount in demand.items()
        if amount > 0 and region_of(view.sites[name].spec.country) == region
    ]
    ranked = [view.sites[name] for _, name in sorted(here, key=lambda one: (-one[0], one[1]))]
    lawful = _lawful_places(workload, ranked)
    if not lawful:
        return None
    places = lawful[: wish.places]
    edge_gpu, core_gpu = _gpus(view, wish)
    prices = Prices(view, wish.prices, wish.markup)
    edge_offer, core_offer = (_best_offer(view, workload, gpu, wish) for gpu in (edge_gpu, core_gpu))
    rtt_ms, core_site, notes = _nearest_core(view, workload, places, [demand[site.name] for site in places])
    stripped = tuple(_as_place(site) for site in places)
    names = {site.name for site in places}
    links = [one for one in view.links.values() if {one.spec.source, one.spec.target} <= names]
    return Cell(
        workload=workload,
        region=region,
        places=stripped,
        weights=tuple(demand[site.name] for site in places),
        common=(*stripped, _core_site(places), *links, *_shared(view, wish.prices), workload),
        edge_offer=edge_offer,
        core_offer=core_offer,
        edge_usd=prices.usd_in(edge_gpu, core=False),
        core_usd=prices.usd_in(core_gpu, core=True),
        rtt_ms=rtt_ms,
        core_site=core_site,
        load_rps=load_rps,
        trace=trace,
        notes=tuple(notes),
    )


def links_to_core(cell: Cell, rtt_ms: float) -> tuple[Link, ...]:
    """Every place as far from the core as that."""
    return tuple(
        Link(
            metadata=Metadata(name=f"{CORE}-{number}"),
            spec=LinkSpec(source=site.name, target=CORE, rtt_ms=rtt_ms),
        )
        for number, site in enumerate(cell.places)
    )


def skewed(cell: Cell, share: float) -> NDArray[np.float64]:
    """Shares of the places when the largest has `share` and the others are alike."""
    others = len(cell.places) - 1
    if not others:
        return np.ones(1)
    return np.array([share, *([(1 - share) / others] * others)])


def _lawful_places(workload: Workload, ranked: Sequence[Site]) -> list[Site]:
    """The sites whose demand and engines one arrangement may hold."""
    rule = workload.spec.jurisdiction
    if not ranked:
        return []
    first = ranked[0]
    if rule.rule == "same-country":
        return [site for site in ranked if site.spec.country == first.spec.country]
    if rule.rule == "same-jurisdiction":
        return [site for site in ranked if jurisdiction_at(site) == jurisdiction_at(first)]
    if rule.rule == "listed":
        return [site for site in ranked if site.spec.country in rule.allow or jurisdiction_at(site) in rule.allow]
    return list(ranked)


def _gpus(view: GridView, wish: Wish) -> tuple[str, str]:
    """The GPUs compared: those named, else the one most GPUs outside the core are of, in both arrangements."""
    for flag, name in (("--edge-gpu", wish.edge_gpu), ("--core-gpu", wish.core_gpu)):
        if name is not None:
            check_gpu(view, name, flag)
    outside: dict[str, int] = {}
    everywhere: dict[str, int] = {}
    for cluster in view.clusters.values():
        everywhere[cluster.spec.gpu] = everywhere.get(cluster.spec.gpu, 0) + cluster.spec.gpus
        site = view.sites.get(cluster.spec.site)
        if site is not None and site.spec.tier != "core":
            outside[cluster.spec.gpu] = outside.get(cluster.spec.gpu, 0) + cluster.spec.gpus
    counts = outside or everywhere
    usual = min(counts, key=lambda gpu: (-counts[gpu], gpu)) if counts else USUAL_GPU
    edge = wish.edge_gpu or usual
    return edge, wish.core_gpu or edge


def _best_offer(view: GridView, workload: Workload, gpu: str, wish: Wish) -> Offer:
    """The engine that serves the workload on the fewest GPUs, then with the fewest bytes to read."""
    spec = workload.spec
    offers = engine_offers(view, [gpu], spec.models)
    if wish.variant is not None:
        offers = [offer for offer in offers if offer.reference == wish.variant]
    good = [
        offer
        for offer in offers
        if spec.quality_floor == 0 or (offer.quality is not None and offer.quality >= spec.quality_floor)
    ]
    if not good:
        what = f"no variant of {', '.join(spec.models)} that reaches quality {spec.quality_floor:g} fits up to 8 {gpu}"
        if wish.variant is not None:
            what = f"{wish.variant} does not serve {workload.name} on up to 8 {gpu} at quality {spec.quality_floor:g}"
        raise InputError(what, where=f"workload {workload.name}", fix="name another GPU: --edge-gpu, --core-gpu")

    def weight(offer: Offer) -> tuple[int, int, str]:
        found = view.variant(offer.reference)
        assert found is not None, "offers are made of declared variants"
        return offer.tensor_parallel, found[0].spec.weight_bytes(found[1]), offer.reference

    return min(good, key=weight)


def _nearest_core(
    view: GridView, workload: Workload, places: Sequence[Site], weights: Sequence[float]
) -> tuple[float, str, list[str]]:
    """Demand-weighted round trip to the core site nearest in that sense, its name, and what must be said of it."""
    cores = [site for site in view.sites.values() if site.spec.tier == "core" and site.spec.state == "active"]
    if not cores:
        return ASSUMED_RTT_MS, "", [f"the grid has no core site: {ASSUMED_RTT_MS:g} ms to it are assumed"]
    lawful = [core for core in cores if _may_serve(workload, core, places[0])]
    notes = []
    if not lawful:
        notes.append("no core site may serve it under its jurisdiction rule: the round trip is to one that may not")
    overrides = Overrides(view.links.values())
    total = sum(weights)

    def weighted(core: Site) -> float:
        there = place_of(core)
        pairs = zip(places, weights, strict=True)
        return sum(amount * overrides.rtt_ms(place_of(site), there) for site, amount in pairs) / total

    nearest = min(lawful or cores, key=lambda core: (weighted(core), core.name))
    return min(FARTHEST_MS, round(max(1.0, weighted(nearest)), 1)), nearest.name, notes


def _may_serve(workload: Workload, core: Site, origin: Site) -> bool:
    rule = workload.spec.jurisdiction
    if rule.rule == "same-country":
        return core.spec.country == origin.spec.country
    if rule.rule == "same-jurisdiction":
        return jurisdiction_at(core) == jurisdiction_at(origin)
    return rule.rule == "any" or core.spec.country in rule.allow or jurisdiction_at(core) in rule.allow


def _as_place(site: Site) -> Site:
    """The site as a place of the edge, taking traffic, without functions."""
    spec = msgspec.structs.replace(site.spec, tier="edge", state="active", serverless=None)
    return msgspec.structs.replace(site, spec=spec)


def _core_site(places: Sequence[Site]) -> Site:
    """The core: under the law of the first place; its distance is what the links say."""
    first = places[0].spec
    spec = msgspec.structs.replace(first, tier="core", state="active", serverless=None, population=0)
    return Site(metadata=Metadata(name=CORE), spec=spec)


def _shared(view: GridView, book: str) -> list[Resource]:
    """Models, profiles, GPUs and the price book, without the fallback API: an arrangement stands on its own."""
    kept: list[Resource] = [*view.models.values(), *view.profiles.values(), *view.gpus.values()]
    if book in view.prices:
        found = view.prices[book]
        kept.append(msgspec.structs.replace(found, spec=msgspec.structs.replace(found.spec, fallback=None)))
    return kept
