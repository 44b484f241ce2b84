"""Routes: which paths there are, and what each of them means to the gateway.

A path is matched as it was sent, with no decoding and no normalising, so that nothing reaches an engine under a name
that was not checked; engines get the path of the route, never the client's.
"""

from __future__ import annotations

from typing import Final

from gridctl.broker.refusal import Refusal
from gridctl.gateway.head import Head, malformed

MODEL_ENDPOINTS: Final = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completions",
    "/v1/embeddings": "embeddings",
    "/v1/messages": "messages",
    "/v1/responses": "responses",
    "/v1/rerank": "rerank",
    "/rerank": "rerank",
    "/tokenize": "tokenize",
    "/v1/tokenize": "tokenize",
}
"""Paths whose requests an engine answers, and the endpoint's word."""

LIVENESS: Final = frozenset(("/health", "/healthz", "/ready"))
MODELS: Final = "/v1/models"
METRICS: Final = "/metrics"


def wrong_method(allowed: str) -> Refusal:
    """A path that exists, asked in another way."""
    return malformed(f"This path takes {allowed}.", status=405, code="method_not_allowed")


def is_local(head: Head) -> bool:
    """Whether the gateway answers this path itself."""
    path = head.path
    return path in LIVENESS or path in (METRICS, MODELS) or path.startswith(MODELS + "/")


def unknown_path() -> Refusal:
    """A path that nobody serves; it is not repeated in the message."""
    known = ", ".join(sorted(path for path in MODEL_ENDPOINTS if path.startswith("/v1")))
    return malformed(f"There is nothing at this path. Known: {known}, {MODELS}.", status=404, code="unknown_path")
