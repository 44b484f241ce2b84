"""The tables that accounts make, column by column: the one definition of every number gridctl prints about a run.

A field's comment is its definition; its name carries its unit. The names are the JSON keys, so fields are only added.
How a number is computed stands in `tokenomics`, `sla` and `site_misses`; a quotient whose denominator is 0 is None.
"""

from __future__ import annotations

from typing import Literal

import msgspec

EVERYTHING = "*"  # a label the row does not tell apart
Status = Literal["met", "missed", "undecided", "no-data"]


class TokenomicsRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of the table. A field's comment is its definition."""

    workload: str  # the request's SLA class; "(idle)" holds GPUs of a tier that served nothing
    tier: str  # tier of the engine chosen; "-" when none was
    variant: str  # model/variant of the engine chosen; "-" when none was
    requests: int  # offered: completed + rejected + failed
    completed: int
    rejected: int
    failed: int
    good: int  # completed, no objective that applies missed
    attainment: float | None  # good ÷ requests
    input_tokens: int  # prompt tokens of every offered request
    served_input_tokens: int  # prompt tokens of completed requests
    cached_tokens: int  # of these, found in a prefix cache
    output_tokens: int  # answer tokens of completed requests
    good_output_tokens: int  # answer tokens of good requests
    prefix_cache_share: float | None  # cached_tokens ÷ served_input_tokens
    ttft_p50_ms: float | None  # nearest-rank percentiles of completed requests, as the client sees them:
    ttft_p95_ms: float | None  # RTT + overhead + queue + prefill to the first token
    ttft_p99_ms: float | None
    tpot_p50_ms: float | None  # (last − first token) ÷ (output tokens − 1), answers of two tokens or more
    tpot_p95_ms: float | None
    tpot_p99_ms: float | None
    e2e_p50_ms: float | None  # TTFT + (last − first token)
    e2e_p95_ms: float | None
    e2e_p99_ms: float | None
    throughput_tok_s: float | None  # output_tokens ÷ window
    throughput_rps: float | None  # completed ÷ window
    goodput_tok_s: float | None  # good_output_tokens ÷ window
    goodput_rps: float | None  # good ÷ window
    gpus: int  # owned GPUs of the tier and variant that served the row; of a tier or the total, all it owns
    throughput_tok_s_per_gpu: float | None  # output tokens from owned GPUs ÷ window ÷ gpus
    goodput_tok_s_per_gpu: float | None  # the good ones of these ÷ window ÷ gpus
    gpu_utilization: float | None  # GPU time attributed to the row's requests ÷ (gpus × window)
    gpu_busy_usd: float  # attributed GPU time × price
    gpu_idle_usd: float  # owned less busy GPU-hours × price; in a tier, pro rata of attributed GPU time
    serverless_usd: float  # billed function time × price
    egress_usd: float  # output tokens × 4 bytes × price per GB
    fallback_usd: float  # tokens bought from the fallback API
    energy_usd: float  # energy_kwh × price
    usd: float  # the six above
    energy_kwh: float | None  # busy and idle GPU time × watts; None where no GPU of the row states its watts
    usd_per_mtok: float | None  # usd per million tokens of completed requests, input and output
    usd_per_mtok_output: float | None  # usd per million output tokens
    usd_per_mtok_goodput: float | None  # usd per million output tokens of good requests


class Tokenomics(msgspec.Struct, frozen=True, kw_only=True):
    """The table of one run: finest rows, a subtotal per workload and per tier, and the total."""

    run: str
    trace: str
    policy: str
    algorithm: str
    window_s: float
    rows: tuple[TokenomicsRow, ...]
    workloads: tuple[TokenomicsRow, ...]
    tiers: tuple[TokenomicsRow, ...]
    total: TokenomicsRow


class SlaRow(msgspec.Struct, frozen=True, kw_only=True):
    """One objective of one group of requests. A field's comment is its definition."""

    workload: str
    tenant: str  # "*" over all tenants
    region: str  # region of the requests' origin; "*" over all regions
    objective: str  # "ttft_ms ≤ 500", "all objectives" or "availability"
    target: float  # share of requests that must be good on it
    requests: int  # valid: offered, by the group
    applicable: int  # of these, those the objective applies to
    good: int
    bad: int
    attained: float | None  # good ÷ applicable
    attained_low: float | None  # 95 % Clopper–Pearson interval of the share, for i.i.d. requests
    attained_high: float | None
    percentile: float | None  # of the objective; None for "all objectives" and "availability"
    threshold_ms: float | None
    observed_ms: float | None  # nearest-rank percentile, exact on this run; None too when it is a request never served
    observed_unserved: bool  # the percentile is a request never served: later than any threshold
    observed_low_ms: float | None  # 95 % order-statistic bounds of the percentile, for i.i.d. requests
    observed_high_ms: float | None  # None when n is too small for a bound, or the bound is a request never served
    requests_to_bound: int | None  # requests it takes for a finite upper bound of the percentile
    requests_to_prove: int  # requests it takes to prove the target with this many bad ones
    budget_requests: float  # (1 − target) × applicable: bad requests the target allows
    budget_left_share: float | None  # 1 − bad ÷ budget; negative when overspent
    burn: float | None  # (bad ÷ applicable) ÷ (1 − target); 1 spends the budget exactly
    status: Status
    main_cause: str  # the most frequent cause of its bad requests, "" when there are none
    causes: dict[str, int]  # bad requests by cause; they add up to `bad`


class SlaTotal(msgspec.Struct, frozen=True, kw_only=True):
    """The whole run, all workloads pooled."""

    requests: int
    good: int
    completed: int
    attained: float | None  # good ÷ requests
    available: float | None  # completed ÷ requests
    causes: dict[str, int]


class Sla(msgspec.Struct, frozen=True, kw_only=True):
    """The SLA table of one run: a pooled group of rows per workload, then the finer groups."""

    run: str
    trace: str
    policy: str
    total: SlaTotal
    workloads: tuple[SlaRow, ...]
    rows: tuple[SlaRow, ...]


class SiteMisses(msgspec.Struct, frozen=True, kw_only=True):
    """A serving site, by how many of the requests sent to it were bad; "-" holds those sent nowhere."""

    site: str
    tier: str
    requests: int
    bad: int
    bad_share: float
    main_cause: str
    main_workload: str  # the workload with most bad requests there
    causes: dict[str, int]
