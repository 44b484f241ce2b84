"""What one run leaves behind: a row per request, a row per engine, and the declarations the run was made under.

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

import msgspec
import numpy as np
from numpy.typing import NDArray

from gridctl.resources import WorkloadSpec

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

FOREVER_NS = 10 * 365 * 86_400 * 1_000_000_000
"""When what lasts for good is over: ten years, longer than any run."""


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


class EngineFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Where an engine stands, what it costs and how long it was busy.

    `kind`: `gpu` an engine on owned GPUs · `cache` answers given again, by level (`variant`) · `unused` GPUs of a
    cluster that no deployment uses, paid all the same ·
    `serverless` function instances · `api` the fallback API. Prices that do not apply are 0.
    `usd_per_gpu_hour` and the watts are per GPU; `gpus` counts those of this engine. Serverless is billed for the
    function time in `RunRows.serverless_ns`, the API for the tokens of completed requests.
    """

    kind: str
    cluster: str
    site: str
    tier: str
    region: str
    model: str
    variant: str
    gpus: int = 0
    usd_per_gpu_hour: float = 0.0
    busy_watts: float = 0.0
    idle_watts: float = 0.0
    usd_per_kwh: float = 0.0
    usd_per_serverless_ms: float = 0.0
    egress_usd_per_gb: float = 0.0
    usd_per_mtok_input: float = 0.0
    usd_per_mtok_output: float = 0.0
    busy_ns: int = 0


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """A place requests come from: the name the trace gave, and where that is."""

    name: str
    country: str
    region: str
    jurisdiction: str


class FaultFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One fault of a game day and what it cost. Times are on the trace's clock, as arrivals are; what lasts for good is
    over after FOREVER_NS.

    `lost` requests were in flight at a lost engine or on a lost path, or sent there before it was noticed: `restarted`
    ones were taken up elsewhere, `refused` ones by nobody, `failed` ones were given up. `begun` had streamed their
    first token. `tokens` of KV and `gpu_ns` of GPU or function time were spent on requests lost with their engine, in
    vain. `amount` is a factor or a share, `what` which price or what became of telemetry; `priced` are the numbers of
    the engines whose price changed; `origins` is how many of the trace's origins it touched, `added` how many requests
    a crowd brought.
    """

    kind: str
    text: str
    at_ns: int
    until_ns: int
    noticed_ns: int
    engines: int
    sites: tuple[str, ...]
    lost: int = 0
    restarted: int = 0
    refused: int = 0
    failed: int = 0
    begun: int = 0
    tokens: int = 0
    gpu_ns: int = 0
    amount: float = 1.0
    what: str = ""
    priced: tuple[int, ...] = ()
    origins: int = 0
    added: int = 0


class CacheFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What caches did for one workload of a run. Its hits are the requests whose engine is of kind `cache`, and the
    stale ones: answered from the cache past their time while an engine, which is theirs, was asked anew.

    `told_by` says how repeats were known: the prompts' text, answer keys and lengths, or prefix blocks. Wrong answers
    are known only where answer keys are: over requests with an interval of 95 %, and over hits. `saved_usd` is
    what the same requests cost without caches less what they cost with them (`caching.savings`), `saved_ms_per_hit` how
    much later the hits ended without.
    """

    workload: str
    mode: str
    told_by: str
    error_rate: float
    requests: int
    exact_hits: int
    shared_hits: int
    semantic_hits: int
    stale_hits: int = 0
    audits: int
    wrong: int | None
    wrong_per_request: float | None
    wrong_per_request_low: float | None
    wrong_per_request_high: float | None
    wrong_per_hit: float | None
    saved_usd: float = 0.0
    saved_ms_per_hit: float | None = None


class RunInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about a run but its request columns: how it was made, under which declarations, on which engines.

    Token counts are of all offered requests, completed or not. `window_ns` is the span owned GPUs are billed
    for: from the first arrival to the last token or refusal.
    """

    name: str
    trace: str
    policy: str
    algorithm: str
    seed: int
    created_ns: int
    wall_s: float
    requests: int
    completed: int
    rejected: int
    failed: int
    input_tokens: int
    output_tokens: int
    window_ns: int
    digest: str
    gridctl_version: str
    engines: tuple[EngineFacts, ...]
    origins: tuple[Origin, ...]
    workloads: dict[str, WorkloadSpec]
    workload_names: tuple[str, ...]
    tenant_names: tuple[str, ...]
    notes: tuple[str, ...] = ()
    faults: tuple[FaultFacts, ...] = ()
    calm: str = ""  # name of the run of the same requests without the faults
    crowds: tuple[int, ...] = ()  # those of `origins` whose requests a crowd of the faults added
    centralized: str = ""  # name of the run of the same trace on the same GPUs, all in the core
    cache: tuple[CacheFacts, ...] = ()  # by workload, of a run with caches
    live: str = ""  # the endpoint the trace was sent to, of a run that was no replay


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
