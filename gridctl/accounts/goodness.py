"""Which requests were good, and the one cause of each that was not.

Good = completed, and no objective of the workload that applies was missed. Rejected and failed requests are bad, on
every objective. TPOT does not apply to a served answer of one token: it is neither good nor bad there.

The cause of a miss is what would have had to be different, the first of these that holds:

    outcome, any objective   outage     rejected or failed because no site or cluster took traffic
                             rejected   any other rejection
                             failed     any other failure
    network_ms               network    always
    tpot_ms                  preemption the request was preempted
                             compute    otherwise: steps too long for the batch it shared
    ttft_ms                  network    RTT and overhead alone exceed the threshold
                             queue      without its queueing time the request would have met it
                             preemption the request was preempted
                             compute    otherwise: too slow even without queue or preemption
    e2e_ms                   network, preemption, queue, compute, each as above

Preemption stands before queue for E2E, where the recomputed time dominates, and after it for TTFT, which a later
preemption, while decoding, cannot change. A request's own cause is that of its worst missed objective, by value over
threshold, the one declared first among equals; so every bad request has exactly one cause.

Source of the definition of good: DistServe (OSDI 2024), goodput as requests that adhere to their objectives.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gridctl.accounts.blocks import blank, blocks
from gridctl.accounts.clock import ClientClock, client_clock, nanoseconds
from gridctl.accounts.rows import COMPLETED, OUTAGE, REJECTED, Run, RunRows
from gridctl.resources import Objective

CAUSES = ("", "network", "queue", "compute", "preemption", "rejected", "outage", "failed")
NO_CAUSE, NETWORK, QUEUE, COMPUTE, PREEMPTION, CAUSE_REJECTED, CAUSE_OUTAGE, CAUSE_FAILED = range(8)


@dataclass(frozen=True, slots=True)
class Verdicts:
    """How some requests did on one objective. Columns of shape `(m,)`: `met` only where it `applies`; `times_ns` is
    `UNSERVED` where not served; `cause` is an index into `CAUSES`, 0 unless applicable and missed."""

    applies: NDArray[np.bool_]
    met: NDArray[np.bool_]
    times_ns: NDArray[np.int64]
    cause: NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class Goodness:
    """Every request judged, columns of shape `(n,)`: `cause` is an index into `CAUSES`, 0 exactly where `good`."""

    good: NDArray[np.bool_]
    cause: NDArray[np.int8]


def judge(run: Run, clock: ClientClock | None = None) -> Goodness:
    """Whether each request was good and, if not, why. A request without a known workload is good when completed."""
    clock = clock or client_clock(run)
    cause = blank(len(run.rows), np.int8)
    for some in blocks(len(run.rows)):
        cause[some] = _causes(run.part(some), clock.part(some))
    return Goodness(good=cause == NO_CAUSE, cause=cause)


def _causes(run: Run, clock: ClientClock) -> NDArray[np.int8]:
    cause = _outcome_causes(run.rows.outcome, run.rows.reason)
    for index, name in enumerate(run.info.workload_names):
        spec = run.info.workloads.get(name)
        if spec is None:
            continue
        members = np.flatnonzero((run.rows.workload == index) & clock.served)
        cause[members] = _worst_causes(run, clock, members, spec.objectives)
    return cause


def judge_objective(run: Run, clock: ClientClock, members: NDArray[np.intp], objective: Objective) -> Verdicts:
    """How the requests at the row numbers `members` did on one objective of their workload."""
    applies = clock.applies(objective.metric, members)
    times_ns = clock.times_ns(objective.metric)[members]
    threshold_ns = nanoseconds(objective.threshold_ms)
    served = clock.served[members]
    met = applies & served & (times_ns <= threshold_ns)
    late = applies & served & ~met
    cause = _outcome_causes(run.rows.outcome[members], run.rows.reason[members])
    cause[late] = _late_causes(run.rows, clock, members[late], objective.metric, threshold_ns)
    return Verdicts(applies=applies, met=met, times_ns=times_ns, cause=cause)


def count_causes(causes: NDArray[np.int8]) -> dict[str, int]:
    """How many requests each cause explains, most frequent first; causes that explain none are left out."""
    counts = np.bincount(causes, minlength=len(CAUSES))
    found = [(CAUSES[index], int(counts[index])) for index in range(1, len(CAUSES)) if counts[index]]
    return dict(sorted(found, key=lambda pair: -pair[1]))


def _outcome_causes(outcome: NDArray[np.int8], reason: NDArray[np.int8]) -> NDArray[np.int8]:
    """The cause of every request that was not served; none for those that were."""
    refused = np.where(outcome == REJECTED, CAUSE_REJECTED, CAUSE_FAILED)
    cause = np.where(reason == OUTAGE, CAUSE_OUTAGE, refused)
    return np.where(outcome == COMPLETED, NO_CAUSE, cause).astype(np.int8)


def _worst_causes(
    run: Run, clock: ClientClock, members: NDArray[np.intp], objectives: tuple[Objective, ...]
) -> NDArray[np.int8]:
    """For served requests: the cause of the missed objective with the largest value over threshold."""
    cause = np.full(len(members), NO_CAUSE, dtype=np.int8)
    worst = np.zeros(len(members), dtype=np.float64)
    for objective in objectives:
        verdicts = judge_objective(run, clock, members, objective)
        lateness = verdicts.times_ns / nanoseconds(objective.threshold_ms)
        worse = (verdicts.cause != NO_CAUSE) & (lateness > worst)
        cause[worse] = verdicts.cause[worse]
        worst[worse] = lateness[worse]
    return cause


def _late_causes(
    rows: RunRows, clock: ClientClock, late: NDArray[np.intp], metric: str, threshold_ns: int
) -> NDArray[np.int8]:
    """The cause of each served request in `late`, all of which exceed the threshold of `metric`."""
    everywhere = np.ones(len(late), dtype=np.bool_)
    preempted = rows.preemptions[late] > 0
    if metric == "network_ms":
        return np.full(len(late), NETWORK, dtype=np.int8)
    if metric == "tpot_ms":
        return np.select([preempted, everywhere], [PREEMPTION, COMPUTE]).astype(np.int8)
    time_ns = clock.ttft_ns[late] if metric == "ttft_ms" else clock.e2e_ns[late]
    far = rows.rtt_ns[late] + clock.overhead_ns[late] > threshold_ns
    queued = time_ns - rows.queue_ns[late] <= threshold_ns
    if metric == "ttft_ms":
        return np.select([far, queued, preempted], [NETWORK, QUEUE, PREEMPTION], COMPUTE).astype(np.int8)
    return np.select([far, preempted, queued], [NETWORK, PREEMPTION, QUEUE], COMPUTE).astype(np.int8)
