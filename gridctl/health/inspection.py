"""One site on one screen: its state and why, its engines, what is routed there, what changed, what happens next.

Must not gather or render. Without a running orchestrator the same screen shows what is declared and what changed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from gridctl.errors import NotFoundError, did_you_mean
from gridctl.health.facts import HOUR_S, Engine, Facts
from gridctl.health.panic import AVAILABLE
from gridctl.health.problems import budgets_of, next_text, problems_of
from gridctl.health.reports import (
    Attainment,
    EngineHealth,
    Happened,
    ProbeRecord,
    Recent,
    RecentRequest,
    Routed,
    SiteCluster,
    SiteReport,
)
from gridctl.health.status import site_state
from gridctl.health.words import ALL_PPM, badness
from gridctl.registry import Event
from gridctl.resources import Cluster, Resource, Site
from gridctl.signals.rows import NOT_REPORTED, TELEMETRY_STATES
from gridctl.signals.series import Key
from gridctl.units import NS_PER_S

WINDOWS_S = (300.0, HOUR_S, 30 * 24 * HOUR_S)
NEAR_NS = 30 * 60 * NS_PER_S
SHOWN_PROBES = 20
SHOWN_WORST = 5
RECENT_S = 600.0
"""Of how long ago requests are looked at one by one: of as many as workers remember."""


class Direction(NamedTuple):
    """Where a request of a workload from the site would go now, and why; as a dry run of the router tells it."""

    goes_to: str | None
    why: str


def site_report(
    facts: Facts,
    name: str,
    events: Sequence[Event] = (),
    directions: Mapping[str, Direction] | None = None,
    recent: Sequence[Recent] = (),
) -> SiteReport:
    """The screen of a site of a running orchestrator. `events` are the registry's, of any kind and time; `recent` is
    what its workers remember.

    Raises: NotFoundError with the nearest name."""
    site = _site(facts.resources, name)
    here = [engine for engine in facts.engines if engine.site == name]
    engines = tuple(_engine(facts, engine) for engine in here)
    state = site_state(site.spec.state, [engine.state for engine in engines])
    worst = max(engines, key=lambda one: (badness(one.state), -one.since_unix_ns), default=None)
    every = facts.series.between(Key("", name), HOUR_S)
    problems = problems_of(facts, budgets_of(facts))
    moments = [facts.now_unix_ns, *(engine.since_unix_ns for engine in engines if engine.state not in AVAILABLE)]
    return SiteReport(
        name=name,
        at_unix_ns=facts.now_unix_ns,
        is_live=True,
        tier=site.spec.tier,
        city=site.spec.city,
        country=site.spec.country,
        jurisdiction=site.spec.jurisdiction,
        declared_state=site.spec.state,
        state=state,
        cause=_cause(site, worst),
        since_unix_ns=worst.since_unix_ns if worst is not None and site.spec.state == "active" else None,
        next=worst.next if worst is not None else "",
        requests=every.valid + every.excluded,
        traffic_share=facts.traffic_share([name]),
        clusters=_clusters(facts.resources, name),
        engines=engines,
        routed=tuple(_routed(facts, name, directions or {}, recent)),
        events=happened(events, name, facts.resources, moments),
        problems=tuple(one for one in problems if name in one.affects.sites),
        worst=_worst(recent),
        recent_s=max(0, facts.now_ns - max(one.reaches_ns for one in recent)) / NS_PER_S if recent else None,
    )


def declared_site_report(
    resources: Sequence[Resource], name: str, at_unix_ns: int, events: Sequence[Event] = ()
) -> SiteReport:
    """The same screen when no orchestrator runs. Raises: NotFoundError with the nearest name."""
    site = _site(resources, name)
    return SiteReport(
        name=name,
        at_unix_ns=at_unix_ns,
        is_live=False,
        tier=site.spec.tier,
        city=site.spec.city,
        country=site.spec.country,
        jurisdiction=site.spec.jurisdiction,
        declared_state=site.spec.state,
        state=site_state(site.spec.state, []),
        cause=_cause(site, None) if site.spec.state != "active" else "no orchestrator runs, so nothing observes it",
        since_unix_ns=None,
        next="",
        requests=None,
        traffic_share=None,
        clusters=_clusters(resources, name),
        engines=(),
        routed=(),
        events=happened(events, name, resources, [at_unix_ns]),
        problems=(),
    )


def happened(
    events: Sequence[Event], site: str, resources: Sequence[Resource], moments: Sequence[int]
) -> tuple[Happened, ...]:
    """Changes within half an hour of one of the moments, and the last five of the site and its clusters whenever they
    were; oldest first. `moments` are Unix nanoseconds: now, and when things went wrong."""
    own = {("Site", site), *(("Cluster", one.name) for one in _of_site(resources, site))}
    here = [event for event in events if (event.kind, event.name) in own]
    near = [event for event in events if any(abs(event.time_ns - moment) <= NEAR_NS for moment in moments)]
    chosen = {event.version: event for event in (*near[-10:], *here[-5:])}
    return tuple(
        Happened(
            at_unix_ns=event.time_ns,
            actor=event.actor,
            action=event.action,
            about=f"{event.kind.lower()}/{event.name}",
            cause=event.cause,
            fields=tuple(change.path for change in event.diff) if event.action == "updated" else (),
            is_here=(event.kind, event.name) in own,
        )
        for _, event in sorted(chosen.items())
    )


def _engine(facts: Facts, engine: Engine) -> EngineHealth:
    condition, scraped = facts.conditions[engine.row], facts.board.scraped(engine.row)
    slots = facts.board.slots[:, engine.row]
    capacity, used = scraped.kv_capacity_tokens, scraped.kv_used_tokens
    return EngineHealth(
        row=engine.row,
        cluster=engine.cluster,
        replica=engine.replica,
        model=engine.model,
        variant=engine.variant,
        url=engine.url,
        state=condition.state,
        since_unix_ns=facts.unix_ns(condition.since_ns),
        cause=condition.cause,
        next=next_text(condition, facts.now_ns),
        admit_share=int(facts.board.engines[engine.row]["admit_ppm"]) / ALL_PPM,
        is_flapping=condition.flapping,
        ejections=condition.ejections,
        in_flight=int(slots["in_flight"].sum()),
        requests=int(slots["requests"].sum()),
        failures=int(slots["failures"].sum()),
        telemetry_state=TELEMETRY_STATES[scraped.telemetry_state],
        telemetry_age_s=max(0, facts.now_ns - scraped.scrape_ns) / NS_PER_S if scraped.scrape_ns else None,
        running=_reported(scraped.running),
        waiting=_reported(scraped.waiting),
        kv_share=used / capacity if capacity > 0 and used != NOT_REPORTED else None,
        prefix_hit_share=None if scraped.prefix_hit_ppm == NOT_REPORTED else scraped.prefix_hit_ppm / ALL_PPM,
        probes=tuple(
            ProbeRecord(
                at_unix_ns=facts.unix_ns(one.at_ns), cause=one.cause, detail=one.detail, latency_ms=one.latency_ms
            )
            for one in list(facts.outcomes.get(engine.row, ()))[-SHOWN_PROBES:]
        ),
    )


def _reported(value: int) -> int | None:
    return None if value == NOT_REPORTED else value


def _worst(recent: Sequence[Recent]) -> tuple[RecentRequest, ...]:
    """Of all workers' worst the worst: those that count as bad first, then who waited longest."""

    def order(one: RecentRequest) -> tuple[bool, float]:
        return one.verdict != "bad", -(one.ttft_ms if one.ttft_ms is not None else one.e2e_ms or 0.0)

    return tuple(sorted((one for worker in recent for one in worker.worst), key=order)[:SHOWN_WORST])


