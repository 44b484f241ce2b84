"""Break-even: for every workload and region, where the edge starts to pay, found by replaying both arrangements.

Decides which cells there are, which requests they replay, and who replays them: each cell under each draw is one job,
so that jobs are independent and their results do not depend on where they ran. Every dollar and every attained share
comes from a replay; there is no formula of cost or latency here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from gridctl.accounts.plans import Axis, BreakEvenRow, BreakEvens, CurvePoint, Verdict
from gridctl.errors import InputError, NotFoundError, UsageError, did_you_mean
from gridctl.executors.pool import running
from gridctl.geography.regions import REGIONS, region_of
from gridctl.grid.view import GridView
from gridctl.orchestrator.policies import choose_policy
from gridctl.orchestrator.replaying import Order, overlaid
from gridctl.planning.axes import (
    AXES,
    MARGIN,
    STEPS,
    UNITS,
    Crossing,
    agreed,
    crossing,
    own_setting,
    pooled,
    setting_at,
    side_of,
    values_of,
    verdict_of,
)
from gridctl.planning.cells import Cell, Wish, demand_by_site, make_cell
from gridctl.planning.trial import LEAST_SPAN_S, Limits, Priced, Trials
from gridctl.resources import Policy, Resource, Workload
from gridctl.traces.generate import GenerateSpec, generate
from gridctl.traces.slicing import repeat, take
from gridctl.traces.trace import Trace

DEFAULT_LOAD_RPS = 20.0


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked. Empty tuples mean everything the grid has."""

    workloads: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    axes: tuple[Axis, ...] = AXES
    load_rps: float | None = None
    policy: str | None = None
    seed: int = 1
    replays: int = 6
    limits: Limits = field(default_factory=Limits)
    wish: Wish = field(default_factory=Wish)


@dataclass(frozen=True, slots=True)
class Study:
    """What every job reads."""

    cells: tuple[Cell, ...]
    traces: tuple[Trace, ...]
    axes: tuple[Axis, ...]
    policy: Policy
    order: Order
    limits: Limits
    trace_name: str

    @property
    def settings(self) -> int:
        """Points and bisections of all cells under one draw."""
        return sum(settings_of(cell, self.axes) for cell in self.cells)


@dataclass(frozen=True, slots=True)
class CellJob:
    """One cell under one draw."""

    cell: int
    draw: int


@dataclass(frozen=True, slots=True)
class CellFound:
    """What a job found: prices of both sides at each point, by axis, and the crossings."""

    curves: dict[Axis, list[tuple[Priced, Priced]]]
    crossings: dict[Axis, Crossing]
    own: tuple[Priced, Priced]
    replays: int


def settings_of(cell: Cell, axes: Sequence[Axis]) -> int:
    """How many settings one draw of a cell tries at most."""
    return 1 + sum(len(values_of(cell, axis)) + STEPS for axis in axes)


def most_replays(study: Study) -> int:
    """How many replays one draw of all cells takes at most: edge and core at every setting, doubling and bisecting."""
    search = 2 * (study.limits.engines.bit_length() + 1)
    return study.settings * search


def prepare(
    resources: Sequence[Resource], trace: Trace | None, question: Question, say: Callable[[str], None]
) -> Study:
    """Everything a break-even needs, checked. `trace` None: requests are generated as the workloads' traffic says.

    Raises: NotFoundError for a workload or region that is not there, InputError when nobody asks for anything or no
    GPU holds a variant that is good enough.
    """
    if question.replays < 1 or question.wish.places < 1:
        raise UsageError("a break-even needs at least one replay and one place", where="--seeds, --places")
    view = GridView(resources)
    chosen = _chosen_workloads(view, question)
    regions = _chosen_regions(question)
    complete = None if trace is None else overlaid(trace, resources, question.seed, say).whole()
    demand = demand_by_site(view, complete)
    cells: list[Cell] = []
    traces: list[Trace] = []
    for workload in chosen:
        for region in regions:
            wanted = demand.get(workload.name, {})
            load = question.load_rps or _load_of(complete, view, workload, region) or DEFAULT_LOAD_RPS
            cell = make_cell(view, workload, region, wanted, question.wish, load, len(traces))
            if cell is None:
                continue
            traces.append(_requests(complete, view, cell, question))
            cells.append(cell)
    if not cells:
        raise InputError(
            "nobody there asks for that",
            where="--workload, --region" if trace is None else f"trace {trace.name}",
            fix="leave out --region, or see who is where: gridctl site list -o wide",
        )
    policy = choose_policy(resources, question.policy)
    order = Order(name="plan", prices=question.wish.prices, seed=question.seed, with_centralized=False)
    name = trace.name if trace is not None else ""
    return Study(tuple(cells), tuple(traces), question.axes, policy, order, question.limits, name)


def find_breakevens(
    study: Study, replays: int, *, jobs: int | None, executor: str, advanced: Callable[[int], None]
) -> BreakEvens:
    """Replay every cell under every draw, on `jobs` processors. `advanced` hears of settings done."""
    numbered = [CellJob(cell, draw) for cell in range(len(study.cells)) for draw in range(replays)]
    results: dict[int, CellFound] = {}
    told = [0] * len(numbered)

    def hear(number: int, settings: int) -> None:
        settings = min(settings, settings_of(study.cells[numbered[number].cell], study.axes) - told[number])
        told[number] += settings
        advanced(settings)

    with running(executor, find_cell, study, numbered, workers=jobs) as pool:
        for number, result in pool.results(hear):
            results[number] = result
            hear(number, 1 << 40)
    rows, curves = [], []
    for index, cell in enumerate(study.cells):
        found = [results[index * replays + draw] for draw in range(replays)]
        rows.append(_row(cell, study.axes, found))
        curves += _curves(cell, study.axes, found)
    return BreakEvens(
        policy=study.policy.name,
        trace=study.trace_name,
        replays=replays,
        replayed=sum(result.replays for result in results.values()),
        margin=MARGIN,
        items=tuple(rows),
        curves=tuple(curves),
    )


