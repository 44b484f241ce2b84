"""Work: one replay of one scenario, a function of the stage and the job alone, wherever it runs.

A scenario whose grid is not whole, or whose traffic it cannot take, is a result like any other: it says why, and the
others go on. What differs between draws is drawn as for a run (`orchestrator.scenario`), with the same seeds in every
scenario.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from gridctl.accounts import tokenomics
from gridctl.accounts.pareto import Numbers, numbers_of
from gridctl.accounts.tables import EVERYTHING
from gridctl.errors import InputError, NotFoundError
from gridctl.grid.check import check_grid
from gridctl.orchestrator.policies import choose_policy
from gridctl.orchestrator.replaying import Listener, Order, replayed
from gridctl.orchestrator.scenario import Scenario as Replay
from gridctl.orchestrator.scenario import Source, set_up
from gridctl.resources import Policy, Resource, Site, Workload
from gridctl.resources.sweep import Generated
from gridctl.sweeps.arrangement import arrange
from gridctl.sweeps.axes import Scenario
from gridctl.sweeps.reading import first_line
from gridctl.sweeps.target import Target
from gridctl.traces.generate import GenerateSpec, generate
from gridctl.traces.slicing import scale_time, thin
from gridctl.traces.trace import Trace


@dataclass(frozen=True, slots=True)
class Stage:
    """What all jobs read: the traffic, the grid as declared, what paths mean, policies that are not the grid's own."""

    trace: Trace | None
    resources: tuple[Resource, ...]
    targets: dict[str, Target]
    policies: dict[str, Policy]
    generated: Generated | None
    seed: int
    drawn: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class Job:
    """One draw of one scenario; draw 0 is the plain replay."""

    scenario: Scenario
    draw: int


class Result(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a job came to: numbers in total (`*`) and per workload, or why there are none."""

    key: str
    draw: int
    digest: str = ""
    reason: str = ""
    numbers: dict[str, Numbers] = {}


def run(stage: Stage, job: Job, advanced: Callable[[int], None]) -> Result:
    """Replay one draw of one scenario. Saves nothing."""
    scenario = job.scenario
    try:
        resources, policy = grid_of(stage, scenario)
        trace = traffic(stage, scenario, resources)
        order = Order(name="scenario", prices=scenario.prices or "default", seed=stage.seed, with_centralized=False)
        setup = set_up(trace, Replay(resources, policy, order), job.draw, stage.drawn)
        made = replayed("scenario", setup.trace, resources, policy, setup.order, Listener(), "", setup.changed)
    except (InputError, NotFoundError) as error:
        return Result(key=scenario.key, draw=job.draw, reason=first_line(error))
    total, tables = tokenomics.tables_by(made, [("workload",)])
    numbers = {EVERYTHING: numbers_of(total)}
    numbers |= {row.workload: numbers_of(row) for row in tables[("workload",)] if row.workload != tokenomics.IDLE}
    return Result(key=scenario.key, draw=job.draw, digest=made.info.digest, numbers=numbers)


def grid_of(stage: Stage, scenario: Scenario) -> tuple[tuple[Resource, ...], Policy]:
    """The scenario's grid, whole, and the policy it is routed by. Raises InputError, NotFoundError."""
    resources = arrange(stage.resources, stage.targets, scenario)
    if resources != stage.resources:  # what is declared was checked when it was
        check_grid(resources)
    word = scenario.policy
    policy = stage.policies[word] if word in stage.policies else choose_policy(resources, word)
    return resources, policy


def traffic(stage: Stage, scenario: Scenario, resources: tuple[Resource, ...]) -> Trace:
    """The scenario's requests: the trace's or generated ones, a sample of them, sped up."""
    if stage.generated is not None:
        asked = stage.generated
        spec = GenerateSpec(
            duration_s=asked.duration_s,
            rate_rps=scenario.rate or 1.0,
            arrival_cv=asked.arrival_cv,
            turns=asked.turns,
        )
        sites = [resource for resource in resources if isinstance(resource, Site)]
        workloads = [resource for resource in resources if isinstance(resource, Workload)]
        trace = generate(spec, sites, workloads, asked.seed)
    else:
        assert stage.trace is not None, "a sweep without traffic is refused first"
        trace = stage.trace
    if scenario.sample < 1:
        trace = thin(trace, scenario.sample, stage.seed)
    return scale_time(trace, scenario.speed)
