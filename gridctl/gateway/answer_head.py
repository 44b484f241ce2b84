"""Answer head: the status and headers with which an engine's answer goes to the client.

The engine's own harmless headers come first, then what the gateway promises: which site, cluster and model variant
served it, what was predicted, how often it was tried. A value is printable ASCII by construction or by check.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gridctl.gateway.answer import status_line
from gridctl.gateway.upstream import printable

if TYPE_CHECKING:
    from gridctl.gateway.attempt import Attempt
    from gridctl.gateway.exchange import Exchange

LAST_LINE: Final = {
    (True, 1): b"\r\n",
    (False, 1): b"connection: close\r\n\r\n",
    (True, 0): b"connection: keep-alive\r\n\r\n",
    (False, 0): b"connection: close\r\n\r\n",
}
"""By whether the connection stays and the minor version that the client speaks."""
CHUNKED: Final = b"transfer-encoding: chunked\r\n"
STREAM: Final = b"x-accel-buffering: no\r\n"

_JSON: Final = b"content-type: application/json\r\n"
_EVENTS: Final = b"content-type: text/event-stream\r\n"
_HEAD: Final = (
    b"%bcache-control: no-store\r\nx-request-id: %b\r\n%b%bx-gridctl-predicted-ttft-ms: %.3f\r\n"
    b"x-gridctl-usd: %.9f\r\nx-gridctl-attempts: %d\r\n%b"
)
_workloads: Final[dict[tuple[str, bytes], bytes]] = {}
MOST_NAMES: Final = 1024


def compose(attempt: Attempt, framing: bytes, end: bytes) -> bytes:
    """The head of the answer that `attempt` brought; `framing` says how its body ends, `end` closes the head."""
    head = attempt.head
    assert head is not None
    visit = attempt.exchange.visit
    if visit is not None and head.status == 200 and visit.hides and not head.is_encoded:
        return compose_own(attempt.exchange, (_EVENTS if attempt.scanner is not None else _JSON) + framing, end)
    return compose_promise(attempt, status_line(head.status) + head.forwarded + framing, end)


def compose_promise(attempt: Attempt, beginning: bytes, end: bytes) -> bytes:
    """The head of an answer that begins so, when it is `attempt` that is expected to bring it."""
    choice, exchange = attempt.choice, attempt.exchange
    return _HEAD % (
        beginning,
        exchange.request_id,
        attempt.upstream.our_headers,
        _words(exchange.workload, exchange.cache_word),
        choice.predicted_ttft_us / 1000.0,
        choice.usd,
        exchange.attempts,
        end,
    )


def compose_own(exchange: Exchange, framing: bytes, end: bytes) -> bytes:
    """The head of an answer that no engine was asked for, or of which nobody may learn whether one was; `framing` tells
    its kind and how its body ends."""
    visit = exchange.visit
    return b"%b%bcache-control: no-store\r\nx-request-id: %b\r\n%b%b%b" % (
        status_line(200),
        framing,
        exchange.request_id,
        _words(exchange.workload, exchange.cache_word),
        b"" if visit is not None and visit.hides else b"x-gridctl-usd: 0\r\n",
        end,
    )


def _words(workload: str, cache_word: bytes) -> bytes:
    """What the cache did (nothing, for those who may not know), and the workload."""
    known = _workloads.get((workload, cache_word))
    if known is None:
        if len(_workloads) >= MOST_NAMES:
            _workloads.clear()
        told = b"x-gridctl-cache: %b\r\n" % cache_word if cache_word else b""
        known = _workloads[workload, cache_word] = b"%bx-gridctl-workload: %b\r\n" % (told, printable(workload))
    return known
