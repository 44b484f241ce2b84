"""Finished: what is known of one live request when it has ended, and whether it was good.

Filled by the gateway, read by the meter, the recorder and the access log. Times are nanoseconds of this machine's
monotonic clock, `NEVER` where the moment was not reached; `arrival_unix_ns` alone is a wall clock's. Pure: no clock.

    arrival ── head and body read ──▶ decided ──▶ sent ──▶ first byte ──▶ first token … last token ──▶ end
    ttft = first token − arrival      tpot = (last − first token) / (output tokens − 1)      e2e = end − arrival

TPOT is not applicable to an answer of one token, nor TTFT to one that came in one piece: neither good nor bad.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Literal

NEVER: Final = -1
"""A moment that was not reached."""
NO_BACKEND: Final = -1
"""No engine was chosen."""

OUTCOMES = ("completed", "refused", "rejected", "failed", "cancelled", "expired")
"""How a request ends, exactly one of:

completed   the whole answer was relayed; what the engine itself answered counts by its status
refused     the client's request cannot be served as it is: malformed, too large, unauthorised, an unknown model
rejected    we would not serve it: no engine may or can, no promise can be kept, too many at once
failed      the gateway or an engine broke, or the answer stopped short
cancelled   the client left before the end
expired     its deadline passed
"""
COMPLETED: Final = 0
REFUSED: Final = 1
REJECTED: Final = 2
FAILED: Final = 3
CANCELLED: Final = 4
EXPIRED: Final = 5

PHASES = ("queued", "before-first-byte", "streaming", "done")
ENDPOINTS = ("chat", "completions", "embeddings", "messages", "responses", "rerank", "tokenize", "models")
METRICS = ("ttft_ms", "tpot_ms", "e2e_ms")
"""The objectives that a gateway can see kept or missed."""

Verdict = Literal["good", "bad", "excluded"]

OTHER: Final = "other"
"""Stands for every word that is not in a list."""
REASONS = (
    "",
    OTHER,
    "client-gone",
    "slow-client",
    "deadline",
    "bad-request",
    "too-large",
    "too-long",
    "unauthorized",
    "forbidden",
    "unknown-model",
    "unknown-workload",
    "unknown-origin",
    "quota",
    "overload",
    "draining",
    "no-candidate",
    "no-model",
    "jurisdiction",
    "quality",
    "outage",
    "infeasible",
    "queue-full",
    "connect-failed",
    "upstream-reset",
    "upstream-timeout",
    "upstream-stalled",
    "upstream-status",
    "upstream-garbage",
    "upstream-error",
    "truncated",
    "retries-exhausted",
    "internal",
    "tier",
    "too-far",
    "unhealthy",
    "cache-exact",
    "cache-semantic",
    "cache-shared",
)
"""Words of `Finished.reason`; one that is not here is counted as `other`."""


FIELDS: Final = (
    "request_id", "endpoint", "workload", "tenant", "origin", "model", "backend", "site", "cluster", "variant",
    "outcome", "reason", "status", "phase", "arrival_unix_ns", "arrival_ns", "decided_ns", "sent_ns",
    "first_byte_ns", "first_token_ns", "last_token_ns", "end_ns", "prompt_tokens", "cached_tokens",
    "output_tokens", "is_estimated", "predicted_ttft_us", "predicted_tpot_us", "usd", "rtt_us", "attempts",
    "stream", "objective_misses", "traceparent", "ask", "choice", "cache", "cache_reason", "saved_usd",
)  # fmt: skip
"""Of Finished, in their order."""


class Finished:
    """One live request that has ended.

    `backend` is the engine's row on the board. `is_estimated`: the tokens were counted by us, not reported by the
    engine. `predicted_*` are what the router expected when it chose. `objective_misses` are words of `METRICS`.
    `cache` says what the cache did: hit, miss, bypass, "" where there is none; `cache_reason` why not, or the hit's
    level; `saved_usd` is what an engine would have cost instead.
    `ask` and `choice` are the broker's, for the recorder; they are never logged whole.
    """

    __slots__ = FIELDS

    def __init__(
        self,
        request_id: str = "", endpoint: str = "chat", workload: str = "", tenant: str = "", origin: str = "",
        model: str = "", backend: int = NO_BACKEND, site: str = "", cluster: str = "", variant: str = "",
        outcome: str = "failed", reason: str = "", status: int = 0, phase: str = "queued",
        arrival_unix_ns: int = 0, arrival_ns: int = 0, decided_ns: int = NEVER, sent_ns: int = NEVER,
        first_byte_ns: int = NEVER, first_token_ns: int = NEVER, last_token_ns: int = NEVER, end_ns: int = NEVER,
        prompt_tokens: int = 0, cached_tokens: int = 0, output_tokens: int = 0, is_estimated: bool = False,
        predicted_ttft_us: float = 0.0, predicted_tpot_us: float = 0.0, usd: float = 0.0, rtt_us: float = 0.0,
        attempts: int = 0, stream: bool = False, objective_misses: tuple[str, ...] = (), traceparent: str = "",
        ask: object | None = None, choice: object | None = None, cache: str = "", cache_reason: str = "",
        saved_usd: float = 0.0,
    ) -> None:  # fmt: skip
        self.request_id = request_id
        self.endpoint = endpoint
        self.workload = workload
        self.tenant = tenant
        self.origin = origin
        self.model = model
        self.backend = backend
        self.site = site
        self.cluster = cluster
        self.variant = variant
        self.outcome = outcome
        self.reason = reason
        self.status = status
        self.phase = phase
        self.arrival_unix_ns = arrival_unix_ns
        self.arrival_ns = arrival_ns
        self.decided_ns = decided_ns
        self.sent_ns = sent_ns
        self.first_byte_ns = first_byte_ns
        self.first_token_ns = first_token_ns
        self.last_token_ns = last_token_ns
        self.end_ns = end_ns
        self.prompt_tokens = prompt_tokens
        self.cached_tokens = cached_tokens
        self.output_tokens = output_tokens
        self.is_estimated = is_estimated
        self.predicted_ttft_us = predicted_ttft_us
        self.predicted_tpot_us = predicted_tpot_us
        self.usd = usd
        self.rtt_us = rtt_us
        self.attempts = attempts
        self.stream = stream
        self.objective_misses = objective_misses
        self.traceparent = traceparent
        self.ask = ask
        self.choice = choice
        self.cache = cache
        self.cache_reason = cache_reason
        self.saved_usd = saved_usd


def ttft_ns(request: Finished) -> int | None:
    """From arrival to the first token; None for an answer that came in one piece or not at all."""
    if request.first_token_ns < 0:
        return None
    return max(0, request.first_token_ns - request.arrival_ns)


def tpot_ns(request: Finished) -> int | None:
    """Mean gap between output tokens: (last − first) / (n − 1), n ≥ 2; else None."""
    if request.output_tokens < 2 or request.first_token_ns < 0 or request.last_token_ns < request.first_token_ns:
        return None
    return (request.last_token_ns - request.first_token_ns) // (request.output_tokens - 1)


def e2e_ns(request: Finished) -> int | None:
    """From arrival to the end; None while it has not ended."""
    if request.end_ns < 0:
        return None
    return max(0, request.end_ns - request.arrival_ns)


def missed(
    request: Finished, objectives: Iterable[tuple[str, int]], unseen_ns: int = 0, is_whole: bool = True
) -> tuple[str, ...]:
    """The metrics, of METRICS' order, whose objective the request missed, each named once.

    `objectives` are (metric, most nanoseconds); `unseen_ns` is what the client waits and the gateway does not see
    (its own way to the gateway, speech recognition): it counts in TTFT and end to end. Of a request that did not come
    to its end (`is_whole` false), only what had been missed by then counts: no first token yet is a missed TTFT once
    its time is over.
    """
    found = set()
    for metric, most_ns in objectives:
        took = _took(request, metric, unseen_ns, is_whole)
        if took is not None and took > most_ns:
            found.add(metric)
    return tuple(metric for metric in METRICS if metric in found)


def _took(request: Finished, metric: str, unseen_ns: int, is_whole: bool) -> int | None:
    """Nanoseconds by that metric as the client sees it; None when it does not apply."""
    if metric == "tpot_ms":
        return tpot_ns(request)
    took = e2e_ns(request)
    if metric == "ttft_ms":
        first = ttft_ns(request)
        took = took if first is None and request.stream and not is_whole else first
    return None if took is None else took + unseen_ns


def verdict(outcome: str, status: int, objective_misses: Sequence[str]) -> Verdict:
    """Whether the request counts as good, as bad or not at all.

    Good succeeded and met every objective that applies. Bad: our errors and rejections, a truncated answer, a passed
    deadline, a missed objective, a client that left after an objective was missed. Excluded: what the client itself
    made impossible, and a client that left before anything was late.

    >>> verdict("completed", 200, ())
    'good'
    >>> verdict("cancelled", 499, ("ttft_ms",))
    'bad'
    """
    if outcome == "completed":
        if status >= 500 or status in (408, 429) or objective_misses:
            return "bad"
        return "excluded" if status >= 400 else "good"
    if outcome == "refused":
        return "excluded"
    if outcome == "cancelled":
        return "bad" if objective_misses else "excluded"
    return "bad"
