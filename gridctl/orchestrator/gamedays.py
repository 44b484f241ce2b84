"""The game day service: a run with faults beside its calm one, and the loss of each site that serves anybody.

Decides which losses are worth a replay: a site that served nobody is answered without one, because no request would
have met its loss. Losses are jobs of the executors, so they use every processor.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import msgspec
import numpy as np

from gridctl.accounts.facts import Origin
from gridctl.accounts.herding import Herd, herd
from gridctl.accounts.losses import Loss, Serving, loss_of, ranked, serving_regions, serving_sites
from gridctl.accounts.phases import GameDayReport, Judged, game_day
from gridctl.accounts.rows import COMPLETED, FAILED, REJECTED, Run
from gridctl.errors import InputError, NotFoundError, UsageError, did_you_mean
from gridctl.executors.pool import running
from gridctl.geography.regions import REGIONS
from gridctl.grid.candidates import CandidateLists
from gridctl.grid.image import build_image
from gridctl.manifest.gameday_file import GameDayFile
from gridctl.orchestrator.context import GridHome
from gridctl.orchestrator.playing import HeldRows
from gridctl.orchestrator.policies import choose_policy
from gridctl.orchestrator.replaying import Listener, Order, overlaid, replayed, resources_of
from gridctl.orchestrator.runs import load_run
from gridctl.replay.origins import origins_of
from gridctl.replay.replay import candidates_of, played_out
from gridctl.replay.resolving import resolve_faults
from gridctl.replay.stage import Stage, set_stage
from gridctl.replay.warmup import warm_up_faults
from gridctl.resources import Policy, Resource
from gridctl.resources.gameday import (
    DEFAULT_NOTICED_AFTER,
    DURATION_PATTERN,
    Blindness,
    Crowd,
    FaultSpec,
    GameDay,
    GameDaySpec,
    Where,
    nanoseconds_of,
)
from gridctl.resources.resource import Metadata
from gridctl.traces.trace import Traffic
from gridctl.units import NS_PER_S

Place = Literal["site", "region"]


@dataclass(frozen=True, slots=True)
class LossPlan:
    """When each site is lost and for how long, as durations a game day takes."""

    at: str
    lasts: str
    noticed_after: str


@dataclass(frozen=True, slots=True)
class _Calm:
    """What every loss is held against: the grid's image, the calm run, and when sites are lost. `prepared` is what a
    process has made of it, once for all losses it replays."""

    trace: Traffic
    resources: tuple[Resource, ...]
    policy: Policy
    order: Order
    plan: LossPlan
    run: Run
    lists: CandidateLists
    word: Place
    prepared: list[_Prepared] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Prepared:
    """The replay up to the moment of the loss, which all losses share, its final rows, and the calm run judged."""

    stage: Stage
    rows: HeldRows
    calm: Judged


def report_of(name: str | None, home: GridHome, most_flows: int) -> GameDayReport:
    """The report of a run with faults; the latest run when none is named. Raises NotFoundError, InputError."""
    name = name or home.open_runs().latest()
    if name is None:
        raise NotFoundError("this grid has no runs yet", fix="gridctl gameday run FILE TRACE")
    run = load_run(name, home)
    if not run.info.faults:
        raise InputError(f"run {name} has no faults", where=f"run {name}", fix="gridctl replay run TRACE --faults FILE")
    calm = run.info.calm
    return game_day(run, load_run(calm, home) if calm in home.open_runs().list() else None, most_flows)


def loss_plan(trace: Traffic, at: str | None, lasts: str | None, noticed_after: str | None) -> LossPlan:
    """When sites are lost: a quarter into the trace for half of it, noticed after 31 s, where nothing is said.

    Raises UsageError for what is no duration."""
    given = {"--at": at, "--for": lasts, "--noticed-after": noticed_after}
    for option, text in given.items():
        if text is not None and re.fullmatch(DURATION_PATTERN, text) is None:
            raise UsageError(f"{text[:64]!r} is no duration", where=option, fix=f"for example {option} 90s, or 5m")
    quarter_s = max(1, trace.duration_ns // (4 * NS_PER_S))
    return LossPlan(at or f"{quarter_s}s", lasts or f"{2 * quarter_s}s", noticed_after or DEFAULT_NOTICED_AFTER)


def sites_to_lose(home: GridHome, prices: str) -> list[str]:
    """Every site with engines or functions, by name."""
    image = build_image(resources_of(home), price_book=prices)
    return sorted({engine.facts.site for engine in image.engines if engine.facts.kind in ("gpu", "serverless")})


def regions_to_lose(home: GridHome, prices: str) -> list[str]:
    """Every region with engines or functions, as regions are listed."""
    image = build_image(resources_of(home), price_book=prices)
    there = {engine.facts.region for engine in image.engines if engine.facts.kind in ("gpu", "serverless")}
    return [region for region in REGIONS if region in there]


def loss_day(place: str, plan: LossPlan, word: Place = "site") -> GameDay:
    """The game day on which a site or a region is lost."""
    where = Where(site=place) if word == "site" else Where(region=place)
    fault = FaultSpec(at=plan.at, lasts=plan.lasts, lose=where)
    return GameDay(
        metadata=Metadata(name=f"lose-{place.lower()}"),
        spec=GameDaySpec(faults=(fault,), noticed_after=plan.noticed_after),
    )


def crowd_day(place: str, times: float, plan: LossPlan, origins: Sequence[Origin]) -> GameDay:
    """The game day on which a crowd comes to a place: an origin of the trace, a country or a region.

    Raises NotFoundError when no request comes from there."""
    names = {origin.name for origin in origins}
    if place in names:
        crowd = Crowd(origin=place, times=times)
    elif any(origin.country == place for origin in origins):
        crowd = Crowd(country=place, times=times)
    elif any(origin.region == place for origin in origins):
        crowd = Crowd(region=place, times=times)
    else:
        known = [*names, *{origin.country for origin in origins}, *REGIONS]
        near = did_you_mean(place, known)
        raise NotFoundError(
            f"no request of the trace comes from {place}",
            where="PLACE",
            fix=f"did you mean {near}?"
            if near
            else "an origin of the trace, a country such as FR or a region such as EU",
        )
    fault = FaultSpec(at=plan.at, lasts=plan.lasts, crowd=crowd)
    name = re.sub(r"[^a-z0-9.-]+", "-", place.lower()).strip("-.")[:40] or "place"
    return GameDay(metadata=Metadata(name=f"crowd-at-{name}"), spec=GameDaySpec(faults=(fault,)))


def stale_day(plan: LossPlan) -> GameDay:
    """The game day on which nobody's telemetry arrives."""
    fault = FaultSpec(at=plan.at, lasts=plan.lasts, telemetry=Blindness())
    return GameDay(metadata=Metadata(name="stale-telemetry"), spec=GameDaySpec(faults=(fault,)))


