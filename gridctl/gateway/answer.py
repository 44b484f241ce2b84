"""Answer: what the gateway itself says, in the shape that the client's API expects.

Errors are `{"error": {message, type, param, code}}` for the OpenAI endpoints, `{"type": "error", …}` for Anthropic's;
once a stream has begun, the same object comes as an event. `x-should-retry` tells the official clients, which retry by
themselves, whether that is any use: every layer that retries multiplies the load. Must not repeat a request's text.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

import msgspec

from gridctl.broker.refusal import Refusal

MAX_HONOURED_RETRY_MS: Final = 120_000
"""Clients do not retry at all when they are asked to wait longer."""

_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus} | {499: "Client Closed Request"}
_ANTHROPIC_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
_STATUS_LINES: Final[dict[int, bytes]] = {}
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


def status_line(status: int) -> bytes:
    """`HTTP/1.1 200 OK` and its end of line."""
    line = _STATUS_LINES.get(status)
    if line is None:
        phrase = _PHRASES.get(status, "Status")
        line = _STATUS_LINES[status] = b"HTTP/1.1 %d %b\r\n" % (status, phrase.encode("ascii"))
    return line


def error_object(endpoint: str, refusal: Refusal) -> bytes:
    """The error as JSON, in the shape of the endpoint's API."""
    if endpoint == "messages":
        kind = _ANTHROPIC_TYPES.get(refusal.status, "api_error" if refusal.status >= 500 else "invalid_request_error")
        return msgspec.json.encode({"type": "error", "error": {"type": kind, "message": refusal.message}})
    return msgspec.json.encode(
        {
            "error": {
                "message": refusal.message,
                "type": refusal.type,
                "param": refusal.param,
                "code": refusal.code,
            }
        }
    )


def error_answer(endpoint: str, refusal: Refusal, request_id: bytes, *, keep_alive: bool) -> bytes:
    """A whole response: head and body."""
    body = error_object(endpoint, refusal)
    lines = [
        status_line(refusal.status),
        b"content-type: application/json\r\ncontent-length: %d\r\nx-request-id: %b\r\n" % (len(body), request_id),
        b"cache-control: no-store\r\n",
    ]
    if refusal.retry_after_ms is not None:
        wait_ms = min(max(0, refusal.retry_after_ms), MAX_HONOURED_RETRY_MS)
        lines.append(b"retry-after: %d\r\nretry-after-ms: %d\r\n" % (-(-wait_ms // 1000), wait_ms))
    if refusal.should_retry is not None:
        lines.append(b"x-should-retry: true\r\n" if refusal.should_retry else b"x-should-retry: false\r\n")
    if refusal.status == 401:
        lines.append(b"www-authenticate: Bearer\r\n")
    lines.append(b"\r\n" if keep_alive else b"connection: close\r\n\r\n")
    lines.append(body)
    return b"".join(lines)


def error_event(endpoint: str, refusal: Refusal) -> bytes:
    """The error as the last event of a stream that has begun; there is no `[DONE]` after it."""
    told = error_object(endpoint, refusal)
    if endpoint in ("messages", "responses"):
        if endpoint == "responses":
            told = msgspec.json.encode(
                {"type": "error", "code": refusal.code, "message": refusal.message, "param": refusal.param}
            )
        return b"event: error\ndata: %b\n\n" % told
    return b"data: %b\n\n" % told
