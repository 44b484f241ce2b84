"""Explanation: a request that was really served, its decision and what came of it, as one record. Data only."""

from __future__ import annotations

import msgspec

from gridctl.routing.decision import Decision


class LiveStep(msgspec.Struct, frozen=True, kw_only=True):
    """One stretch of a request's life in the gateway: when it began after its arrival, and how long it took."""

    step: str
    begin_ms: float
    took_ms: float


class LiveExplanation(msgspec.Struct, frozen=True, kw_only=True):
    """A live request: what was decided, if it came to a decision, and what came of it. `attempts` counts engines that
    were tried; the decision is the last one. Spans are of the gateway's clock; None is not known. `cache` is hit, miss,
    bypass or "" where none was asked; `cache_reason` is the hit's level, or why there was none."""

    request_id: str
    outcome: str
    reason: str
    status: int
    attempts: int
    workload: str
    tenant: str
    origin: str
    model: str
    input_tokens: int
    output_tokens: int
    is_estimated: bool
    predicted_ttft_ms: float | None
    ttft_ms: float | None
    tpot_ms: float | None
    e2e_ms: float | None
    usd: float | None
    misses: tuple[str, ...]
    steps: tuple[LiveStep, ...]
    decision: Decision | None
    cache: str = ""
    cache_reason: str = ""
    saved_usd: float = 0.0
