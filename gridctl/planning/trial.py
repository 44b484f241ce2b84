"""Trial: what one arrangement of a cell costs at one setting, found by replaying it with more or fewer engines.

The cost of an arrangement is that of the smallest fleet that keeps every promise of the workload (each objective at
its percentile, all of them at `attainment`, and availability), in dollars per million output tokens of good requests,
idle GPUs included. An arrangement that keeps them with no fleet up to `Limits.engines` has no cost: it did not deliver
what was promised. Attainment is taken to rise with engines, so the smallest fleet is found by doubling and bisection.

Common random numbers: draw k redraws arrivals, jitter and profile errors from the same seed in every arrangement and at
every setting, and load only stretches time, so differences are not drowned in what both share.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from gridctl.accounts.rows import Run
from gridctl.accounts.sla import sla
from gridctl.accounts.tables import SlaRow, TokenomicsRow
from gridctl.accounts.tokenomics import total_row
from gridctl.grid.image import GridImage
from gridctl.grid.profile_error import with_profile_errors
from gridctl.orchestrator.replaying import Listener, Order, replayed
from gridctl.planning.cells import CORE, Cell, links_to_core, skewed
from gridctl.resources import Cluster, ClusterSpec, Metadata, Objective, Policy, Resource, Workload
from gridctl.traces.randomness import choices, uniforms
from gridctl.traces.redraw import redraw_arrivals
from gridctl.traces.slicing import cut, scale_time
from gridctl.traces.trace import Trace
from gridctl.units import NS_PER_S

_SESSION_KEYS = 1 << 40
LEAST_SPAN_S = 30.0


@dataclass(frozen=True, slots=True)
class Setting:
    """Where a cell is tried: round trip to the core, requests a second, budget as a factor of the declared one, and
    the largest place's share of the demand."""

    rtt_ms: float
    load_rps: float
    budget: float
    skew: float


@dataclass(frozen=True, slots=True)
class Priced:
    """An arrangement at a setting. `engines` and `usd` are None when no fleet meets the SLA."""

    engines: int | None
    gpus: int | None
    usd: float | None
    busy_usd: float | None
    attainment: float


@dataclass(frozen=True, slots=True)
class Limits:
    """The least requests of a replay, and the largest fleet that is tried."""

    requests: int = 2_000
    engines: int = 64


class Trials:
    """The replays of one cell under one draw; each is made once."""

    def __init__(self, cell: Cell, trace: Trace, policy: Policy, order: Order, draw: int, limits: Limits) -> None:
        self._cell = cell
        self._policy = policy
        self._draw = draw
        self._most = limits.engines
        self._least_requests = limits.requests
        self._order = replace(order, seed=order.seed + draw, with_centralized=False)
        self._trace = redraw_arrivals(trace, order.seed + draw) if draw else trace
        self._replays: dict[tuple[str, Setting, int], tuple[bool, TokenomicsRow]] = {}
        self._priced: dict[tuple[str, Setting], Priced] = {}
        self._hint = {"edge": 0, "core": 0}

    @property
    def replays(self) -> int:
        """How many have been made."""
        return len(self._replays)

    def price(self, side: str, setting: Setting) -> Priced:
        """The cost of `edge` or `core` at a setting."""
        # All places are equally far from the core, and the edge does not use it.
        setting = replace(setting, skew=0.0) if side == "core" else replace(setting, rtt_ms=0.0)
        if (side, setting) not in self._priced:
            self._priced[side, setting] = self._found(side, setting)
        return self._priced[side, setting]

    def _found(self, side: str, setting: Setting) -> Priced:
        least = len(self._cell.places) if side == "edge" else 1
        most = max(self._most, least)
        enough = min(max(self._hint[side], least), most)
        too_few = least - 1
        while not self._replay(side, setting, enough)[0]:
            too_few = enough
            if enough == most:
                return Priced(None, None, None, None, self._replay(side, setting, most)[1].attainment or 0.0)
            enough = min(most, enough * 2)
        while enough - too_few > 1:
            # First just below what is enough: a neighbouring setting has told the likely answer.
            middle = enough - 1 if enough == self._hint[side] else (enough + too_few) // 2
            if self._replay(side, setting, middle)[0]:
                enough = middle
            else:
                too_few = middle
        self._hint[side] = enough
        row = self._replay(side, setting, enough)[1]
        offer = self._cell.edge_offer if side == "edge" else self._cell.core_offer
        busy = None
        if row.usd_per_mtok_goodput is not None and row.usd > 0:
            busy = row.usd_per_mtok_goodput * (row.usd - row.gpu_idle_usd) / row.usd
        return Priced(enough, enough * offer.tensor_parallel, row.usd_per_mtok_goodput, busy, row.attainment or 0.0)

    def _replay(self, side: str, setting: Setting, engines: int) -> tuple[bool, TokenomicsRow]:
        key = (side, setting, engines)
        if key not in self._replays:
            run = self._run(side, setting, engines)
            self._replays[key] = keeps_promises(run), total_row(run)
        return self._replays[key]

    def _run(self, side: str, setting: Setting, engines: int) -> Run:
        cell = self._cell
        shares = skewed(cell, setting.skew) if setting.skew else np.full(len(cell.places), 1 / len(cell.places))
        trace = placed(self._trace, cell, shares, self._order.seed - self._draw)
        trace = at_load(trace, setting.load_rps, self._least_requests)
        resources = [
            *(one for one in cell.common if one is not cell.workload),
            _with_budget(cell.workload, setting.budget),
            *(clusters_at_edge(cell, engines) if side == "edge" else [cluster_at_core(cell, engines)]),
            *(links_to_core(cell, setting.rtt_ms) if side == "core" else ()),
        ]

        def changed(image: GridImage) -> GridImage:
            return with_profile_errors(image, self._order.seed) if self._draw else image

        return replayed("trial", trace, resources, self._policy, self._order, Listener(), "", changed)


