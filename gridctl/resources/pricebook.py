"""PriceBook: what a GPU hour, a serverless millisecond, a gigabyte and a fallback token cost."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from gridctl.resources.quantity import (
    Fraction,
    JurisdictionCode,
    Name,
    PositiveCount,
    PositiveMilliseconds,
    Usd,
)
from gridctl.resources.resource import Resource


class ApiFallback(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A public API that takes what the grid cannot: paid by the token, no capacity limit is assumed.

    Its jurisdictions bind like a site's; with none listed only workloads with rule `any` may use it."""

    model: Name
    usd_per_mtok_input: Usd
    usd_per_mtok_output: Usd
    ttft_ms: PositiveMilliseconds = 800.0
    tpot_ms: PositiveMilliseconds = 20.0
    max_context: PositiveCount = 131_072
    quality: Fraction | None = None
    jurisdictions: tuple[JurisdictionCode, ...] = ()


class PriceBookSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Prices in US dollars. A cluster's or site's own price wins over the book."""

    gpu_hour_usd: dict[Name, Usd] = {}
    serverless_usd_per_ms: Usd = 0.00000027
    egress_usd_per_gb: Usd = 0.02
    usd_per_kwh: Usd = 0.0
    fallback: ApiFallback | None = None


class PriceBook(Resource, frozen=True, kw_only=True):
    """Prices. The book named `default` is used unless a replay names another."""

    plural: ClassVar[str] = "prices"
    noun: ClassVar[str] = "price"
    summary: ClassVar[str] = "GPU-hour, serverless, egress, electricity and API-fallback prices"

    spec: PriceBookSpec
