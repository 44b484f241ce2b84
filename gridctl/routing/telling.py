"""Telling: a candidate's row in words and units: what was predicted of it, and why the policy did not take it.

Reads rows that `route` was given and prices nothing itself. The words are API: scripts match on them; their list is in
`replay.fate`, which tells of more than rows.
"""

from __future__ import annotations

import numpy as np

from gridctl.routing.decision import Forecast, ObjectiveForecast
from gridctl.routing.price import miss_probability
from gridctl.routing.rows import BATCHING, NO_OBJECTIVE

US_PER_MS = 1000.0
METRICS = ("network", "ttft", "tpot", "e2e")
TIE = ("tie", "a tie: drawn for the request")


def forecast_of(row: np.record, idle: np.record | None, request: np.record, policy: np.record) -> Forecast:
    """A priced row in words; `idle` is the same candidate without load, None where it is not known."""
    return Forecast(
        queue_ms=None if idle is None else float(row.ttft_us - idle.ttft_us) / US_PER_MS,
        prefill_ms=None if idle is None else float(idle.ttft_us) / US_PER_MS,
        ttft_ms=float(row.client_ttft_us) / US_PER_MS,
        tpot_ms=float(row.tpot_us) / US_PER_MS,
        e2e_ms=float(row.client_e2e_us) / US_PER_MS,
        load=float(row.load),
        cash_usd=float(policy.cash_weight * row.usd_cash),
        gpu_usd=float(policy.gpu_weight * row.load * row.usd_gpu),
        gpu_time_usd=float(row.usd_gpu),
        miss_usd=float(policy.miss_weight * request.miss_usd * row.miss_probability),
        usd=float(row.usd),
        miss_probability=float(row.miss_probability),
        worst_ratio=float(row.worst_ratio),
        objectives=_objectives(row, request, int(policy.prediction_shape)),
    )


def _objectives(row: np.record, request: np.record, shape: int) -> tuple[ObjectiveForecast, ...]:
    """Each objective that the router weighs, with the probability it works with."""
    values = (row.rtt_us, row.client_ttft_us, row.tpot_us, row.client_e2e_us)
    found = []
    for metric, value in zip(METRICS, values, strict=True):
        limit = float(request[f"{metric}_us"])
        if limit != NO_OBJECTIVE:
            ratio = float(value) / limit
            found.append(
                ObjectiveForecast(
                    metric=f"{metric}_ms",
                    limit_ms=limit / US_PER_MS,
                    predicted_ms=float(value) / US_PER_MS,
                    ratio=ratio,
                    miss_probability=float(miss_probability(ratio, shape)),
                )
            )
    return tuple(found)


def why_not(row: np.record, chosen: np.record | None, algorithm: str) -> tuple[str, str]:
    """Why the policy did not take a row it weighed, as a word and a sentence; `chosen` is None when it took nobody."""
    if algorithm == "grid":
        return _why_not_grid(row, chosen)
    return _why_not_baseline(row, chosen, algorithm)


def _why_not_grid(row: np.record, chosen: np.record | None) -> tuple[str, str]:
    if chosen is None:
        return "misses", f"predicted at {row.worst_ratio:.2f} times its limit; the workload asked to refuse early"
    if chosen.worst_ratio > 1.0:
        return "later", f"predicted at {row.worst_ratio:.2f} times its limit"
    if row.worst_ratio > 1.0:
        return "misses", f"predicted at {row.worst_ratio:.2f} times its limit"
    if row.usd > chosen.usd:
        return "dearer", f"${row.usd - chosen.usd:.3g} more"
    if row.rtt_us > chosen.rtt_us:
        return "farther", "costs the same, a longer round trip"
    return TIE


def _why_not_baseline(row: np.record, chosen: np.record | None, algorithm: str) -> tuple[str, str]:
    """Why a policy that compares load or distance did not take it."""
    if row.kind != BATCHING:
        return "not-gpu", f"{algorithm} considers GPU engines only"
    if algorithm == "centralized" and row.is_core == 0:
        return "not-core", "centralized considers core engines only"
    if algorithm == "round-robin":
        return "not-its-turn", "another engine's turn"
    if algorithm == "session-sticky":
        return "other-session", "the session belongs to another engine"
    if algorithm == "power-of-two":
        return "not-drawn", "not one of the two drawn, or the busier of them"
    assert chosen is not None, "a baseline takes any engine that has room"
    farther = f"{(row.rtt_us - chosen.rtt_us) / US_PER_MS:.1f} ms farther"
    busier = f"{int(row.in_flight - chosen.in_flight):,} more in flight"
    if algorithm == "nearest":
        if row.rtt_us > chosen.rtt_us:
            return "farther", farther
        return ("busier", busier) if row.in_flight > chosen.in_flight else TIE
    if algorithm == "prefix-affinity" and row.cached_tokens < chosen.cached_tokens:
        return "shorter-prefix", f"{int(chosen.cached_tokens - row.cached_tokens):,} fewer prompt tokens cached"
    if row.in_flight > chosen.in_flight:
        return "busier", busier
    return ("farther", farther) if row.rtt_us > chosen.rtt_us else TIE


def why_chosen(row: np.record, algorithm: str) -> str:
    """Why the policy took an engine of our own."""
    if algorithm != "grid":
        return f"what {algorithm} takes"
    if row.worst_ratio <= 1.0:
        return "the cheapest of those predicted to meet every objective"
    return "nobody is predicted to meet every objective: the least late"
