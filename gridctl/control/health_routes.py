"""Routes of health: the first screen, sites, what happens now. The reports are `health`'s, their facts `Live`'s."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast, get_args

import msgspec

from gridctl.control import messages
from gridctl.control.admin import Call, Parameter, Route
from gridctl.errors import GridctlError, UsageError
from gridctl.health.facts import Facts
from gridctl.health.inspection import RECENT_S, Direction, site_report
from gridctl.health.panic import AVAILABLE
from gridctl.health.reports import HealthReport, Recent, SiteReport, TopBy, TopFrame
from gridctl.health.status import health_report, site_state
from gridctl.health.top import top_frame
from gridctl.health.words import State
from gridctl.registry import Event
from gridctl.signals.totals import read_totals

RECENT_EVENTS = 1_000
MOST_DIRECTIONS = 16
"""Workloads of which it is asked where their requests would go; each takes a decision."""
USUAL_WINDOW_S = 5
LONGEST_WINDOW_S = 60


async def _health(call: Call) -> object:
    return health_report(call.live.facts())


async def _sites(call: Call) -> object:
    facts = call.live.facts()
    found: dict[str, list[State]] = {}
    for engine in facts.engines:
        found.setdefault(engine.site, []).append(facts.conditions[engine.row].state)
    return messages.SiteSummaryList(
        items=tuple(
            _summary(facts, name, found.get(name, []))
            for name, site in sorted(facts.sites().items())
            if name in found or site.spec.state != "active"
        )
    )


def _summary(facts: Facts, name: str, states: list[State]) -> messages.SiteSummary:
    spec = facts.sites()[name].spec
    return messages.SiteSummary(
        name=name,
        tier=spec.tier,
        city=spec.city,
        country=spec.country,
        state=site_state(spec.state, states),
        engines=len(states),
        engines_available=sum(state in AVAILABLE for state in states),
        traffic_share=facts.traffic_share([name]),
    )


async def _site(call: Call) -> object:
    name = call.path["name"]
    report = site_report(call.live.facts(), name)
    events = await asyncio.to_thread(_recent, call)
    directions = {
        routed.workload: await _direction(call, name, routed.workload) for routed in report.routed[:MOST_DIRECTIONS]
    }
    found = await call.live.supervisor.recent(name, RECENT_S)
    # Facts as of now: the first question after an upgrade compiles for seconds, and ages would be short by them.
    recent = [msgspec.convert(one, Recent) for one in found]
    return site_report(call.live.facts(), name, events, directions, recent)


def _recent(call: Call) -> list[Event]:
    with call.live.services.open_registry(call.principal.name) as registry:
        return registry.events(limit=RECENT_EVENTS)


async def _direction(call: Call, site: str, workload: str) -> Direction:
    """Where a request of a workload from the site would go now."""
    try:
        question = messages.RouteTestMessage(workload=workload, origin=site)
        decision = await call.live.questions.ask(question, call.live.plan)
    except GridctlError as error:
        return Direction(None, error.what)
    chosen = next((one for one in decision.candidates if one.status == "chosen"), None)
    if chosen is None:
        return Direction(None, decision.reason)
    return Direction(chosen.site, chosen.because)


async def _top(call: Call) -> object:
    by = call.query.get("by", "workload")
    if by not in get_args(TopBy):
        raise UsageError(f"by is {by[:64]!r}", where="query", fix="one of: " + ", ".join(get_args(TopBy)))
    window_s = int(call.query.get("window_s", str(USUAL_WINDOW_S)))
    if not 1 <= window_s <= LONGEST_WINDOW_S:
        raise UsageError(f"window_s is {window_s}", where="query", fix=f"1 to {LONGEST_WINDOW_S}")
    facts = call.live.facts()
    now = read_totals(call.live.board)
    before = call.live.observer.readings.before(facts.now_ns, window_s)
    return top_frame(facts, cast("TopBy", by), before or (facts.now_ns, now), now)


def _type(kind: Any) -> Callable[[], Any]:
    return lambda: kind


HEALTH_ROUTES = (
    Route(
        "GET",
        "/v1/health",
        "viewer",
        "What is wrong, since when, what it affects, what to do.",
        _health,
        _type(HealthReport),
    ),
    Route("GET", "/v1/sites", "viewer", "Sites that serve, and their states.", _sites, _type(messages.SiteSummaryList)),
    Route(
        "GET",
        "/v1/sites/{name}",
        "viewer",
        "One site: state, engines, load, changes.",
        _site,
        _type(SiteReport),
    ),
    Route(
        "GET",
        "/v1/top",
        "viewer",
        "Requests, latencies and dollars of the last seconds.",
        _top,
        _type(TopFrame),
        query=(
            Parameter("by", "workload, site or cluster"),
            Parameter("window_s", "of so many seconds", is_integer=True),
        ),
    ),
)
