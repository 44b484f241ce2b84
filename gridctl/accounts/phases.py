"""Phases: what a game day did to a run — before, during and after each fault, recovery, and where requests went.

A fault's phases are of the requests that arrive in them: before (since the fault ahead of it ended, or the run began),
during (while it lasts), after (until the next begins, or the run ends). Faults that overlap in time share requests.
What a crowd added has no counterpart in the calm run: it counts in `requests` and `good`, and is left out of everything
that stands beside the calm run.

Dollars of a phase: what owned GPUs cost over its seconds, busy or not, at the prices of the time, and what its requests
cost in functions, egress and tokens bought. Phases that cover a run add up to its total.

Recovery: w = the requests before the fault, at most 100. From the fault's beginning on, the share of good requests
among the last w is watched, beside the same share of the same requests in the calm run; where there is no calm run,
beside p, the share before the fault. The fault is felt while the watched share is lower by more than
1.96·√(p(1 − p)/w) + 1/w: the 95 % error of such a share by the normal approximation, and one request for what that
cannot tell of a share of 1. It is over with the first request from which on it is not felt before the next fault; a
run that ends while it is felt has not recovered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from math import sqrt

import msgspec
import numpy as np
from numpy.typing import NDArray

from gridctl.accounts.clock import client_clock
from gridctl.accounts.facts import FaultFacts
from gridctl.accounts.goodness import judge
from gridctl.accounts.movement import Flow, movement
from gridctl.accounts.pairing import unpaired
from gridctl.accounts.percentiles import percentiles
from gridctl.accounts.price_changes import gpu_hour_surplus_usd
from gridctl.accounts.rows import COMPLETED, FAILED, REJECTED, Run, RunRows
from gridctl.accounts.usd import ledger
from gridctl.units import NS_PER_S, TOKENS_PER_MTOK, ms

PHASES = ("before", "during", "after")
MOST_WATCHED = 100
"""Requests whose share of good ones is watched: a share of 100 is known to ten percent at worst."""
NORMAL_95 = 1.96


class Phase(msgspec.Struct, frozen=True, kw_only=True):
    """The requests that arrived in one phase of a fault, and the same requests in the calm run."""

    phase: str  # before, during, after
    from_s: float
    until_s: float
    requests: int
    added: int  # of these, brought by a crowd
    good: int
    attainment: float | None  # good ÷ requests
    calm_attainment: float | None  # of the same requests without the faults
    rejected: int
    failed: int
    ttft_ms_p50: float | None
    ttft_ms_p99: float | None
    e2e_ms_p99: float | None
    usd: float
    usd_per_mtok_goodput: float | None


class FaultReport(msgspec.Struct, frozen=True, kw_only=True):
    """A fault: what it was, what it cost, how it went."""

    fault: FaultFacts
    phases: tuple[Phase, ...]
    good_lost: int | None  # good requests of the calm run during and after, less those of this one
    felt: bool  # whether the watched share fell below its error of before
    recovered_s: float | None  # from the fault's beginning; 0 when it was not felt, None when the run ends before
    flows: tuple[Flow, ...]  # requests during the fault that another site served than in the calm run


class GameDayReport(msgspec.Struct, frozen=True, kw_only=True):
    """Every fault of a run. `calm` is the run it is paired with; "" when it is gone or is not of the same requests."""

    run: str
    trace: str
    policy: str
    calm: str
    requests: int
    added: int  # of these, brought by crowds
    completed: int
    rejected: int
    failed: int
    good: int
    added_good: int  # of these, brought by crowds
    calm_good: int | None
    usd: float
    calm_usd: float | None
    faults: tuple[FaultReport, ...]


class Judged:
    """A run with what the phases are made from. `own` are the requests that no crowd added."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.good = judge(run).good
        self.clock = client_clock(run)
        spent = ledger(run)
        self.cash_usd = spent.serverless_usd + spent.egress_usd + spent.fallback_usd
        owned = float((spent.gpu_busy_usd + spent.gpu_idle_usd + spent.energy_usd).sum())
        self.owned_usd = owned + sum(part.gpu_idle_usd + part.energy_usd for part in spent.stranded)
        self.usd = self.owned_usd + float(self.cash_usd.sum())
        self.own = ~added_by_crowds(run)
        self.own_good = self.good[self.own]
        self.own_arrival_ns = run.rows.arrival_ns[self.own]


def added_by_crowds(run: Run) -> NDArray[np.bool_]:
    """Which requests a crowd of the faults added, shape `(n,)`."""
    return np.isin(run.rows.origin, run.info.crowds)


def without_crowds(run: Run) -> Run:
    """The run with the requests alone that are there without its faults, too."""
    if not run.info.crowds:
        return run
    own = ~added_by_crowds(run)
    columns = {field.name: getattr(run.rows, field.name)[own] for field in fields(RunRows)}
    return Run(run.info, RunRows(**columns))


def game_day(run: Run, calm: Run | Judged | None, most_flows: int = 10) -> GameDayReport:
    """What the faults of a run did to it, beside the same requests without them, judged once for many. O(n log n) per
    fault."""
    own = without_crowds(run)
    beside = calm if isinstance(calm, Judged) or calm is None else Judged(calm)
    if beside is not None and unpaired(beside.run, own):
        beside = None
    calm = beside.run if beside is not None else None
    judged = Judged(run)
    info = run.info
    return GameDayReport(
        run=info.name,
        trace=info.trace,
        policy=info.policy,
        calm=calm.info.name if calm is not None else "",
        requests=info.requests,
        added=int((~judged.own).sum()),
        completed=info.completed,
        rejected=info.rejected,
        failed=info.failed,
        good=int(judged.good.sum()),
        added_good=int(judged.good[~judged.own].sum()),
        calm_good=int(beside.good.sum()) if beside is not None else None,
        usd=judged.usd,
        calm_usd=beside.usd if beside is not None else None,
        faults=tuple(_fault(judged, own, beside, fault, most_flows) for fault in info.faults),
    )


