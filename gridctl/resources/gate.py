"""Gate: a threshold on a run's metric. A missed gate fails a pipeline."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from gridctl.resources.quantity import Name, Text
from gridctl.resources.resource import Resource

GateMetric = Literal[
    "ttft_ms.p50",
    "ttft_ms.p95",
    "ttft_ms.p99",
    "tpot_ms.p50",
    "tpot_ms.p95",
    "tpot_ms.p99",
    "e2e_ms.p50",
    "e2e_ms.p95",
    "e2e_ms.p99",
    "attainment",
    "availability",
    "rejected_share",
    "usd_per_mtok",
    "usd_per_mtok_output",
    "usd_per_mtok_goodput",
    "goodput_tok_s",
]


class GateSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """`metric op value`, over the whole run or one workload, tenant or region."""

    metric: GateMetric
    op: Literal["<", "<=", ">", ">="]
    value: Annotated[float, Meta(ge=-1e15, le=1e15)]
    workload: Name | None = None
    tenant: Name | None = None
    region: Text | None = None


class Gate(Resource, frozen=True, kw_only=True):
    """A threshold on a run's metric."""

    plural: ClassVar[str] = "gates"
    noun: ClassVar[str] = "gate"
    summary: ClassVar[str] = "a threshold on a run's metric, enforced in CI"

    spec: GateSpec