def origins_in(home: GridHome, trace: Traffic, order: Order) -> tuple[Origin, ...]:
    """Where the requests of a trace come from, once the grid's mix has filled what it does not say."""
    resources = resources_of(home)
    complete = overlaid(trace, resources, order.seed, lambda text: None)
    return origins_of(build_image(resources, price_book=order.prices).view, complete)


def herds(home: GridHome, trace: Traffic, order: Order, plan: LossPlan, listener: Listener) -> tuple[Herd, ...]:
    """Stale telemetry beside fresh, with and without the router's own counters, over the time it is stale; nothing is
    saved. Raises what `replay_trace` does."""
    resources = tuple(resources_of(home))
    policy = choose_policy(resources, order.policy)
    complete = overlaid(trace, resources, order.seed, listener.say)
    at_ns = nanoseconds_of(plan.at)
    span = (at_ns, at_ns + nanoseconds_of(plan.lasts))
    found = []
    for counters in ("local", "none"):
        telemetry = msgspec.structs.replace(policy.spec.telemetry, in_flight=counters)
        seen = msgspec.structs.replace(policy, spec=msgspec.structs.replace(policy.spec, telemetry=telemetry))
        for state, day in (("fresh", None), ("stale", GameDayFile(stale_day(plan), "gameday"))):
            one = replace(order, game_day=day)
            quiet = Listener(advanced=listener.advanced)
            run = replayed(f"{state}-{counters}", complete, resources, seen, one, quiet, "")
            found.append(herd(run, span, state, "own" if counters == "local" else "none"))
    return tuple(found)


