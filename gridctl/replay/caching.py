"""Caching: a replay whose grid answers repeats from caches at its sites, and engines answer the rest.

Decides where caches stand, which requests they answer, and what the rows of those say. The cache's own code decides
each request (`cache.rehearsal`) in the order of arrival; an answer can be given again once the engine that made it has
finished. That moment depends on the load, and the load on the hits, so both are found in turn: a replay without
caches, a rehearsal with its times, a replay of what missed, a rehearsal with the times of that, and a last replay.
Hits cost a look-up and the network; no engine sees them. An answer past its time goes out the same way, as does one
that a coin chose to be checked, and an engine is asked behind the client's back: that row has the cache's times and the
engine's work and dollars, so it saves no money. What is looked for by meaning and not found reaches its engine that
look later (`cachedrows`). Noise belongs to requests, so what is answered from a cache changes nobody's jitter.

Edge placement asks the nearest site with a cache (`cache_gib`) that may answer a request's origin; regional placement
the nearest of a larger tier. Each cache is alone: nothing is shared between sites.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from gridctl.accounts.facts import CacheFacts, EngineFacts, Origin
from gridctl.accounts.rows import RunRows, empty_rows
from gridctl.cache.embedders import open_embedder
from gridctl.cache.forecast import Stream
from gridctl.cache.population import expected_error
from gridctl.cache.rehearsal import HITS, SAVES, CacheRule, Got, Rehearsal
from gridctl.errors import InputError
from gridctl.geography.place import Place, place_of
from gridctl.geography.regions import region_of
from gridctl.grid.image import GridImage
from gridctl.grid.view import jurisdiction_at
from gridctl.network.estimate import rtt_matrix_us
from gridctl.replay.cachedrows import LEVELS, Answered, ends_ns, in_vain, merged
from gridctl.replay.declared import workload_specs
from gridctl.replay.faults import Fault
from gridctl.replay.origins import resolve_origins
from gridctl.replay.repeats import Telling, stream_of, told_by
from gridctl.replay.stage import Played, set_stage
from gridctl.resources import PolicySpec, Site, WorkloadSpec
from gridctl.traces.slicing import take
from gridctl.traces.trace import Trace
from gridctl.units import GIB

ROUNDS = 2
LARGER_TIERS = ("metro", "regional", "core")
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class CachePlan:
    """What caches do in a replay. `mode` is that of every workload, or each one's own."""

    mode: Literal["exact", "semantic", "as-declared"] = "as-declared"
    placement: Literal["edge", "regional"] = "edge"
    telling: Telling = dataclasses.field(default_factory=Telling)
    egress_usd_per_gb: float = 0.0


def replay_cached(
    keep: Callable[[RunRows], None],
    image: GridImage,
    traffic: Trace,
    policy: PolicySpec,
    plan: CachePlan,
    *,
    seed: int = 1,
    advanced: Callable[[int], None] = lambda requests: None,
    faults: Sequence[Fault] = (),
) -> tuple[Played, tuple[CacheFacts, ...], RunRows]:
    """As `replay.replay_into`, with caches in front; the rows of hits name engines of kind `cache` behind the others.
    Also what the caches did, by workload, and the rows of the same requests without caches. Everything is in memory.
    Raises InputError when no site has a cache or the trace tells nothing of repeats."""
    notes: list[str] = []
    specs = workload_specs(image.view, traffic)
    places, origins = resolve_origins(image.view, traffic)
    sites, nearest, rtt_us = _cache_sites(image, places, origins, specs, plan)
    where = nearest[traffic.origin, traffic.workload]
    walls = [origins[origin].jurisdiction for origin in traffic.origin.tolist()]
    _, has_meaning = told_by(traffic, plan.telling.evidence)
    rules = {name: _rule(spec, plan, has_meaning) for name, spec in specs.items()}
    is_semantic = any(rule.mode == "semantic" for rule in rules.values())
    stream, told, _ = stream_of(traffic, plan.telling, notes.append, walls, by_meaning=is_semantic)
    without, _ = _replayed(image, traffic, np.arange(len(traffic)), policy, seed, faults, _silent)
    ends = ends_ns(without)
    for turn in range(ROUNDS):
        got = _rehearsed(stream, where, sites, rules, ends, seed)
        missed = np.flatnonzero([one.level not in SAVES for one in got])
        tell = advanced if turn == ROUNDS - 1 else _silent
        rows, played = _replayed(image, traffic, missed, policy, seed, faults, tell)
        ends[missed] = ends_ns(rows)
    caches = [
        _facts(sites[site], level, plan)
        for site in range(len(sites))
        for level in LEVELS
    ]  # fmt: skip
    whole = merged(traffic, rows, missed, Answered(got, where, rtt_us, len(image.engines)), specs)
    advanced(len(traffic) - len(missed))
    keep(whole)
    last_ns = whole.arrival_ns + whole.rtt_ns // 2 + whole.queue_ns + whole.compute_ns + whole.decode_ns
    played = dataclasses.replace(
        played,
        engines=(*played.engines, *caches),
        origins=origins,
        workloads=specs,
        tenants=traffic.tenants,
        window_ns=max(1, played.window_ns, int(last_ns.max() - whole.arrival_ns[0])),
        notes=(*played.notes, *notes),
    )
    return played, _told(traffic, in_vain(got, whole), rules, told), without


