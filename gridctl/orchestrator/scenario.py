"""Scenario: one replay somewhere else — what it is given, what is drawn for it, and the tables that come back.

A job names a scenario (a grid, a policy, prices) and a draw; it is a function of both and the trace alone, so where and
when it runs, and beside which others, changes nothing. Jobs share one stage, which processes map rather than copy.

What can be drawn, each from the draw's own seed, everything else staying as in the plain replay:

    jitter     every round trip's jitter, ties, and how sessions stick
    mix        origins, workloads and tenants, where the trace does not say
    arrivals   when requests come, the load of every minute kept (`traces.redraw`)
    profile    how far each step-time profile is off (`grid.profile_error`)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from gridctl.accounts.rows import Run
from gridctl.accounts.summary import Summary, summarize
from gridctl.grid.centralized import centralize
from gridctl.grid.image import GridImage
from gridctl.grid.profile_error import with_profile_errors
from gridctl.orchestrator.policies import centralized_policy
from gridctl.orchestrator.replaying import CENTRALIZED_SUFFIX, Listener, Order, overlaid, replayed
from gridctl.resources import Policy, Resource
from gridctl.traces.redraw import redraw_arrivals
from gridctl.traces.trace import Traffic

Source = Literal["jitter", "mix", "arrivals", "profile"]
SOURCES: tuple[Source, ...] = get_args(Source)


@dataclass(frozen=True, slots=True)
class Scenario:
    """A grid, the policy it is routed by, and how it is replayed. `order.seed` is the plain replay's."""

    resources: tuple[Resource, ...]
    policy: Policy
    order: Order


@dataclass(frozen=True, slots=True)
class Stage:
    """What all jobs read: the trace as it was given, and the scenarios."""

    trace: Traffic
    scenarios: tuple[Scenario, ...]


@dataclass(frozen=True, slots=True)
class Job:
    """One replay of a scenario, and of its centralised alternative where the order has one.

    `draw` 0 draws nothing: it is the plain replay. Draw k is drawn from the order's seed + k. `keeps_rows` brings the
    requests back, too."""

    scenario: int
    draw: int
    drawn: tuple[Source, ...] = SOURCES
    keeps_rows: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """The tables of a job's replay and of its centralised alternative; their requests where they were wanted."""

    main: Summary
    central: Summary | None
    runs: tuple[Run, ...] = ()


@dataclass(frozen=True, slots=True)
class Setup:
    """A draw of a scenario, ready to be replayed: its traffic, its order, and what becomes of the grid's image."""

    trace: Traffic
    order: Order
    changed: Callable[[GridImage], GridImage]


def set_up(trace: Traffic, scenario: Scenario, draw: int, sources: Sequence[Source]) -> Setup:
    """Draw what `sources` name from the order's seed + `draw`; draw 0 draws nothing."""
    order, seed = scenario.order, scenario.order.seed + draw
    drawn = sources if draw else ()
    trace = overlaid(trace, scenario.resources, seed if "mix" in drawn else order.seed, lambda text: None)
    if "arrivals" in drawn:
        trace = redraw_arrivals(trace.whole(), seed)

    def changed(image: GridImage) -> GridImage:
        return with_profile_errors(image, seed) if "profile" in drawn else image

    return Setup(trace, replace(order, seed=seed if "jitter" in drawn else order.seed), changed)


def run_job(stage: Stage, job: Job, advanced: Callable[[int], None]) -> Outcome:
    """Replay one draw of one scenario. Saves nothing."""
    scenario = stage.scenarios[job.scenario]
    order, seed = scenario.order, scenario.order.seed + job.draw
    setup = set_up(stage.trace, scenario, job.draw, job.drawn)
    name = draw_name(order.name or "", job.draw)
    central = f"{name}{CENTRALIZED_SUFFIX}" if order.with_centralized else ""
    listener = Listener(advanced=advanced)
    trace, noisy, changed = setup.trace, setup.order, setup.changed
    main = replayed(name, trace, scenario.resources, scenario.policy, noisy, listener, central, changed)
    summary = summarize(main, draw=job.draw, seed=seed)
    if not central:
        return Outcome(summary, None, (main,) if job.keeps_rows else ())
    kept = main if job.keeps_rows else None
    del main  # two runs need not be in memory together
    resources, policy = centralize(scenario.resources), centralized_policy(scenario.policy)
    beside = replayed(central, trace, resources, policy, noisy, listener, central, changed)
    runs = (kept, beside) if kept is not None else ()
    return Outcome(summary, summarize(beside, draw=job.draw, seed=seed), runs)


def draw_name(run: str, draw: int) -> str:
    """What the requests of a draw are kept under; the plain replay's name is the run's."""
    return f"{run}.draw-{draw}" if draw else run
