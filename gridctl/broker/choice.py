"""Choice: the engine one attempt of a request was given, and what was predicted of it when it was.

Data only; each Choice is ended exactly once (see `broker.Broker`), which gives back what was counted for it. It is
part of no circle of references, so the garbage collector is spared it.
"""

from __future__ import annotations

import msgspec

from gridctl.accounts.rows import EngineFacts
from gridctl.broker.plan import Backend


class Choice(msgspec.Struct, gc=False):
    """`predicted_ttft_us` is the client's: round trip, overhead, queue and prefill; `engine_ttft_us` and
    `engine_tpot_us` are the engine's share before online correction. `runner_up` is a row of the board (−1: nobody
    else). `ahead` requests were in flight there before this one. `seen` holds the candidate rows as `route` saw them,
    where decisions are recorded. `pending_tokens` and `kv_tokens` are what was counted on the board for it."""

    backend: Backend
    row: int
    facts: EngineFacts
    generation: int
    decided_ns: int
    predicted_ttft_us: float
    predicted_tpot_us: float
    engine_ttft_us: float
    engine_tpot_us: float
    usd: float
    rtt_us: float
    cached_tokens: int
    candidates: int
    reason: str
    runner_up: int
    seen: bytes | None
    pending_tokens: int
    kv_tokens: int
    first_token_ns: int = -1
    is_ended: bool = False
    ahead: int = 0
