"""The facts of a run beside its rows: how it was made, under which declarations, on which engines, and what went wrong.

Data only, as the run's JSON document keeps it: fields only grow. Knows no columns, so that whoever lists runs loads
none of what computes over them. Times are int64 nanoseconds.
"""

from __future__ import annotations

import msgspec

from gridctl.resources import WorkloadSpec

FOREVER_NS = 10 * 365 * 86_400 * 1_000_000_000
"""When what lasts for good is over: ten years, longer than any run."""


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
    """What caches did for one workload of a run. Its hits are the requests whose engine is of kind `cache`, the stale
    ones, answered from the cache past their time while an engine, which is theirs, was asked anew, and the audits:
    answered from the cache while an engine, which is theirs, was asked in order to check.

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
