"""What planning finds, as tables: break-even points and placements. The names are the JSON keys, so fields are only
added. Computes nothing.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Verdict = Literal["edge", "core", "same", "undecided", "neither"]
"""Who is cheaper at one setting: `same` within the margin, `neither` when no fleet of either meets the SLA."""
Breakpoint = Literal["from", "until", "always", "never", "undecided", "neither"]
Axis = Literal["rtt", "load", "budget", "skew"]


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One arrangement at one setting: the smallest fleet that meets the SLA, in the plain replay, and its cost."""

    engines: int | None  # None: no fleet that was tried meets the SLA
    gpus: int | None
    usd_per_mtok_goodput: float | None  # everything paid, idle GPUs too, per million output tokens of good requests
    usd_low: float | None  # over the draws that meet the SLA
    usd_high: float | None
    busy_usd_per_mtok_goodput: float | None  # the same with idle GPU-hours left out, as if others paid for them
    attainment: float  # share of good requests of that fleet; of the largest tried where none meets the SLA
    meets: int  # replays in which some fleet meets the SLA


class CurvePoint(msgspec.Struct, frozen=True, kw_only=True):
    """Edge and core where one thing is changed and all else is as in the cell."""

    workload: str
    region: str
    axis: Axis
    value: float  # ms, requests a second, ms, or share
    unit: str
    edge: Side
    core: Side
    verdict: Verdict


class BreakEven(msgspec.Struct, frozen=True, kw_only=True):
    """Where along an axis the edge starts (`from`) or ceases (`until`) to pay."""

    axis: Axis
    unit: str
    verdict: Breakpoint
    value: float | None  # median over the replays; None unless the verdict is from or until
    low: float | None  # over the replays that have a break-even
    high: float | None
    least: float  # the axis was searched from here
    most: float  # to here
    paying: int  # replays in which the edge pays somewhere on the axis
    replays: int


class BreakEvenRow(msgspec.Struct, frozen=True, kw_only=True):
    """One workload in one region."""

    workload: str
    region: str
    places: tuple[str, ...]
    edge_engine: str
    core_engine: str
    edge_usd_per_gpu_hour: float
    core_usd_per_gpu_hour: float
    rtt_ms: float  # demand-weighted, from the places to the nearest core site that may serve them
    core_site: str
    load_rps: float
    budget_ms: float  # threshold of the tightest latency objective
    skew: float  # share of the demand at the largest place
    edge: Side
    core: Side
    verdict: Verdict
    breakevens: tuple[BreakEven, ...]
    notes: tuple[str, ...]


class BreakEvens(msgspec.Struct, frozen=True, kw_only=True):
    """Every cell, and the curves they were found on."""

    policy: str
    trace: str
    replays: int  # draws per setting, the plain one among them
    replayed: int  # how many small scenarios were replayed in all
    margin: float
    items: tuple[BreakEvenRow, ...]
    curves: tuple[CurvePoint, ...]


class PlacedEngines(msgspec.Struct, frozen=True, kw_only=True):
    """Engines of one kind at one site."""

    site: str
    tier: str
    country: str
    gpu: str
    variant: str
    tensor_parallel: int
    engines: int
    gpus: int
    usd_per_hour: float


class PromiseKept(msgspec.Struct, frozen=True, kw_only=True):
    """One workload under one placement, in the replay: its worst promise."""

    workload: str
    objective: str
    target: float
    attained: float | None
    requests: int
    is_met: bool
    main_cause: str
    late_share: float  # of its demand, planned to be served beyond its budget, within what the SLA leaves


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """One solve and its replay."""

    number: int
    usd_per_hour: float
    gap: float  # 1 − bound ÷ dollars: by how much the first round's program could be cheaper still, at most
    bound_usd_per_hour: float  # no placement costs less by that program, whose capacities are careful
    stopped_by: str  # gap, time or nodes
    gpus: int
    replayed_usd_per_hour: float
    attainment: float
    missed: tuple[str, ...]  # workloads


class Arrangement(msgspec.Struct, frozen=True, kw_only=True):
    """A placement, planned and replayed."""

    name: str  # plan, all-core, all-edge; today: the grid's own clusters
    is_feasible: bool  # the program met every demand
    meets_sla: bool  # the replay kept every promise
    sites: int
    engines: int
    gpus: int
    usd_per_hour: float  # planned: GPU-hours, and functions by use
    replayed_usd_per_hour: float  # everything paid in the replay
    usd_per_mtok_goodput: float | None
    attainment: float
    gpu_utilization: float | None
    promises: tuple[PromiseKept, ...]
    placed: tuple[PlacedEngines, ...]
    rounds: tuple[Round, ...]  # none for today
    trimmed: int  # engines taken away after the last round because the replay spares them
    notes: tuple[str, ...]

    @property
    def cost_gap(self) -> float | None:
        """Replayed over planned dollars, less 1."""
        return self.replayed_usd_per_hour / self.usd_per_hour - 1 if self.usd_per_hour else None


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """The cheapest placement found, beside all-core and all-edge."""

    trace: str
    policy: str
    requests: int
    demand_places: int
    candidate_sites: int
    considered_sites: int
    offers: tuple[str, ...]
    chosen: str  # the arrangement that is cheapest among those that keep every promise; `plan` when none does
    finding: str
    arrangements: tuple[Arrangement, ...]
    notes: tuple[str, ...]
