"""The sweep service: every scenario replayed, each result kept the moment it is there, taken up again after a kill.

Decides what a sweep is kept as and when results that are there are results of what is asked: when grid, traffic,
policies and gridctl are what they were. A result is known by what its scenario is, so a file that asks for more makes
only what is new.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from gridctl import __version__
from gridctl.errors import InputError, Interrupted, NotFoundError, StoreError
from gridctl.executors.pool import cores, running
from gridctl.orchestrator.context import GridHome
from gridctl.orchestrator.plan import Inputs, inputs_of
from gridctl.orchestrator.replaying import Order
from gridctl.orchestrator.scenario import Source
from gridctl.resources import Resource
from gridctl.sweeps import work
from gridctl.sweeps.axes import Scenario, Value, axis_names
from gridctl.sweeps.reading import Question
from gridctl.traces.trace import Trace

MOST_REPLAYS = 10_000
"""More replays than this are made only when somebody says so."""
MOST_EVER = 1_000_000
_WORDS = {"trace": "the trace", "grid": "the grid", "policy": "a policy, or the generated traffic,"}


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """A scenario as a sweep keeps it: its number, what it has on each axis, and what it is."""

    number: int
    values: dict[str, Value]
    key: str


class SweepPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a sweep was asked for, and from what."""

    name: str
    trace: str
    seed: int
    seeds: int
    drawn: tuple[str, ...]
    axes: tuple[str, ...]
    scenarios: tuple[Planned, ...]
    inputs: Inputs
    created_ns: int
    gridctl_version: str

    @property
    def replays(self) -> int:
        """How many replays were asked for."""
        return len({scenario.key for scenario in self.scenarios}) * self.seeds


@dataclass(frozen=True, slots=True)
class Wanted:
    """How a sweep is to be made. `jobs` None is every processor there is."""

    name: str
    seed: int = 1
    seeds: int = 1
    drawn: tuple[Source, ...] = ()
    jobs: int | None = None
    executor: str = "local"
    resume: bool = False
    replace: bool = False


@dataclass(frozen=True, slots=True)
class Sweep:
    """A sweep as it is kept: the plan, and the results there are by scenario key and draw."""

    plan: SweepPlan
    results: dict[tuple[str, int], work.Result] = field(default_factory=dict)

    @property
    def done(self) -> int:
        """How many of the replays asked for are there."""
        keys = {scenario.key for scenario in self.plan.scenarios}
        return sum(1 for key, draw in self.results if key in keys and draw < self.plan.seeds)


def make_sweep(
    home: GridHome,
    question: Question,
    scenarios: Sequence[Scenario],
    resources: Sequence[Resource],
    trace: Trace | None,
    wanted: Wanted,
    advanced: Callable[[int], None],
) -> Sweep:
    """Replay every scenario and keep what comes of it; `advanced` hears of every replay that is there.

    Raises InputError for a name that is taken and for results to resume that are of something else, UnreachableError
    when the executor is lost, Interrupted with what is kept.
    """
    store = home.open_sweeps()
    store.check_name(wanted.name)
    stage = stage_of(question, resources, trace, wanted)
    plan = _plan(question, scenarios, stage, wanted)
    _check_taken(home, wanted)
    with store.making(wanted.name):
        results = _resumable(home, plan) if wanted.resume else {}
        if wanted.resume:
            store.write_plan(wanted.name, msgspec.json.encode(plan))
        else:
            store.begin(wanted.name, msgspec.json.encode(plan))
        unique = {scenario.key: scenario for scenario in scenarios}.values()
        every = [work.Job(scenario, draw) for draw in range(wanted.seeds) for scenario in unique]
        jobs = [job for job in every if (job.scenario.key, job.draw) not in results]
        advanced(len(every) - len(jobs))
        try:
            with (
                store.adding(wanted.name) as journal,
                running(wanted.executor, work.run, stage, jobs, workers=wanted.jobs) as pool,
            ):
                for _, result in pool.results(lambda number, amount: None):
                    journal.add(msgspec.json.encode(result))
                    results[result.key, result.draw] = result
                    advanced(1)
        except KeyboardInterrupt:
            raise _interrupted(Sweep(plan, results)) from None
    return Sweep(plan, results)


def stage_of(question: Question, resources: Sequence[Resource], trace: Trace | None, wanted: Wanted) -> work.Stage:
    """What every replay of the sweep reads."""
    return work.Stage(
        trace, tuple(resources), question.targets, question.policies, question.generate, wanted.seed, wanted.drawn
    )


