"""What a worker asks of the kept answers, what it is told, and what it hands in: the words of this room.

Decides nothing. A question has everything that must be equal already folded into `partition` and `exact`, both made
under the cache's secret by the worker; its other fields are for the keeper's accounts, purges and traces. None of these
is part of a circle of references, so the garbage collector is spared them.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Level = Literal["exact", "semantic"]
Age = Literal["fresh", "stale"]


class Question(msgspec.Struct, array_like=True, gc=False):
    """A request that may be answered from what is kept. `partition` is 64 hexadecimal digits, `exact` the first 16
    bytes of the exact key; `user` tells users of one tenant apart ("" when unknown); `tags` are what an operator may
    purge by; `usd` what an engine would charge; `may_serve` False keeps the answer but takes none."""

    workload: str
    tenant: str
    partition: str
    exact: bytes
    text: str
    user: str = ""
    tags: tuple[str, ...] = ()
    jurisdiction: str = ""
    endpoint: str = "chat"
    ttl_s: float = 3600.0
    stale_s: float = 0.0
    error_rate: float = 0.01
    mode: str = "exact"
    request_id: str = ""
    may_serve: bool = True
    prompt_tokens: int = 0
    usd: float | None = None


class Kept(msgspec.Struct, array_like=True, gc=False):
    """An answer that may be served. `content` is JSON as it was stored; `bound` is the most wrong answers over requests
    of the workload that is credible now; `born_unix_ns` is when its engine gave it."""

    entry: int
    level: Level
    content: bytes
    finish_reason: str
    model: str
    variant: str
    prompt_tokens: int
    output_tokens: int
    age: Age
    similarity: float | None
    bound: float | None
    saved_usd: float
    born_unix_ns: int


class Found(msgspec.Struct, array_like=True, gc=False):
    """What became of a look. hit: serve `kept`. audit: serve `kept`, ask an engine in the background and hand its
    answer in with the ticket. explore: ask an engine and hand its answer in with the ticket. miss: ask an engine;
    there is no ticket."""

    kind: Literal["hit", "audit", "explore", "miss"]
    reason: str
    kept: Kept | None = None
    ticket: int | None = None


class Fresh(msgspec.Struct, array_like=True, gc=False):
    """An engine's answer to keep. `stamp` is `Answers.stamp()` taken before the engine was asked, so that a purge in
    between counts. `digest` names the model's weights; `usd` is what the answer cost."""

    content: bytes
    finish_reason: str
    model: str
    variant: str
    digest: str = ""
    site: str = ""
    cluster: str = ""
    prompt_tokens: int = 0
    output_tokens: int = 0
    usd: float = 0.0
    ttft_us: float = 0.0
    has_tool_call: bool = False
    status: int = 200
    ticket: int | None = None
    request_id: str = ""
    stamp: int = 0


class Note(msgspec.Struct, array_like=True, gc=False):
    """One serving: which entry went out under which request."""

    request_id: str
    entry: int
    level: Level
    workload: str
    tenant: str
    saved_usd: float