def _silent(requests: int) -> None:
    """Tell nobody."""


def check_cached(image: GridImage, traffic: Trace, plan: CachePlan) -> None:
    """Raise InputError for what `replay_cached` would stumble over: no cache to ask, nothing that tells of repeats, an
    embedder that cannot be opened. Replays nothing."""
    specs = workload_specs(image.view, traffic)
    places, origins = resolve_origins(image.view, traffic)
    _cache_sites(image, places, origins, specs, plan)
    told, has_meaning = told_by(traffic, plan.telling.evidence)
    is_semantic = any(_rule(spec, plan, has_meaning).mode == "semantic" for spec in specs.values())
    if told == "text" and is_semantic:
        open_embedder(plan.telling.embedder)


def _rule(spec: WorkloadSpec, plan: CachePlan, has_meaning: bool) -> CacheRule:
    declared = spec.cache
    mode = declared.mode if plan.mode == "as-declared" else plan.mode
    if mode == "semantic" and not has_meaning:
        mode = "exact"
    return CacheRule(
        mode=mode,
        error_rate=declared.error_rate or 0.01,
        ttl_s=declared.ttl_s,
        stale_s=declared.stale_s,
        audit_budget=declared.audit_budget,
        admission=declared.admission,
    )


def _cache_sites(
    image: GridImage,
    places: Sequence[Place],
    origins: tuple[Origin, ...],
    specs: dict[str, WorkloadSpec],
    plan: CachePlan,
) -> tuple[list[Site], Ints, Ints]:
    """Sites with a cache; per origin and workload the number of the nearest that may answer, −1 for none; and the round
    trips, shape (origins, sites), in microseconds."""
    sites = [
        site
        for site in image.view.sites.values()
        if site.spec.cache_gib > 0 and site.spec.state == "active"
        and (plan.placement == "edge" or site.spec.tier in LARGER_TIERS)
    ]  # fmt: skip
    if not sites:
        larger = "" if plan.placement == "edge" else " of a tier above edge"
        raise InputError(
            f"no active site{larger} has a cache", where="--cache", fix="give sites cache_gib, or --cache off"
        )
    rtt_us = rtt_matrix_us(places, [place_of(site) for site in sites], image.view.links)
    nearest = np.full((len(origins), len(specs)), -1, np.int64)
    for column, spec in enumerate(specs.values()):
        for row, origin in enumerate(origins):
            legal = [number for number, site in enumerate(sites) if _may_answer(spec, origin, site)]
            if legal:
                nearest[row, column] = min(legal, key=lambda number: (int(rtt_us[row, number]), sites[number].name))
    return sites, nearest, rtt_us


def _may_answer(spec: WorkloadSpec, origin: Origin, site: Site) -> bool:
    """The workload's jurisdiction rule, fail-closed, for the place where an answer is kept."""
    rule, country, law = spec.jurisdiction, site.spec.country, jurisdiction_at(site)
    if rule.rule == "any":
        return True
    if rule.rule == "same-country":
        return bool(origin.country) and country == origin.country
    if rule.rule == "same-jurisdiction":
        return bool(origin.jurisdiction) and law == origin.jurisdiction
    return country in rule.allow or law in rule.allow