def _routed(
    facts: Facts, site: str, directions: Mapping[str, Direction], recent: Sequence[Recent] = ()
) -> list[Routed]:
    """Workloads that came here in the last hour, or may, the busiest first."""
    models = {engine.model for engine in facts.engines if engine.site == site}
    rows = []
    for name, workload in facts.workloads().items():
        here = facts.series.between(Key(name, site), HOUR_S)
        every = facts.series.between(Key(name), HOUR_S)
        requests, total = here.valid + here.excluded, every.valid + every.excluded
        if not requests and not models & set(workload.spec.models):
            continue
        direction = directions.get(name, Direction(None, ""))
        remembered = [one for worker in recent for one in worker.routed if one.workload == name]
        rows.append(
            Routed(
                workload=name,
                requests=requests,
                share=requests / total if total else None,
                target=workload.spec.attainment,
                attainments=tuple(_attainment(facts, Key(name, site), window_s) for window_s in WINDOWS_S),
                goes_to=direction.goes_to,
                why=direction.why,
                recent=sum(one.requests for one in remembered),
                because=_summed(one.because for one in remembered),
                origins=_summed(one.origins for one in remembered),
            )
        )
    return sorted(rows, key=lambda row: (-row.requests, row.workload))


def _summed(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """All counts together, the most first."""
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return dict(sorted(total.items(), key=lambda pair: (-pair[1], pair[0])))


def _attainment(facts: Facts, key: Key, window_s: float) -> Attainment:
    count = facts.count(key, window_s)
    attained = None if not count.valid else 1 - count.bad / count.valid
    return Attainment(window_s=window_s, covered_s=count.covered_s, valid=count.valid, bad=count.bad, attained=attained)


def _cause(site: Site, worst: EngineHealth | None) -> str:
    if site.spec.state != "active":
        return f"an operator set the site to {site.spec.state}"
    if worst is None:
        return "none of its engines has an endpoint, so nothing can be observed"
    return f"{worst.cluster}: {worst.cause}"


def _clusters(resources: Sequence[Resource], site: str) -> tuple[SiteCluster, ...]:
    return tuple(
        SiteCluster(
            name=one.name,
            state=one.spec.state,
            gpu=one.spec.gpu,
            gpus=one.spec.gpus,
            variants=tuple(deployment.variant for deployment in one.spec.deployments),
            engines=sum(len(deployment.endpoints) for deployment in one.spec.deployments) or len(one.spec.endpoints),
        )
        for one in _of_site(resources, site)
    )


def _of_site(resources: Sequence[Resource], site: str) -> list[Cluster]:
    return [one for one in resources if isinstance(one, Cluster) and one.spec.site == site]


def _site(resources: Sequence[Resource], name: str) -> Site:
    sites = {one.name: one for one in resources if isinstance(one, Site)}
    if name in sites:
        return sites[name]
    near = did_you_mean(name, sites)
    raise NotFoundError(
        f"there is no site {name[:64]!r}",
        fix=f"did you mean {near}?" if near else "see what there is: gridctl site list",
    )
