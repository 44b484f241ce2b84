"""Upstream: an engine as the gateway reaches it: its pool, and the request heads it is sent, built beforehand.

The head is ours from the first byte to the last: path of the route, the engine's own credential, our framing. Of the
client's headers only the few named here go on, so that nothing of one origin reaches another.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

from gridctl.errors import InputError

if TYPE_CHECKING:
    from gridctl.broker.plan import Backend
    from gridctl.gateway.head import Head
    from gridctl.gateway.pool import Pool

PATHS: Final = {
    "chat": b"/v1/chat/completions",
    "completions": b"/v1/completions",
    "embeddings": b"/v1/embeddings",
    "messages": b"/v1/messages",
    "responses": b"/v1/responses",
    "rerank": b"/v1/rerank",
    "tokenize": b"/tokenize",
}
PASSED_ON: Final = (b"anthropic-version", b"anthropic-beta", b"openai-beta", b"tracestate")
_CREDENTIAL: Final = re.compile(r"[!-~]{1,4096}")


class Upstream:
    """One backend of the plan. `heads` are the beginnings of requests, by endpoint."""

    __slots__ = ("backend", "heads", "our_headers", "pool")

    def __init__(self, backend: Backend, pool: Pool) -> None:
        self.backend = backend
        self.pool = pool
        credential = credential_of(backend)
        self.heads = {endpoint: self._head(endpoint, path, credential) for endpoint, path in PATHS.items()}
        self.our_headers = b"x-gridctl-site: %b\r\nx-gridctl-cluster: %b\r\nx-gridctl-model-variant: %b\r\n" % tuple(
            printable(name) for name in (backend.site, backend.cluster, f"{backend.model}/{backend.variant}")
        )

    def request(self, endpoint: str, head: Head, request_id: bytes, traceparent: bytes, body: bytes) -> bytes:
        """A whole request to this engine."""
        beginning = self.heads[endpoint]
        received = head.headers
        more = b""
        for name in PASSED_ON:
            if name in received:
                more += b"%b: %b\r\n" % (name, received[name])
        if head.query and endpoint in ("messages", "responses"):
            beginning = beginning.replace(b" HTTP/1.1", b"?%b HTTP/1.1" % head.query.encode("ascii"), 1)
        return b"%bx-request-id: %b\r\ntraceparent: %b\r\n%bcontent-length: %d\r\n\r\n%b" % (
            beginning,
            request_id,
            traceparent,
            more,
            len(body),
            body,
        )

    def _head(self, endpoint: str, path: bytes, credential: str | None) -> bytes:
        origin = self.pool.origin
        lines = [
            b"POST %b%b HTTP/1.1" % (origin.prefix.encode("ascii"), path),
            b"host: %b" % origin.name.encode("ascii"),
            b"content-type: application/json",
            b"accept-encoding: identity",
        ]
        if credential is not None:
            lines.append(b"authorization: Bearer %b" % credential.encode("ascii"))
            if endpoint == "messages":
                lines.append(b"x-api-key: %b" % credential.encode("ascii"))
        return b"\r\n".join(lines) + b"\r\n"


def credential_of(backend: Backend) -> str | None:
    """The key for this engine, from the environment variable that its cluster names. Raises InputError."""
    if backend.credential_env is None:
        return None
    credential = os.environ.get(backend.credential_env, "").strip()
    if not _CREDENTIAL.fullmatch(credential):
        raise InputError(
            f"the environment variable {backend.credential_env} holds no key that a header can carry",
            where=f"cluster {backend.cluster}",
            fix=f"export {backend.credential_env}=... before gridctl up",
        )
    return credential


def printable(text: str) -> bytes:
    """Text as a header's value: what is not printable ASCII becomes a question mark.

    >>> printable("a b\\r\\nc")
    b'a b??c'
    """
    return bytes(byte if 0x20 <= byte <= 0x7E else 0x3F for byte in text.encode("utf-8"))
