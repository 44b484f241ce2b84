"""Decision: the record of one routing decision, with every candidate as the router saw it, in words and units.

Data only; who fills it (a replay, a gateway) is not its business. Times are milliseconds, money is US dollars. What was
not known or does not apply is None, never 0: an engine with a full queue has no prediction.
"""

from __future__ import annotations

import msgspec


class ObjectiveForecast(msgspec.Struct, frozen=True, kw_only=True):
    """What was predicted of one objective: the prediction, its limit, their ratio, and P(miss)."""

    metric: str
    limit_ms: float
    predicted_ms: float
    ratio: float
    miss_probability: float


class Telemetry(msgspec.Struct, frozen=True, kw_only=True):
    """What the router saw of an engine, and what was true at that moment.

    `counts` says whose numbers in flight and pending are: the router's `own`, exact; or of the `scrape`. `state` is
    that of the scrape: `fresh`, `stale` (older than a period and the delay), `missing` (none had come yet). What was
    true is known in a replay only."""

    counts: str
    state: str
    scrape_age_ms: float | None
    seen_in_flight: int
    seen_pending_tokens: int
    seen_kv_tokens: int
    true_in_flight: int | None
    true_running: int | None
    true_waiting: int | None
    true_pending_tokens: int | None
    true_kv_tokens: int | None
    kv_capacity_tokens: int
    batch_slots: int


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """What a candidate was predicted to do and what choosing it costs.

    `ttft_ms` is the client's: rtt + overhead + queue + prefill. `prefill_ms` is what an idle engine with the same
    cached prefix takes (a cold start included), `queue_ms` what its load adds; both are None where only their sum is
    known. `usd` = `cash_usd` + `gpu_usd` + `miss_usd`, each weighed by the policy; `gpu_time_usd` is the added GPU time
    at its price, before weight and load."""

    queue_ms: float | None
    prefill_ms: float | None
    ttft_ms: float
    tpot_ms: float
    e2e_ms: float
    load: float
    cash_usd: float
    gpu_usd: float
    gpu_time_usd: float
    miss_usd: float
    usd: float
    miss_probability: float
    worst_ratio: float
    objectives: tuple[ObjectiveForecast, ...]


class Bound(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine could not have been better than, idle and with all of the prompt cached that was ever sent: the
    reason why the router need not look at it."""

    usd: float
    worst_ratio: float


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """One engine. `status`: `chosen`, `runner-up`, `weighed` or `refused`; `reason` is a word, `because` a sentence."""

    engine: int
    site: str
    tier: str
    cluster: str
    model: str
    variant: str
    kind: str
    status: str
    reason: str
    because: str
    rtt_ms: float | None
    cached_prefix_tokens: int | None
    forecast: Forecast | None
    bound: Bound | None
    telemetry: Telemetry | None
    usd_more: float | None = None  # than the chosen one


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """One request at the moment it was routed. `passed_over` counts, by reason, the engines that are no candidates.

    `expected_output_tokens` is what the router took the answer's length to be. Candidates come nearest first."""

    request: int
    at_ms: float
    policy: str
    origin: str
    workload: str
    tenant: str
    prompt_tokens: int
    expected_output_tokens: int
    overhead_ms: float
    when_infeasible: str
    miss_usd: float
    outcome: str
    reason: str
    chosen: int | None
    runner_up: int | None
    candidates: tuple[Candidate, ...]
    passed_over: dict[str, int]
