"""What one run leaves behind: a row per request, as columns, beside the facts of the run.

Times are int64 nanoseconds. A request's clock, as its client sees it:

    arrival ──access+network RTT──▶ … queue … prefill … first token … last token
    ttft = rtt + overhead + queue + compute      e2e = ttft + (last token − first token)

`rtt_ns` holds the whole round trip (last mile and network); `queue_ns` is from arrival at the engine to first being
scheduled; `compute_ns` from there to the first token, whatever happened in between (a preemption included);
`decode_ns` from the first token to the last. Rows of requests that did not complete hold 0 in the time columns they
never reached.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gridctl.accounts.facts import RunInfo

OUTCOMES = ("completed", "rejected", "failed")
COMPLETED, REJECTED, FAILED = range(3)

REASONS = (
    "",
    "no-model",  # no deployment of a model the workload accepts
    "jurisdiction",  # such deployments exist, none where the request may be served
    "quality",  # … none that meets the quality floor
    "outage",  # … none whose site and cluster take traffic
    "infeasible",  # the router predicted a miss everywhere and the workload asked to reject early
    "queue-full",  # the chosen engine had no room in its queue
    "too-long",  # the context exceeds what the engine can hold (failed)
    "lost",  # the engine was lost, and the policy sent the request nowhere else (failed)
    "tier",  # deployments that meet the quality floor exist, none of a tier the policy allows
    "too-far",  # engines exist that could serve it, none within the policy's longest round trip
    "refused",  # live: the endpoint refused it for a reason of its own
    "broken",  # live: the answer broke off, or was none (failed)
    "timeout",  # live: no complete answer in time (failed)
)
NO_REASON, NO_MODEL, JURISDICTION, QUALITY, OUTAGE, INFEASIBLE, QUEUE_FULL, TOO_LONG, LOST, TIER, TOO_FAR = range(11)
REFUSED, BROKEN, TIMEOUT = range(11, 14)


@dataclass(frozen=True, slots=True)
class RunRows:
    """Columns of shape `(n,)`, one entry per offered request, in order of arrival.

    `engine` indexes `Run.engines` (−1: none was chosen); `origin`, `workload`, `tenant` index the run's name tuples.
    `gpu_ns` is GPU time attributed to the request: of every engine step, the share its tokens had in the batch, times
    the GPUs of the engine; summed over requests it is the busy GPU time. `serverless_ns` is billed function time.
    """

    arrival_ns: NDArray[np.int64]
    origin: NDArray[np.int32]
    workload: NDArray[np.int32]
    tenant: NDArray[np.int32]
    engine: NDArray[np.int32]
    outcome: NDArray[np.int8]
    reason: NDArray[np.int8]
    input_tokens: NDArray[np.int64]
    cached_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    rtt_ns: NDArray[np.int64]
    queue_ns: NDArray[np.int64]
    compute_ns: NDArray[np.int64]
    decode_ns: NDArray[np.int64]
    preemptions: NDArray[np.int32]
    gpu_ns: NDArray[np.int64]
    serverless_ns: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.arrival_ns)

    def part(self, some: slice) -> RunRows:
        """Some of the rows, as views."""
        return RunRows(**{field.name: getattr(self, field.name)[some] for field in dataclasses.fields(RunRows)})


def empty_rows(n: int) -> RunRows:
    """Columns of `n` zeros."""
    return RunRows(**{name: np.zeros(n, dtype) for name, dtype in ROW_TYPES.items()})


ROW_TYPES: dict[str, type[np.signedinteger[Any]]] = {
    **dict.fromkeys((field.name for field in dataclasses.fields(RunRows)), np.int64),
    **dict.fromkeys(("origin", "workload", "tenant", "engine", "preemptions"), np.int32),
    **dict.fromkeys(("outcome", "reason"), np.int8),
}
"""The type of each column."""


@dataclass(frozen=True, slots=True)
class Run:
    """A replay's (or a live session's) complete result, or the part of it that arrived in `parts_ns`: from and until
    when, on the trace's clock; `info.window_ns` is then how long they last together."""

    info: RunInfo
    rows: RunRows
    parts_ns: tuple[tuple[int, int], ...] = ()

    def part(self, some: slice) -> Run:
        """The run with some of its rows only; `info` still describes all of it."""
        return Run(self.info, self.rows.part(some), self.parts_ns)

    @property
    def spans_ns(self) -> tuple[tuple[int, int], ...]:
        """When owned GPUs are paid for: the window, or the parts of it."""
        begin = int(self.rows.arrival_ns[0]) if len(self.rows) else 0
        return self.parts_ns or ((begin, begin + self.info.window_ns),)
