"""Attempt: one try of a request at one engine, from waiting for a connection to the end of the engine's answer.

It takes the answer in and holds what the client has not been promised yet: an answer in one piece until it is complete
(or too large to hold), a stream until its first whole event. Until then another engine may still take over. It decides
nothing about that: it tells its exchange what came and what broke.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from gridctl.gateway.chunks import FramingError
from gridctl.gateway.engine import Asker, EngineConnection
from gridctl.gateway.engine_head import EngineHead
from gridctl.gateway.sse import EventScanner

if TYPE_CHECKING:
    from gridctl.broker.choice import Choice
    from gridctl.gateway.exchange import Exchange
    from gridctl.gateway.upstream import Upstream

_now_ns: Final = time.monotonic_ns
HOLD_BYTES: Final = 256 * 1024
"""How much of an answer in one piece is held back for the sake of a second try."""
RETRIED_STATUSES: Final = {502: "status-502", 503: "status-503", 429: "status-429"}
NEVER: Final = -1


class Attempt(Asker):
    """`first_byte_ns` and `last_ns` are when the answer began and when it last went on; `is_over` once the broker has
    been told of its end."""

    __slots__ = (
        "_has_raced",
        "_held",
        "_held_bytes",
        "_is_reused",
        "choice",
        "connection",
        "exchange",
        "first_byte_ns",
        "head",
        "is_over",
        "last_ns",
        "relayed_tail",
        "scanner",
        "sent_ns",
        "upstream",
    )

    def __init__(self, exchange: Exchange, choice: Choice, upstream: Upstream) -> None:
        super().__init__()
        self.exchange = exchange
        self.choice = choice
        self.upstream = upstream
        self.connection: EngineConnection | None = None
        self.head: EngineHead | None = None
        self.scanner: EventScanner | None = None
        self.sent_ns = self.first_byte_ns = self.last_ns = NEVER
        self.is_over = False
        self.relayed_tail = b""
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._has_raced = False
        self._is_reused = False

    def start(self) -> None:
        """Ask for a connection; the request is written when there is one."""
        self.upstream.pool.acquire(self)

    def abandon(self) -> None:
        """Leave the engine at once: nothing more comes of this attempt."""
        self.is_waiting = False
        connection = self.connection
        if connection is not None:
            self.connection = None
            connection.cancel()

    # ── what the pool says ──

    def on_connection(self, connection: EngineConnection, is_reused: bool) -> None:
        self.connection = connection
        self._is_reused = is_reused
        self.sent_ns = _now_ns()
        connection.ask(self, self.exchange.request_for(self))

    def on_no_connection(self, why: str, is_ours: bool = False) -> None:
        if is_ours:
            self.exchange.without_room(self, why)
        else:
            self.exchange.attempt_failed(self, "connect-failed", why)

    # ── what the engine says ──

    def on_head(self, head: EngineHead) -> None:
        self.head = head
        self.first_byte_ns = self.last_ns = _now_ns()
        status = head.status
        kind = RETRIED_STATUSES.get(status)
        if kind is not None and (status != 429 or head.retry_after is not None):
            self.exchange.engine_declined(self, kind)
            if self.is_over:
                return
        if head.is_event_stream and status < 300 and not head.is_encoded:
            self.scanner = self.exchange.scanner_for_stream()

    def on_body(self, data: bytes, is_last: bool) -> None:
        if is_last:
            self.connection = None
        if self.scanner is not None:
            self._on_events(data, is_last)
        elif self.exchange.relaying is self:
            self.last_ns = _now_ns()
            self.relayed_tail = (self.relayed_tail + data)[-8192:]
            self.exchange.relay(self, data, is_last)
        elif is_last:
            self.exchange.answered_whole(self, b"".join((*self._held, data)) if self._held else data)
        else:
            self._held.append(data)
            self._held_bytes += len(data)
            self.last_ns = _now_ns()
            if self._held_bytes > HOLD_BYTES:
                held = b"".join(self._held)
                self._held = []
                self.relayed_tail = held[-8192:]
                self.exchange.relay(self, held, False)

    def on_broken(self, kind: str, has_answered: bool) -> None:
        self.connection = None
        if kind == "reset" and self._is_reused and not has_answered and not self._has_raced:
            # The engine closed an idle connection as we wrote into it; it has not seen this request.
            self._has_raced = True
            self.upstream.pool.acquire(self, fresh=True)
            return
        if kind == "reset" and has_answered:
            kind = "truncated"
            if self.scanner is not None and self.scanner.is_whole and self.exchange.relaying is self:
                self.exchange.relay(self, b"", True)
                return
        self.exchange.attempt_failed(self, kind)

    def _on_events(self, data: bytes, is_last: bool) -> None:
        scanner = self.scanner
        assert scanner is not None
        had_token, deltas = scanner.has_token, scanner.deltas
        try:
            events = scanner.feed(data) if data else b""
        except FramingError:
            self.abandon()
            self.exchange.attempt_failed(self, "garbage")
            return
        now = self.last_ns = _now_ns()
        exchange = self.exchange
        if scanner.deltas != deltas:
            if not had_token:
                exchange.first_token(self, now)
            exchange.last_token_ns = now
        if is_last and not scanner.is_whole:
            if events and exchange.relaying is self:
                exchange.relay(self, events, False)
            exchange.attempt_failed(self, "truncated")
        elif events or is_last:
            exchange.relay(self, events, is_last)
            if scanner.is_done and not exchange.is_over:
                exchange.look_again()  # the response has a moment to end, too
