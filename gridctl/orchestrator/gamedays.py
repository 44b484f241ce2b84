"""The game day service: a run with faults beside its calm one, and the loss of each site that serves anybody.

Decides which losses are worth a replay: a site that served nobody is answered without one, because no request would
have met its loss. Losses are jobs of the executors, so they use every processor.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from gridctl.accounts.losses import Loss, Serving, loss_of, ranked, serving_sites
from gridctl.accounts.phases import GameDayReport, game_day
from gridctl.accounts.rows import Run
from gridctl.errors import InputError, NotFoundError, UsageError
from gridctl.executors.pool import running
from gridctl.grid.candidates import CandidateLists
from gridctl.grid.image import build_image
from gridctl.manifest.gameday_file import GameDayFile
from gridctl.orchestrator.context import GridHome
from gridctl.orchestrator.policies import choose_policy
from gridctl.orchestrator.replaying import Listener, Order, overlaid, replayed, resources_of
from gridctl.orchestrator.runs import load_run
from gridctl.replay.replay import candidates_of
from gridctl.replay.warmup import warm_up_faults
from gridctl.resources import Policy, Resource
from gridctl.resources.gameday import DEFAULT_NOTICED_AFTER, DURATION_PATTERN, FaultSpec, GameDay, GameDaySpec, Where
from gridctl.resources.resource import Metadata
from gridctl.traces.trace import Traffic
from gridctl.units import NS_PER_S

MADE = "gameday"
"""Where a fault stands that no file declares."""


@dataclass(frozen=True, slots=True)
class LossPlan:
    """When each site is lost and for how long, as durations a game day takes."""

    at: str
    lasts: str
    noticed_after: str


@dataclass(frozen=True, slots=True)
class _Stage:
    """What every loss is replayed on."""

    trace: Traffic
    resources: tuple[Resource, ...]
    policy: Policy
    order: Order
    plan: LossPlan
    calm: Run
    lists: CandidateLists


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


def loss_day(site: str, plan: LossPlan) -> GameDay:
    """The game day on which a site is lost."""
    fault = FaultSpec(at=plan.at, lasts=plan.lasts, lose=Where(site=site))
    return GameDay(
        metadata=Metadata(name=f"lose-{site}"), spec=GameDaySpec(faults=(fault,), noticed_after=plan.noticed_after)
    )


def single_losses(
    home: GridHome,
    trace: Traffic,
    order: Order,
    plan: LossPlan,
    listener: Listener,
    *,
    jobs: int | None = None,
) -> tuple[Loss, ...]:
    """The loss of every site that could serve, ranked by harm; nothing is saved. The listener hears of each replay.

    Raises what `replay_trace` does."""
    resources = tuple(resources_of(home))
    policy = choose_policy(resources, order.policy)
    complete = overlaid(trace, resources, order.seed, listener.say)
    lists = candidates_of(build_image(resources, price_book=order.prices), complete, policy.spec)
    calm = replayed("calm", complete, resources, policy, order, Listener(), "", lists=lists)
    sites = serving_sites(calm)
    busy = [site for site in sites if site.requests]
    losses = [
        Loss(site=site.site, tier=site.tier, region=site.region, requests=0, replayed=False)
        for site in sites
        if not site.requests
    ]
    warm_up_faults()  # before there are workers, of which each would compile for itself
    stage = _Stage(complete, resources, policy, order, plan, calm, lists)
    with running("local", _lose_one, stage, busy, workers=jobs) as pool:
        for _, loss in pool.results(lambda number, requests: None):
            losses.append(loss)
            listener.advanced(1)
    return ranked(losses)


def _lose_one(stage: _Stage, site: Serving, advanced: Callable[[int], None]) -> Loss:
    """Replay the loss of one site. Saves nothing."""
    order = replace(stage.order, game_day=GameDayFile(loss_day(site.site, stage.plan), MADE))
    run = replayed(
        f"lose-{site.site}", stage.trace, stage.resources, stage.policy, order, Listener(), "", lists=stage.lists
    )
    return loss_of(site, game_day(run, stage.calm, 0))