def find_cell(study: Study, job: CellJob, advanced: Callable[[int], None]) -> CellFound:
    """One cell under one draw: its curves, and its crossings by bisection."""
    cell = study.cells[job.cell]
    trials = Trials(cell, study.traces[cell.trace], study.policy, study.order, job.draw, study.limits)
    own = own_setting(cell)
    at_own = trials.price("edge", own), trials.price("core", own)
    advanced(1)
    curves: dict[Axis, list[tuple[Priced, Priced]]] = {}
    crossings: dict[Axis, Crossing] = {}
    for axis in study.axes:
        values = values_of(cell, axis)

        def judge(value: float, axis: Axis = axis) -> Verdict:
            setting = setting_at(cell, axis, value)
            verdict = verdict_of(trials.price("edge", setting), trials.price("core", setting))
            advanced(1)
            return verdict

        crossings[axis] = crossing(axis, values, judge)
        settings = [setting_at(cell, axis, value) for value in values]
        curves[axis] = [(trials.price("edge", one), trials.price("core", one)) for one in settings]
    return CellFound(curves, crossings, at_own, trials.replays)


def _row(cell: Cell, axes: Sequence[Axis], found: Sequence[CellFound]) -> BreakEvenRow:
    edge, core = [one.own[0] for one in found], [one.own[1] for one in found]
    return BreakEvenRow(
        workload=cell.workload.name,
        region=cell.region,
        places=tuple(site.name for site in cell.places),
        edge_engine=str(cell.edge_offer),
        core_engine=str(cell.core_offer),
        edge_usd_per_gpu_hour=cell.edge_usd,
        core_usd_per_gpu_hour=cell.core_usd,
        rtt_ms=cell.rtt_ms,
        core_site=cell.core_site,
        load_rps=cell.load_rps,
        budget_ms=cell.budget_ms,
        skew=cell.skew,
        edge=side_of(edge),
        core=side_of(core),
        verdict=agreed([verdict_of(*pair) for pair in zip(edge, core, strict=True)]),
        breakevens=tuple(pooled(axis, values_of(cell, axis), [one.crossings[axis] for one in found]) for axis in axes),
        notes=cell.notes,
    )


def _curves(cell: Cell, axes: Sequence[Axis], found: Sequence[CellFound]) -> list[CurvePoint]:
    points = []
    for axis in axes:
        for index, value in enumerate(values_of(cell, axis)):
            pairs = [one.curves[axis][index] for one in found]
            points.append(
                CurvePoint(
                    workload=cell.workload.name,
                    region=cell.region,
                    axis=axis,
                    value=value,
                    unit=UNITS[axis],
                    edge=side_of([edge for edge, _ in pairs]),
                    core=side_of([core for _, core in pairs]),
                    verdict=agreed([verdict_of(*pair) for pair in pairs]),
                )
            )
    return points


def _chosen_workloads(view: GridView, question: Question) -> list[Workload]:
    if not view.workloads:
        raise InputError("the grid has no workload", where="registry", fix="gridctl explain workload")
    for name in question.workloads:
        if name not in view.workloads:
            near = did_you_mean(name, view.workloads)
            fix = f"did you mean {near}?" if near else "gridctl workload list"
            raise NotFoundError(f"workload {name} does not exist", where="--workload", fix=fix)
    return [view.workloads[name] for name in sorted(question.workloads or view.workloads)]


def _chosen_regions(question: Question) -> list[str]:
    for name in question.regions:
        if name not in REGIONS:
            raise UsageError(f"there is no region {name!r}", where="--region", fix=f"one of: {', '.join(REGIONS)}")
    return [region for region in REGIONS if not question.regions or region in question.regions]


def _rows_of(trace: Trace, view: GridView, workload: str, region: str) -> np.ndarray:
    """Numbers of the requests of a workload that come from sites of a region."""
    if workload not in trace.workloads:
        return np.zeros(0, np.int64)
    there = np.array(
        [name in view.sites and region_of(view.sites[name].spec.country) == region for name in trace.origins], np.bool_
    )
    wanted = (trace.workload == trace.workloads.index(workload)) & there[trace.origin]
    return np.flatnonzero(wanted).astype(np.int64)


def _load_of(trace: Trace | None, view: GridView, workload: Workload, region: str) -> float | None:
    """Requests a second of the workload in the region, over the whole trace."""
    if trace is None or not trace.duration_ns:
        return None
    rows = _rows_of(trace, view, workload.name, region)
    return len(rows) / (trace.duration_ns / 1e9) if len(rows) > 1 else None


def _requests(trace: Trace | None, view: GridView, cell: Cell, question: Question) -> Trace:
    """The cell's requests: enough of them for the highest load it is tried at."""
    loads = values_of(cell, "load") if "load" in question.axes else (cell.load_rps,)
    wanted = max(question.limits.requests, int(max(loads) * LEAST_SPAN_S) + 1)
    if trace is None:
        spec = GenerateSpec(duration_s=wanted / cell.load_rps * 1.2, rate_rps=cell.load_rps)
        made = generate(spec, list(cell.places), [cell.workload], question.seed)
        return take(made, np.arange(min(wanted, len(made))))
    found = take(trace, _rows_of(trace, view, cell.workload.name, cell.region)[:wanted])
    found = replace(found, arrival_ns=found.arrival_ns - found.arrival_ns[0])
    return repeat(found, -(-wanted // len(found)), shared_blocks=True) if len(found) < wanted else found
