"""Workload: an SLA class. What its requests must meet, where they may run, and what a miss costs."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from gridctl.resources.quantity import (
    Fraction,
    JurisdictionCode,
    Milliseconds,
    Name,
    PositiveCount,
    PositiveMilliseconds,
    Share,
    Usd,
)
from gridctl.resources.resource import Resource

ObjectiveMetric = Literal["network_ms", "ttft_ms", "tpot_ms", "e2e_ms"]
Target = Annotated[float, Meta(gt=0, lt=1)]


class Objective(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """`percentile` % of the workload's requests must have `metric` ≤ `threshold_ms`."""

    metric: ObjectiveMetric
    threshold_ms: PositiveMilliseconds
    percentile: Annotated[float, Meta(ge=1, lt=100)] = 99.0


class JurisdictionRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where requests may be served. Hard: nothing relaxes it, and an unknown jurisdiction is refused.

    `any` everywhere; `same-country` and `same-jurisdiction` as the request's origin; `listed` only in `allow`, which
    holds jurisdictions or countries (a country's code is a jurisdiction's, too)."""

    rule: Literal["any", "same-country", "same-jurisdiction", "listed"] = "any"
    allow: tuple[JurisdictionCode, ...] = ()


class CachePolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a semantic cache may do for the workload: nothing, exact repeats, or repeats in meaning with at most
    `error_rate` wrong answers.

    `stale_s` follows `ttl_s`: an answer is served once more while it is asked for again. `sharing` says who may get
    whose answers: the tenant's own, the user's own, or everybody's. Above `max_temperature` nothing is cached;
    `live_ttl_s` keeps answers that change by themselves, 0 none. `audit_budget` is the most requests, over all, asked
    again in order to check. Where sharing is public, an answer goes to others once `public_after` callers asked for it,
    and to others who word it differently once its group passed `probation` checks. `embedder` is `hashed`, a folder, a
    package or the URL of a /v1/embeddings endpoint. `admission` second keeps the answer to an exact repeat only once
    the very same was asked before. Where sharing is public a hit takes `hit_timing` as long as a miss. `shared` says
    whether a server that gateways share may hold its exact answers; `auto`: unless they are bound to places or may be
    about persons."""

    mode: Literal["off", "exact", "semantic"] = "off"
    error_rate: Fraction = 0.01
    ttl_s: Annotated[float, Meta(ge=0, le=31_536_000)] = 3600.0
    stale_s: Annotated[float, Meta(ge=0, le=31_536_000)] = 0.0
    sharing: Literal["tenant", "user", "public"] = "tenant"
    max_temperature: Annotated[float, Meta(ge=0, le=2)] = 0.3
    personal_data: Literal["bypass", "allow"] = "bypass"
    live_ttl_s: Annotated[float, Meta(ge=0, le=31_536_000)] = 0.0
    judge: Literal["text", "meaning"] = "meaning"
    audit_budget: Fraction = 0.1
    public_after: Annotated[int, Meta(ge=1, le=100)] = 3
    probation: Annotated[int, Meta(ge=0, le=100)] = 2
    embedder: Annotated[str, Meta(pattern=r"^[!-~]{1,255}$(?!\n)")] = "hashed"
    admission: Literal["first", "second"] = "first"
    hit_pace: Literal["at-once", "natural"] = "at-once"
    hit_timing: Literal["as-miss", "as-is"] = "as-miss"
    shared: Literal["auto", "never", "always"] = "auto"


class Traffic(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How an overlay hands requests of a bare trace to this workload: by `share`, among the workloads whose token
    limits hold the request; `tenants` share its requests evenly."""

    share: Share = 1.0
    max_input_tokens: PositiveCount | None = None
    max_output_tokens: PositiveCount | None = None
    mean_input_tokens: PositiveCount = 512
    mean_output_tokens: PositiveCount = 128


class WorkloadSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Objectives and constraints of an SLA class.

    `access_rtt_ms` is the last mile between client and the network; `overhead_ms` is fixed client-side time (speech
    recognition, synthesis, voice activity detection). Both count in TTFT and end-to-end as the client sees them.
    """

    objectives: Annotated[tuple[Objective, ...], Meta(min_length=1)]
    models: Annotated[tuple[Name, ...], Meta(min_length=1)]
    attainment: Target = 0.99
    availability: Target = 0.999
    access_rtt_ms: Milliseconds = 10.0
    overhead_ms: Milliseconds = 0.0
    quality_floor: Fraction = 0.0
    jurisdiction: JurisdictionRule = JurisdictionRule()
    cache: CachePolicy = CachePolicy()
    priority: Annotated[int, Meta(ge=0, le=9)] = 5
    tenants: tuple[Name, ...] = ("default",)
    when_infeasible: Literal["serve-late", "fallback", "reject"] = "serve-late"
    miss_usd: Usd = 0.002
    traffic: Traffic = Traffic()


class Workload(Resource, frozen=True, kw_only=True):
    """An SLA class."""

    plural: ClassVar[str] = "workloads"
    noun: ClassVar[str] = "workload"
    summary: ClassVar[str] = "an SLA class: objectives, jurisdiction, quality floor, priority, tenants"

    spec: WorkloadSpec
