"""Courtesies: the small things a request's head says beside who asks and from where: which API it speaks, how long its
client will wait, which conversation it belongs to, what it is to be called.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Final

from gridctl.broker.refusal import Refusal
from gridctl.units import NS_PER_MS, NS_PER_S

ENDPOINTS: Final = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completions",
    "/v1/embeddings": "embeddings",
    "/v1/messages": "messages",
    "/v1/responses": "responses",
    "/v1/rerank": "rerank",
    "/tokenize": "tokenize",
    "/v1/tokenize": "tokenize",
}
"""The paths that are brokered, each with the word for its API."""
USAGE_ON_REQUEST: Final = frozenset({"chat", "completions"})
"""APIs whose streams report usage only when asked."""
SESSION_BITS: Final = 31
LONGEST_ID: Final = 128


def endpoint_of(method: str, path: str) -> str:
    """The API a request speaks. Raises Refusal: 404 for a path that is not brokered, 405 for another method."""
    endpoint = ENDPOINTS.get(path)
    if endpoint is None:
        raise Refusal(
            404, f"Unknown request URL: {method} {path[:LONGEST_ID]}.", reason="bad-request", code="unknown_url"
        )
    if method != "POST":
        raise Refusal(
            405,
            f"Not allowed to {method} on {path} (HINT: use POST).",
            reason="bad-request",
            code="method_not_supported",
            should_retry=False,
        )
    return endpoint


def deadline_of(headers: Mapping[bytes, bytes], most_ms: int, now_ns: int) -> int:
    """Until when the answer is wanted: what the official clients say they wait, at most what the gateway allows."""
    said = headers.get(b"x-stainless-read-timeout")
    allowed = most_ms * NS_PER_MS
    if said is not None:
        try:
            seconds = float(said)
        except ValueError:
            seconds = 0.0
        if math.isfinite(seconds) and seconds > 0:
            return now_ns + min(allowed, round(seconds * NS_PER_S))
    return now_ns + allowed


def session_of(headers: Mapping[bytes, bytes], affinity: bytes, seed: bytes) -> int | None:
    """A number for the conversation, the same for the same name and tenant; None when none is named."""
    name = headers.get(b"x-gridctl-session") or affinity
    if not name:
        return None
    return int.from_bytes(hashlib.sha256(seed + name).digest()[:8], "little") >> (64 - SESSION_BITS)


def request_id_of(headers: Mapping[bytes, bytes]) -> str:
    """The name that the client gave the request, if it can be printed; else none."""
    said = headers.get(b"x-request-id", b"")
    return said.decode("ascii") if 0 < len(said) <= LONGEST_ID and all(32 < byte < 127 for byte in said) else ""