def keeps_promises(run: Run) -> bool:
    """Whether every promise of the workload holds on this run, exactly as counted."""
    return all(is_kept(row) for row in sla(run, ["workload"]).workloads)


def is_kept(row: SlaRow) -> bool:
    """Whether a promise holds exactly on its run; one that applied to no request is not broken."""
    return row.applicable == 0 or row.bad <= row.budget_requests + 1e-9


def rate_rps(trace: Trace) -> float:
    """Requests a second between the first arrival and the last; of a trace that has no span, as if it took a second."""
    return (len(trace) - 1) * NS_PER_S / trace.duration_ns if trace.duration_ns else float(max(1, len(trace)))


def at_load(trace: Trace, load_rps: float, least: int) -> Trace:
    """The first requests of the trace at that mean rate: at least so many, and at least `LEAST_SPAN_S` of them, so that
    queues have time to build up and the end, when the last answers are waited for, is short beside the rest."""
    wanted = max(least, math.ceil(load_rps * LEAST_SPAN_S))
    trace = cut(trace, limit=wanted) if wanted < len(trace) else trace
    return scale_time(trace, load_rps / rate_rps(trace))


def placed(trace: Trace, cell: Cell, shares: Sequence[float] | np.ndarray, seed: int) -> Trace:
    """The trace with every request (every session as a whole) from one of the cell's places, and for its workload."""
    index = np.arange(len(trace))
    keys = np.where(trace.session >= 0, _SESSION_KEYS + trace.session, index)
    origin = choices(np.asarray(shares, np.float64), uniforms(seed, "plan/places", keys)).astype(np.int32)
    return replace(
        trace,
        origin=origin,
        origins=tuple(site.name for site in cell.places),
        workload=np.zeros(len(trace), np.int32),
        workloads=(cell.workload.name,),
    )


def clusters_at_edge(cell: Cell, engines: int) -> list[Resource]:
    """The engines dealt out over the places, the first places getting what is over."""
    each, over = divmod(engines, len(cell.places))
    made: list[Resource] = []
    for number, site in enumerate(cell.places):
        count = each + (number < over)
        if count:
            made.append(
                _cluster(f"plan-edge-{number}", site.name, cell.edge_offer.gpu, cell.edge_usd, cell, "edge", count)
            )
    return made


def cluster_at_core(cell: Cell, engines: int) -> Resource:
    """All engines at the core."""
    return _cluster(CORE, CORE, cell.core_offer.gpu, cell.core_usd, cell, "core", engines)


def _cluster(name: str, site: str, gpu: str, usd: float, cell: Cell, side: str, engines: int) -> Cluster:
    offer = cell.edge_offer if side == "edge" else cell.core_offer
    spec = ClusterSpec(
        site=site,
        gpu=gpu,
        gpus=engines * offer.tensor_parallel,
        usd_per_gpu_hour=usd,
        deployments=(offer.deployment(engines),),
    )
    return Cluster(metadata=Metadata(name=name), spec=spec)


def _with_budget(workload: Workload, factor: float) -> Workload:
    """The workload with every latency threshold but TPOT's multiplied."""
    if factor == 1.0:
        return workload
    objectives = tuple(one if one.metric == "tpot_ms" else _scaled(one, factor) for one in workload.spec.objectives)
    return msgspec.structs.replace(workload, spec=msgspec.structs.replace(workload.spec, objectives=objectives))


def _scaled(objective: Objective, factor: float) -> Objective:
    return msgspec.structs.replace(objective, threshold_ms=objective.threshold_ms * factor)