def single_losses(
    home: GridHome,
    trace: Traffic,
    order: Order,
    plan: LossPlan,
    listener: Listener,
    *,
    jobs: int | None = None,
    word: Place = "site",
) -> tuple[Loss, ...]:
    """The loss of every site that could serve, or of every region, one at a time, ranked by harm; nothing is saved. The
    listener hears of each replay.

    Raises what `replay_trace` does."""
    resources = tuple(resources_of(home))
    policy = choose_policy(resources, order.policy)
    complete = overlaid(trace, resources, order.seed, listener.say)
    lists = candidates_of(build_image(resources, price_book=order.prices), complete, policy.spec)
    calm = replayed("calm", complete, resources, policy, order, Listener(), "", lists=lists)
    sites = serving_sites(calm) if word == "site" else serving_regions(calm)
    busy = [site for site in sites if site.requests]
    losses = [
        Loss(site=site.site, tier=site.tier, region=site.region, requests=0, replayed=False)
        for site in sites
        if not site.requests
    ]
    warm_up_faults()  # before there are workers, of which each would compile for itself
    shared = _Calm(complete, resources, policy, order, plan, calm, lists, word)
    with running("local", _lose_one, shared, busy, workers=jobs) as pool:
        for _, loss in pool.results(lambda number, requests: None):
            losses.append(loss)
            listener.advanced(1)
    return ranked(losses)


def _lose_one(calm: _Calm, site: Serving, advanced: Callable[[int], None]) -> Loss:
    """Replay the loss of one site, from the moment it happens. Saves nothing."""
    if not calm.prepared:
        calm.prepared.append(_prepare(calm))
    (prepared,) = calm.prepared
    stage, info = prepared.stage, calm.run.info
    rows = HeldRows(prepared.rows)
    place = site.site or site.region
    faults = resolve_faults(loss_day(place, calm.plan, calm.word).spec, stage.image)
    played = played_out(stage.forked(rows.keep, faults))
    lost = rows.rows()
    counts = np.bincount(lost.outcome, minlength=3)
    run = Run(
        msgspec.structs.replace(
            info,
            name=f"lose-{place}",
            completed=int(counts[COMPLETED]),
            rejected=int(counts[REJECTED]),
            failed=int(counts[FAILED]),
            window_ns=played.window_ns,
            engines=played.engines,
            faults=played.faults,
        ),
        lost,
    )
    return loss_of(site, game_day(run, prepared.calm, 0))


def _prepare(calm: _Calm) -> _Prepared:
    """Replay what comes before the loss. A request of its very moment comes after it."""
    image, rows, seed = build_image(calm.resources, price_book=calm.order.prices), HeldRows(), calm.order.seed
    stage = set_stage(rows.keep, image, calm.trace, calm.policy.spec, seed=seed, lists=calm.lists)
    at_ns = nanoseconds_of(calm.plan.at)
    before = int(np.searchsorted(calm.run.rows.arrival_ns, at_ns))
    # After the last request of all the engines would run dry; the loss still finds what is in them.
    stage.play_until(min(before, len(calm.trace) - 1), lambda requests: None)
    return _Prepared(stage, rows, Judged(calm.run))
