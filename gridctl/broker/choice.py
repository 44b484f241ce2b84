"""Choice: the engine one attempt of a request was given, and what was predicted of it when it was.

Data only; each Choice is ended exactly once (see `broker.Broker`), which gives back what was counted for it.
"""

from __future__ import annotations

from typing import Final

from gridctl.accounts.facts import EngineFacts
from gridctl.broker.plan import Backend

NOT_YET: Final = -1
"""The time of what has not happened."""


class Choice:
    """`predicted_ttft_us` is the client's: round trip, overhead, queue and prefill; `engine_ttft_us` and
    `engine_tpot_us` are the engine's share before online correction. `runner_up` is a row of the board (−1: nobody
    else). `ahead` requests were in flight there before this one. `seen` holds the candidate rows as `route` saw them,
    where decisions are recorded. `pending_tokens` and `kv_tokens` are what was counted on the board for it."""

    __slots__ = (
        "ahead",
        "backend",
        "cached_tokens",
        "candidates",
        "decided_ns",
        "engine_tpot_us",
        "engine_ttft_us",
        "facts",
        "first_token_ns",
        "generation",
        "is_ended",
        "kv_tokens",
        "pending_tokens",
        "predicted_tpot_us",
        "predicted_ttft_us",
        "reason",
        "row",
        "rtt_us",
        "runner_up",
        "seen",
        "usd",
    )

    def __init__(
        self,
        backend: Backend,
        row: int,
        facts: EngineFacts,
        generation: int,
        decided_ns: int,
        predicted_ttft_us: float,
        predicted_tpot_us: float,
        engine_ttft_us: float,
        engine_tpot_us: float,
        usd: float,
        rtt_us: float,
        cached_tokens: int,
        candidates: int,
        reason: str,
        runner_up: int,
        seen: bytes | None,
        pending_tokens: int,
        kv_tokens: int,
        first_token_ns: int = NOT_YET,
        is_ended: bool = False,
        ahead: int = 0,
    ) -> None:
        self.backend = backend
        self.row = row
        self.facts = facts
        self.generation = generation
        self.decided_ns = decided_ns
        self.predicted_ttft_us = predicted_ttft_us
        self.predicted_tpot_us = predicted_tpot_us
        self.engine_ttft_us = engine_ttft_us
        self.engine_tpot_us = engine_tpot_us
        self.usd = usd
        self.rtt_us = rtt_us
        self.cached_tokens = cached_tokens
        self.candidates = candidates
        self.reason = reason
        self.runner_up = runner_up
        self.seen = seen
        self.pending_tokens = pending_tokens
        self.kv_tokens = kv_tokens
        self.first_token_ns = first_token_ns
        self.is_ended = is_ended
        self.ahead = ahead
