"""Site: a location with a tier, a state and, mostly, no GPU. Clusters are declared apart and name their site."""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec

from gridctl.resources.quantity import (
    Count,
    CountryCode,
    Gib,
    JurisdictionCode,
    Latitude,
    Longitude,
    Milliseconds,
    PositiveCount,
    PositiveRate,
    Seconds,
    Text,
    Usd,
    VariantRef,
)
from gridctl.resources.resource import Resource, State

Tier = Literal["edge", "metro", "regional", "core"]
TIERS: tuple[Tier, ...] = ("edge", "metro", "regional", "core")


class Serverless(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Function instances on CPUs at the site: one request each, small models only, billed by the millisecond."""

    variants: tuple[VariantRef, ...]
    concurrency: PositiveCount = 8
    memory_gib: Gib = 16.0
    vcpus: PositiveCount = 16
    memory_bandwidth_gbs: PositiveRate = 60.0
    tflops: PositiveRate = 1.5
    cold_start_ms: Milliseconds = 1500.0
    keep_warm_s: Seconds = 600.0
    usd_per_ms: Usd | None = None


class SiteSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where a site is, what it offers, and whether it takes traffic."""

    lat: Latitude
    lon: Longitude
    country: CountryCode
    tier: Tier
    city: Text = ""
    jurisdiction: JurisdictionCode | None = None
    state: State = "active"
    population: Count = 0
    cache_gib: Gib = 0.0
    serverless: Serverless | None = None
    egress_usd_per_gb: Usd | None = None
    usd_per_kwh: Usd | None = None


class Site(Resource, frozen=True, kw_only=True):
    """A location of the grid."""

    plural: ClassVar[str] = "sites"
    noun: ClassVar[str] = "site"
    summary: ClassVar[str] = "a location: tier, coordinates, jurisdiction, cache and serverless CPU, state"

    spec: SiteSpec
