"""What the client of each request saw: network time, TTFT, TPOT and end to end, in whole nanoseconds.

    network = rtt (last mile and network)
    TTFT    = rtt + overhead + queue + compute
    TPOT    = (last token − first token) / (output tokens − 1), for answers of two tokens or more
    E2E     = TTFT + (last token − first token)

`overhead` is the workload's fixed client-side time (speech recognition, synthesis, voice activity detection). TPOT is
rounded up to the next nanosecond, so that it exceeds a threshold exactly when the unrounded quotient does. Only
completed requests have times; the others hold `UNSERVED`, which is later than every threshold, so a percentile over
all requests counts a refused one as never answered.

Source of the TPOT formula: vLLM `benchmarks/serve.py`; there a one-token answer counts as TPOT 0, here the quotient
does not exist and the objective does not apply.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from gridctl.accounts.blocks import blank, blocks
from gridctl.accounts.rows import COMPLETED, Run
from gridctl.resources.workload import ObjectiveMetric
from gridctl.units import NS_PER_MS

UNSERVED = int(np.iinfo(np.int64).max)


@dataclass(frozen=True, slots=True)
class ClientClock:
    """Columns of shape `(n,)`: `served` is completed; times are nanoseconds, or `UNSERVED` where not served.

    `has_tpot` marks served requests of two output tokens or more; elsewhere `tpot_ns` is `UNSERVED`.
    """

    served: NDArray[np.bool_]
    has_tpot: NDArray[np.bool_]
    overhead_ns: NDArray[np.int64]
    network_ns: NDArray[np.int64]
    ttft_ns: NDArray[np.int64]
    tpot_ns: NDArray[np.int64]
    e2e_ns: NDArray[np.int64]

    def times_ns(self, metric: ObjectiveMetric) -> NDArray[np.int64]:
        """The column of one metric."""
        columns = {
            "network_ms": self.network_ns,
            "ttft_ms": self.ttft_ns,
            "tpot_ms": self.tpot_ns,
            "e2e_ms": self.e2e_ns,
        }
        return columns[metric]

    def part(self, some: slice) -> ClientClock:
        """The times of some of the requests, as views."""
        return ClientClock(**{field.name: getattr(self, field.name)[some] for field in fields(ClientClock)})

    def applies(self, metric: ObjectiveMetric, members: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Which of the row numbers `members` an objective on `metric` applies to: all, but for TPOT a served answer
        of one token."""
        if metric == "tpot_ms":
            return ~self.served[members] | self.has_tpot[members]
        return np.ones(len(members), dtype=np.bool_)


def client_clock(run: Run) -> ClientClock:
    """The client's times of every request of the run."""
    n = len(run.rows)
    clock = ClientClock(
        served=blank(n, np.bool_),
        has_tpot=blank(n, np.bool_),
        overhead_ns=blank(n, np.int64),
        network_ns=blank(n, np.int64),
        ttft_ns=blank(n, np.int64),
        tpot_ns=blank(n, np.int64),
        e2e_ns=blank(n, np.int64),
    )
    for some in blocks(n):
        part = _clock(run.part(some))
        for field in fields(ClientClock):
            getattr(clock, field.name)[some] = getattr(part, field.name)
    return clock


def _clock(run: Run) -> ClientClock:
    rows = run.rows
    served = rows.outcome == COMPLETED
    has_tpot = served & (rows.output_tokens >= 2)
    overhead_ns = overheads_ns(run)
    ttft_ns = rows.rtt_ns + overhead_ns + rows.queue_ns + rows.compute_ns
    gaps = np.maximum(rows.output_tokens - 1, 1)
    return ClientClock(
        served=served,
        has_tpot=has_tpot,
        overhead_ns=overhead_ns,
        network_ns=np.where(served, rows.rtt_ns, UNSERVED),
        ttft_ns=np.where(served, ttft_ns, UNSERVED),
        tpot_ns=np.where(has_tpot, -(-rows.decode_ns // gaps), UNSERVED),
        e2e_ns=np.where(served, ttft_ns + rows.decode_ns, UNSERVED),
    )


def overheads_ns(run: Run) -> NDArray[np.int64]:
    """The fixed client-side time of each request's workload, shape `(n,)`; 0 for a request without a workload."""
    per_workload = np.zeros(len(run.info.workload_names) + 1, dtype=np.int64)  # the last entry serves index −1
    for index, name in enumerate(run.info.workload_names):
        spec = run.info.workloads.get(name)
        per_workload[index] = nanoseconds(spec.overhead_ms) if spec else 0
    return per_workload[run.rows.workload]


def nanoseconds(milliseconds: float) -> int:
    """Milliseconds as the nearest whole nanosecond.

    >>> nanoseconds(0.3)
    300000
    """
    return round(milliseconds * NS_PER_MS)