def load_sweep(home: GridHome, name: str) -> Sweep:
    """A sweep as it is kept. Raises NotFoundError, StoreError when it cannot be read."""
    store = home.open_sweeps()
    try:
        plan = msgspec.json.decode(store.plan(name), type=SweepPlan)
        results = [msgspec.json.decode(line, type=work.Result) for line in store.lines(name)]
    except msgspec.MsgspecError as error:
        raise StoreError(
            f"sweep {name} cannot be read: {error}",
            where=f"sweep {name}",
            fix=f"it was written by another gridctl: make it again, or gridctl sweep delete {name}",
        ) from None
    return Sweep(plan, {(result.key, result.draw): result for result in results})


def seconds_needed(stage: work.Stage, scenarios: Sequence[Scenario], wanted: Wanted) -> float:
    """How long the sweep would take, from the first scenario, timed, and where sizes differ from the largest, too: a
    replay costs something, and something for each request."""
    unique = list({scenario.key: scenario for scenario in scenarios}.values())
    sizes = [scenario.sample * (scenario.rate or 1.0) for scenario in unique]
    largest = max(range(len(unique)), key=sizes.__getitem__)
    first_s, per_size_s = _timed(stage, unique[0]), 0.0
    if sizes[largest] > sizes[0]:
        per_size_s = max(0.0, _timed(stage, unique[largest]) - first_s) / (sizes[largest] - sizes[0])
    each_s = [max(0.0, first_s + per_size_s * (size - sizes[0])) for size in sizes]
    workers = min(wanted.jobs or cores(), len(unique) * wanted.seeds)
    return math.fsum(each_s) * wanted.seeds / workers


def _timed(stage: work.Stage, scenario: Scenario) -> float:
    started = time.perf_counter()
    work.run(stage, work.Job(scenario, 0), lambda requests: None)
    return time.perf_counter() - started


def _plan(question: Question, scenarios: Sequence[Scenario], stage: work.Stage, wanted: Wanted) -> SweepPlan:
    deciding = (sorted(question.policies.items()), question.generate)
    order = Order(seed=wanted.seed, with_centralized=False)
    return SweepPlan(
        name=wanted.name,
        trace=stage.trace.name if stage.trace is not None else "generated",
        seed=wanted.seed,
        seeds=wanted.seeds,
        drawn=wanted.drawn if wanted.seeds > 1 else (),
        axes=tuple(axis_names(question.cases)),
        scenarios=tuple(Planned(number=one.number, values=one.values, key=one.key) for one in scenarios),
        inputs=inputs_of(stage.trace, stage.resources, deciding, order),
        created_ns=time.time_ns(),
        gridctl_version=__version__,
    )


def _check_taken(home: GridHome, wanted: Wanted) -> None:
    """Refuse a name that is taken, before any work, unless it is to be resumed or replaced."""
    store = home.open_sweeps()
    if wanted.resume:
        store.plan(wanted.name)
        return
    if wanted.replace or wanted.name not in store.list():
        return
    try:
        kept = load_sweep(home, wanted.name)
        left = kept.plan.replays - kept.done
    except (StoreError, NotFoundError):
        left = 0
    if left > 0:
        raise InputError(
            f"sweep {wanted.name} has {kept.done} of {kept.plan.replays} replays: it was interrupted",
            where="--name",
            fix="go on with --resume, or begin again with --replace",
        )
    raise InputError(
        f"sweep {wanted.name} exists",
        where="--name",
        fix="choose another --name, replace it with --replace, or add to it with --resume",
    )


def _resumable(home: GridHome, plan: SweepPlan) -> dict[tuple[str, int], work.Result]:
    """Results that are there of what is asked. Raises InputError when they are of something else."""
    kept = load_sweep(home, plan.name)
    before = kept.plan
    if before.drawn and plan.drawn and before.drawn != plan.drawn:
        raise InputError(
            f"sweep {plan.name} was drawn from {','.join(before.drawn)}",
            where="--draw",
            fix=f"--draw {','.join(before.drawn)}, or --replace without --resume to begin again",
        )
    for one in msgspec.structs.fields(Inputs):
        if getattr(before.inputs, one.name) != getattr(plan.inputs, one.name):
            what = {"options": "the seed", "gridctl": "gridctl itself"}.get(one.name) or _WORDS[one.name]
            raise InputError(
                f"{what} changed since sweep {plan.name} was made",
                where="--resume",
                fix="put it back as it was, or begin again: --replace without --resume",
            )
    return kept.results


def _interrupted(sweep: Sweep) -> Interrupted:
    name = sweep.plan.name
    return Interrupted(
        f"stopped after {sweep.done} of {sweep.plan.replays} replays; they are kept as sweep {name}",
        fix="the same command with --resume makes the others",
    )
