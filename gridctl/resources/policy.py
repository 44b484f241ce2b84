"""Policy: how the router decides. Eight algorithms; `grid` is ours, the others are for comparison."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from gridctl.resources.quantity import Milliseconds, Name, PositiveMilliseconds
from gridctl.resources.resource import Resource

Algorithm = Literal[
    "nearest",
    "centralized",
    "round-robin",
    "least-loaded",
    "power-of-two",
    "prefix-affinity",
    "session-sticky",
    "grid",
]
ALGORITHMS: tuple[Algorithm, ...] = (
    "nearest",
    "centralized",
    "round-robin",
    "least-loaded",
    "power-of-two",
    "prefix-affinity",
    "session-sticky",
    "grid",
)
Weight = Annotated[float, Meta(ge=0, le=1000)]
Shape = Annotated[int, Meta(ge=1, le=64)]
Ratio = Annotated[float, Meta(ge=1, le=1000)]
PromptShare = Annotated[float, Meta(ge=0, le=1)]
Requests = Annotated[int, Meta(ge=0, le=100_000)]
Candidates = Annotated[int, Meta(ge=1, le=256)]
AllowedTier = Literal["edge", "metro", "regional", "core", "api"]
"""Where a request may be served: tiers of sites, and the fallback API, which stands at none."""


class Telemetry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the router knows of an engine: scraped every `period_ms`, seen `delay_ms` later, plus its own in-flight
    counters unless `in_flight` is `none`."""

    period_ms: Annotated[float, Meta(gt=0, le=3_600_000)] = 1000.0
    delay_ms: Milliseconds = 50.0
    in_flight: Literal["local", "none"] = "local"


class PolicyOverride(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What one workload's requests are decided by instead; absent means as the policy says."""

    algorithm: Algorithm | None = None
    candidates: Candidates | None = None
    max_rtt_ms: PositiveMilliseconds | None = None
    tiers: tuple[AllowedTier, ...] | None = None
    gpu_weight: Weight | None = None
    cash_weight: Weight | None = None
    miss_weight: Weight | None = None
    prediction_shape: Shape | None = None
    reject_ratio: Ratio | None = None
    allow_serverless: bool | None = None
    allow_fallback: bool | None = None
    allow_reject: bool | None = None
    prefix_min_share: PromptShare | None = None
    imbalance_requests: Requests | None = None
    imbalance_ratio: Ratio | None = None


class PolicySpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The algorithm and its numbers. Weights multiply the terms of the `grid` cost, all in dollars."""

    algorithm: Algorithm = "grid"
    telemetry: Telemetry = Telemetry()
    candidates: Candidates = 64
    max_rtt_ms: PositiveMilliseconds | None = None
    tiers: tuple[AllowedTier, ...] = ()
    gpu_weight: Weight = 0.0
    cash_weight: Weight = 1.0
    miss_weight: Weight = 1.0
    prediction_shape: Shape = 2
    reject_ratio: Ratio = 1.2
    allow_serverless: bool = True
    allow_fallback: bool = True
    allow_reject: bool = True
    on_loss: Literal["failover", "fail"] = "failover"
    retries: Annotated[int, Meta(ge=0, le=10)] = 2
    prefix_min_share: PromptShare = 0.3
    imbalance_requests: Requests = 64
    imbalance_ratio: Ratio = 1.5
    overrides: dict[Name, PolicyOverride] = {}

    def for_workload(self, name: str) -> PolicySpec:
        """What decides the requests of a workload: the policy with that workload's overrides."""
        override = self.overrides.get(name)
        if override is None:
            return self
        given = {field: value for field, value in msgspec.structs.asdict(override).items() if value is not None}
        return msgspec.structs.replace(self, **given)


class Policy(Resource, frozen=True, kw_only=True):
    """How the router decides."""

    plural: ClassVar[str] = "policies"
    noun: ClassVar[str] = "policy"
    summary: ClassVar[str] = "how the router decides: algorithm, weights, telemetry, admission"

    spec: PolicySpec