def _rehearsed(
    stream: Stream, where: Ints, sites: list[Site], rules: dict[str, CacheRule], answered: Ints, seed: int
) -> list[Got]:
    caches: dict[int, Rehearsal] = {}
    found = []
    for number, (at, asked) in enumerate(zip(stream.arrival_ns.tolist(), stream.asked, strict=True)):
        site = int(where[number])
        if site < 0:
            found.append(Got("bypass"))
            continue
        if site not in caches:
            caches[site] = Rehearsal(
                rules,
                int(sites[site].spec.cache_gib * GIB),
                lambda partition, rate, site=site: stream.remember((site, partition), rate, seed),  # type: ignore[misc]
                vector_bytes=stream.vector_bytes,
                seed=seed * 4096 + site,
            )
        found.append(caches[site].ask(asked, at, int(answered[number])))
    return found


def _replayed(
    image: GridImage,
    traffic: Trace,
    missed: Ints,
    policy: PolicySpec,
    seed: int,
    faults: Sequence[Fault],
    advanced: Callable[[int], None],
) -> tuple[RunRows, Played]:
    """The requests that engines answer; they keep the noise of their numbers in the whole trace."""
    from gridctl.replay.replay import played_out

    rows = empty_rows(len(missed))
    done = 0

    def keep(some: RunRows) -> None:
        nonlocal done
        for field in dataclasses.fields(RunRows):
            getattr(rows, field.name)[done : done + len(some)] = getattr(some, field.name)
        done += len(some)

    stage = set_stage(keep, image, take(traffic, missed), policy, seed=seed, faults=faults)
    if stage.noise is None:
        stage.noise = missed
    return rows, played_out(stage, advanced)


def _facts(site: Site, level: str, plan: CachePlan) -> EngineFacts:
    own = site.spec.egress_usd_per_gb
    return EngineFacts(
        kind="cache",
        cluster=site.name,
        site=site.name,
        tier=site.spec.tier,
        region=region_of(site.spec.country),
        model="cache",
        variant="shared" if level == "joined" else level,
        egress_usd_per_gb=plan.egress_usd_per_gb if own is None else own,
    )


def _told(
    traffic: Trace, got: list[Got], rules: dict[str, CacheRule], told: Literal["text", "keys", "blocks"]
) -> tuple[CacheFacts, ...]:
    facts = []
    for place, name in enumerate(traffic.workloads):
        own = [got[number] for number in np.flatnonzero(traffic.workload == place).tolist()]
        if not own or rules[name].mode == "off":
            continue
        levels = [one.level for one in own]
        hits = sum(level in HITS for level in levels)
        knows = traffic.answers is not None
        wrong = sum(one.is_wrong for one in own if one.level in HITS)
        low, high = expected_error(wrong, len(own))
        facts.append(
            CacheFacts(
                workload=name,
                mode=rules[name].mode,
                told_by=told,
                error_rate=rules[name].error_rate,
                requests=len(own),
                exact_hits=levels.count("exact"),
                shared_hits=levels.count("joined"),
                semantic_hits=levels.count("semantic"),
                stale_hits=levels.count("stale"),
                audits=levels.count("audit"),
                wrong=wrong if knows else None,
                wrong_per_request=wrong / len(own) if knows else None,
                wrong_per_request_low=low if knows else None,
                wrong_per_request_high=high if knows else None,
                wrong_per_hit=wrong / hits if knows and hits else None,
            )
        )
    return tuple(facts)


def with_savings(
    facts: tuple[CacheFacts, ...], saved: Mapping[str, tuple[float, float | None]]
) -> tuple[CacheFacts, ...]:
    """The facts with dollars saved and milliseconds saved a hit, by workload."""
    return tuple(
        msgspec.structs.replace(one, saved_usd=saved[one.workload][0], saved_ms_per_hit=saved[one.workload][1])
        for one in facts
    )
