"""Gate: a threshold on a run's number. A missed gate fails a pipeline.

Names the numbers a gate may test and what scopes them; what a number is stands in the accounts. Times are those of
completed requests, as in the tokenomics table; `attained.*`, `attainment` and `availability` count requests that were
never answered, too.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, get_args

import msgspec
from msgspec import Meta

from gridctl.resources.quantity import Text
from gridctl.resources.resource import Resource

TimeMetric = Literal[
    "network_ms.mean",
    "network_ms.p50",
    "network_ms.p75",
    "network_ms.p90",
    "network_ms.p95",
    "network_ms.p98",
    "network_ms.p99",
    "network_ms.p99.5",
    "network_ms.p99.9",
    "queue_ms.mean",
    "queue_ms.p50",
    "queue_ms.p75",
    "queue_ms.p90",
    "queue_ms.p95",
    "queue_ms.p98",
    "queue_ms.p99",
    "queue_ms.p99.5",
    "queue_ms.p99.9",
    "ttft_ms.mean",
    "ttft_ms.p50",
    "ttft_ms.p75",
    "ttft_ms.p90",
    "ttft_ms.p95",
    "ttft_ms.p98",
    "ttft_ms.p99",
    "ttft_ms.p99.5",
    "ttft_ms.p99.9",
    "tpot_ms.mean",
    "tpot_ms.p50",
    "tpot_ms.p75",
    "tpot_ms.p90",
    "tpot_ms.p95",
    "tpot_ms.p98",
    "tpot_ms.p99",
    "tpot_ms.p99.5",
    "tpot_ms.p99.9",
    "e2e_ms.mean",
    "e2e_ms.p50",
    "e2e_ms.p75",
    "e2e_ms.p90",
    "e2e_ms.p95",
    "e2e_ms.p98",
    "e2e_ms.p99",
    "e2e_ms.p99.5",
    "e2e_ms.p99.9",
]
ShareMetric = Literal[
    "attainment",
    "availability",
    "rejected_share",
    "failed_share",
    "attained.network_ms",
    "attained.ttft_ms",
    "attained.tpot_ms",
    "attained.e2e_ms",
    "prefix_cache_share",
    "gpu_utilization",
]
UsdMetric = Literal[
    "usd_per_mtok",
    "usd_per_mtok_output",
    "usd_per_mtok_goodput",
    "usd",
    "gpu_busy_usd",
    "gpu_idle_usd",
    "serverless_usd",
    "egress_usd",
    "fallback_usd",
    "energy_usd",
]
RateMetric = Literal[
    "throughput_tok_s",
    "throughput_rps",
    "goodput_tok_s",
    "goodput_rps",
    "throughput_tok_s_per_gpu",
    "goodput_tok_s_per_gpu",
]
CountMetric = Literal[
    "requests",
    "completed",
    "rejected",
    "failed",
    "good",
    "input_tokens",
    "served_input_tokens",
    "cached_tokens",
    "output_tokens",
    "good_output_tokens",
    "preemptions",
    "gpus",
    "promises_met",
    "promises_missed",
    "promises_undecided",
]
PlainMetric = Literal["burn", "budget_left_share", "energy_kwh"]
GateMetric = Literal[TimeMetric, ShareMetric, UsdMetric, RateMetric, CountMetric, PlainMetric]

TIMES: tuple[str, ...] = get_args(TimeMetric)
SHARES: tuple[str, ...] = get_args(ShareMetric)
DOLLARS: tuple[str, ...] = get_args(UsdMetric)
RATES: tuple[str, ...] = get_args(RateMetric)
COUNTS: tuple[str, ...] = get_args(CountMetric)
METRICS: tuple[str, ...] = (*TIMES, *SHARES, *DOLLARS, *RATES, *COUNTS, *get_args(PlainMetric))

GateOp = Literal["<", "<=", ">", ">="]
OPS: tuple[GateOp, ...] = get_args(GateOp)
SCOPES = ("workload", "tenant", "region", "origin", "tier", "site", "model", "variant")


class GateSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """`metric op value`, over the whole run or the requests of one workload, tenant, region, site, …"""

    metric: GateMetric
    op: GateOp
    value: Annotated[float, Meta(ge=-1e15, le=1e15)]
    workload: Text | None = None
    tenant: Text | None = None
    region: Text | None = None
    origin: Text | None = None
    tier: Text | None = None
    site: Text | None = None
    model: Text | None = None
    variant: Text | None = None
    baseline: Literal["times", "plus"] | None = None
    draws: Annotated[float, Meta(gt=0, le=1)] | None = None
    allow_undecided: bool = False


class Gate(Resource, frozen=True, kw_only=True):
    """A threshold on a run's metric."""

    plural: ClassVar[str] = "gates"
    noun: ClassVar[str] = "gate"
    summary: ClassVar[str] = "a threshold on a run's metric, enforced in CI"

    spec: GateSpec


def scope_of(spec: GateSpec) -> dict[str, str]:
    """What narrows the gate down, in the order of `SCOPES`.

    >>> scope_of(GateSpec(metric="attainment", op=">=", value=0.9, workload="voice", site="fr-paris-01"))
    {'workload': 'voice', 'site': 'fr-paris-01'}
    """
    return {key: value for key in SCOPES if (value := getattr(spec, key)) is not None}


def unit_of(metric: str) -> Literal["ms", "share", "usd", "rate", "count", "number"]:
    """What a metric is measured in.

    >>> [unit_of(metric) for metric in ("ttft_ms.p99", "attainment", "usd", "goodput_rps", "good", "burn")]
    ['ms', 'share', 'usd', 'rate', 'count', 'number']
    """
    if metric in TIMES:
        return "ms"
    if metric in SHARES or metric == "budget_left_share":
        return "share"
    if metric in DOLLARS:
        return "usd"
    if metric in RATES:
        return "rate"
    return "count" if metric in COUNTS else "number"