def _fault(judged: Judged, own: Run, calm: Judged | None, fault: FaultFacts, most_flows: int) -> FaultReport:
    run = judged.run
    begin, end = _span(run)
    others = [one for one in run.info.faults if one is not fault]
    start = max([begin, *(one.until_ns for one in others if one.until_ns <= fault.at_ns)])
    stop = min([end, *(one.at_ns for one in others if one.at_ns >= fault.until_ns)])
    edges = np.clip([start, fault.at_ns, fault.until_ns, max(stop, start)], begin, end)
    parts = _parts(run.rows.arrival_ns, edges, end)
    own_parts = _parts(judged.own_arrival_ns, edges, end)
    calm_good = calm.good if calm else None
    felt, recovered_s = _recovery(judged.own_good, calm_good, judged.own_arrival_ns, own_parts, fault.at_ns)
    flows: Sequence[Flow] = ()
    good_lost = None
    if calm is not None:
        late = slice(own_parts[1].start, own_parts[2].stop)
        good_lost = int(calm.good[late].sum()) - int(judged.own_good[late].sum())
        if most_flows and own_parts[1].stop > own_parts[1].start:
            moved = movement(calm.run.part(own_parts[1]), own.part(own_parts[1]), "site", 0)
            flows = [flow for flow in moved.flows if flow.before != flow.after][:most_flows]
    return FaultReport(
        fault=fault,
        phases=tuple(
            _phase(name, judged, calm, parts[number], own_parts[number], (int(edges[number]), int(edges[number + 1])))
            for number, name in enumerate(PHASES)
        ),
        good_lost=good_lost,
        felt=felt,
        recovered_s=recovered_s,
        flows=tuple(flows),
    )


def _parts(arrival_ns: NDArray[np.int64], edges: NDArray[np.int64], end: int) -> list[slice]:
    """The requests between one edge and the next; the last phase holds the last arrival, too."""
    places = np.searchsorted(arrival_ns, [*edges[:3], edges[3] + 1 if edges[3] == end else edges[3]])
    return [slice(int(places[number]), int(max(places[number], places[number + 1]))) for number in range(3)]


def _span(run: Run) -> tuple[int, int]:
    """The run's window on the trace's clock."""
    begin = int(run.rows.arrival_ns[0]) if len(run.rows) else 0
    return begin, begin + run.info.window_ns


def _phase(name: str, judged: Judged, calm: Judged | None, part: slice, own: slice, span: tuple[int, int]) -> Phase:
    """Requests `part` of the run arrived in the phase, and `own` of those that are in the calm run, too."""
    rows = judged.run.rows
    good = judged.good[part]
    served = rows.outcome[part] == COMPLETED
    requests, n_good = part.stop - part.start, int(good.sum())
    ttft = percentiles(judged.clock.ttft_ns[part][served], (50.0, 99.0))
    e2e = percentiles(judged.clock.e2e_ns[part][served], (99.0,))
    lasted_ns, info = max(0, span[1] - span[0]), judged.run.info
    dearer_usd = gpu_hour_surplus_usd(info, _span(judged.run))
    usd = (judged.owned_usd - dearer_usd) * lasted_ns / max(1, info.window_ns)
    usd += gpu_hour_surplus_usd(info, span) + float(judged.cash_usd[part].sum())
    tokens = int(rows.output_tokens[part][good].sum())
    return Phase(
        phase=name,
        from_s=span[0] / NS_PER_S,
        until_s=span[1] / NS_PER_S,
        requests=requests,
        added=requests - (own.stop - own.start),
        good=n_good,
        attainment=n_good / requests if requests else None,
        calm_attainment=float(calm.good[own].mean()) if calm is not None and own.stop > own.start else None,
        rejected=int((rows.outcome[part] == REJECTED).sum()),
        failed=int((rows.outcome[part] == FAILED).sum()),
        ttft_ms_p50=ms(ttft[0]) if ttft[0] is not None else None,
        ttft_ms_p99=ms(ttft[1]) if ttft[1] is not None else None,
        e2e_ms_p99=ms(e2e[0]) if e2e[0] is not None else None,
        usd=usd,
        usd_per_mtok_goodput=usd / tokens * TOKENS_PER_MTOK if tokens else None,
    )


def _recovery(
    good: NDArray[np.bool_],
    calm: NDArray[np.bool_] | None,
    arrival_ns: NDArray[np.int64],
    parts: Sequence[slice],
    at_ns: int,
) -> tuple[bool, float | None]:
    """Whether the fault was felt, and how long until it no longer was; see the module's rule."""
    before, last = good[parts[0]], parts[2].stop
    watched = min(MOST_WATCHED, len(before))
    if not watched or last <= parts[1].start:
        return False, 0.0
    share = float(before.mean())
    error = NORMAL_95 * sqrt(share * (1 - share) / watched) + 1 / watched
    numbers = np.arange(parts[1].start, last)

    def rolling(which: NDArray[np.bool_]) -> NDArray[np.float64]:
        sums = np.concatenate([[0], np.cumsum(which[:last])])
        shares: NDArray[np.float64] = (sums[numbers + 1] - sums[numbers + 1 - watched]) / watched
        return shares

    reference = rolling(calm) if calm is not None else np.full(len(numbers), share)
    below = np.flatnonzero(rolling(good) < reference - error)
    if not len(below):
        return False, 0.0
    following = int(below[-1]) + 1
    if following == len(numbers):
        return True, None
    return True, float(arrival_ns[numbers[following]] - at_ns) / NS_PER_S
