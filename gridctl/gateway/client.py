"""Client: one connection of a client, from accepting it to closing it. Reads requests, answers them in order.

A request is begun when its last byte has come; what a client sends meanwhile (pipelining) waits, within bounds, and is
answered in turn. Every wait has a deadline: for a head, for a body to go on, for the client to read. A client that
closes its sending side is taken for gone, at once unless a grace is set: the engine is worth more than the odd client
that half-closes. Decides nothing about engines; the exchange asks it to write.
"""

from __future__ import annotations

import asyncio
import fcntl
import struct
import termios
import time
from typing import TYPE_CHECKING, Final, cast

from gridctl.broker.refusal import RATE_LIMIT, Refusal
from gridctl.gateway.answer import CONTINUE, error_answer
from gridctl.gateway.answer_head import LAST_LINE
from gridctl.gateway.deadlines import NEVER_NS
from gridctl.gateway.ending import refused_early
from gridctl.gateway.exchange import Exchange
from gridctl.gateway.head import Head, malformed
from gridctl.gateway.local import answer_locally
from gridctl.gateway.recipient import Recipient
from gridctl.gateway.request_reader import BETWEEN, COMPLETE, IN_BODY, RequestReader
from gridctl.gateway.routes import MODEL_ENDPOINTS, is_local, unknown_path, wrong_method
from gridctl.gateway.trace_context import request_id_of

if TYPE_CHECKING:
    from gridctl.gateway.server import Server
    from gridctl.gateway.serving import Serving

_now_ns: Final = time.monotonic_ns
HIGH_WATER_BYTES: Final = 64 * 1024
LOW_WATER_BYTES: Final = 16 * 1024
MAX_EARLY_BYTES: Final = 64 * 1024
"""Of requests sent before their turn; beyond it the connection is not read."""
MAX_OUTGOING_BYTES: Final = 32 * 1024
"""Of one turn of the event loop: beyond it they are sent at once, so that it soon shows who does not read."""
LINGER_NS: Final = 1_000_000_000
"""How long what a refused client still sends is read and thrown away, so that it gets to read why."""
LEAST_BODY_RATE: Final = 16 * 1024
"""Bytes a second below which a body is not waited for, once its time is over."""
_NS: Final = 1_000_000_000

READING: Final = 0
SERVING: Final = 1
CLOSING: Final = 2
CLOSED: Final = 3


class ClientConnection(Recipient):
    """A protocol of the event loop, by its shape alone: a class that is ours throughout can be compiled."""

    __slots__ = (
        "_early",
        "_early_is_full",
        "_exchange",
        "_has_half_closed",
        "_is_advancing",
        "_look_ns",
        "_outgoing",
        "_outgoing_bytes",
        "_reader",
        "_server",
        "_serving",
        "_since_ns",
        "_stalled_bytes",
        "_stalled_ns",
        "_state",
        "_timed_state",
        "peer",
        "transport",
    )

    def __init__(self, server: Server, peer: str) -> None:
        super().__init__()
        self._server = server
        self._serving: Serving = server.serving
        self._reader = RequestReader(server.serving.limits)
        self.peer = peer
        self.transport: asyncio.Transport | None = None
        self._state = READING
        self._early = b""
        self._early_is_full = False
        self._exchange: Exchange | None = None
        self._outgoing: list[bytes] = []
        """Written in this turn of the event loop and not sent yet."""
        self._outgoing_bytes = 0
        self._has_half_closed = False
        self._is_advancing = False
        self._since_ns = 0
        """When the head or body being read began to come; 0 between requests."""
        self._timed_state = BETWEEN
        self._look_ns = NEVER_NS
        self._stalled_ns = NEVER_NS
        self._stalled_bytes = 0

    # ── what the exchange asks for ──

    def write(self, data: bytes) -> None:
        """Send bytes at the end of the turn; they are held when the client does not read, and the exchange is told to
        wait."""
        if data and self._state != CLOSED:
            outgoing = self._outgoing
            outgoing.append(data)
            self._outgoing_bytes += len(data)
            if self._outgoing_bytes > MAX_OUTGOING_BYTES:
                self.send()
            elif len(outgoing) == 1:
                self._serving.outbox.add(self)

    def send(self) -> None:
        """Hand over what was written; called by the outbox, and before the connection is closed."""
        outgoing, transport = self._outgoing, self.transport
        if not outgoing:
            return
        data = outgoing[0] if len(outgoing) == 1 else b"".join(outgoing)
        outgoing.clear()
        self._outgoing_bytes = 0
        if transport is not None and self._state != CLOSED:
            transport.write(data)

    def last_line(self) -> bytes:
        """The end of a head: whether the connection stays, in the words of the version that the client speaks."""
        if self._serving.is_draining or self._has_half_closed:
            self.keep_alive = False
        return LAST_LINE[self.keep_alive, self.minor_version]

    def look_at(self, look_ns: int) -> None:
        """Call the exchange's `on_look` once that time has come."""
        self._look_ns = look_ns
        self._arm(look_ns)

    def ended(self, exchange: Exchange) -> None:
        """The exchange is over and has written what it had to."""
        if self._exchange is not exchange:
            return
        self._exchange = None
        self._look_ns = NEVER_NS
        if self._state == CLOSED or self.transport is None:
            self._reader.release()
        elif self.breaks_off:
            self._reader.release()
            self.cut()
        else:
            self._await_next(exchange.ended_ns)

    # ── the socket's side ──

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by name
        self.transport.set_write_buffer_limits(HIGH_WATER_BYTES, LOW_WATER_BYTES)
        self._serving.deadlines.arm(self, _now_ns() + self._serving.head_timeout_ns)
        self._server.enter(self)

    def data_received(self, data: bytes) -> None:
        if self._state == READING and not self.is_paused:
            self._advance(data)
        elif self._state in (READING, SERVING):
            self._early += data
            if len(self._early) > MAX_EARLY_BYTES and self.transport is not None and not self._early_is_full:
                self._early_is_full = True
                self.transport.pause_reading()

    def eof_received(self) -> bool:
        self._has_half_closed = True
        exchange = self._exchange
        if exchange is None:
            return False
        grace_ns = self._serving.half_close_grace_ns
        if grace_ns:
            self.look_at(min(self._look_ns, _now_ns() + grace_ns))
            return True
        exchange.client_gone()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._state = CLOSED
        exchange = self._exchange
        if exchange is not None:
            exchange.client_gone()
        self._reader.release()
        self._serving.deadlines.drop(self)
        self._server.leave(self)

    def pause_writing(self) -> None:
        self.is_paused = True
        self._stalled_ns = _now_ns() + self._serving.write_stall_ns
        self._stalled_bytes = self._unsent()
        self._arm(self.deadline_ns)
        if self._exchange is not None:
            self._exchange.on_pause()

    def resume_writing(self) -> None:
        self.is_paused = False
        self._stalled_ns = NEVER_NS
        if self._exchange is not None:
            self._exchange.on_resume()
        elif self._state == READING and not self._is_advancing:
            self._take_early()

    # ── requests ──

    def _advance(self, data: bytes) -> None:
        """Read on, and begin each request that is complete; while one is being served, the rest waits."""
        reader, settings = self._reader, self._serving.settings
        self._is_advancing = True
        try:
            while data and self._state == READING and not self.is_paused:
                data = reader.read(data, self.peer, settings.max_head_bytes, settings.max_body_bytes)
                if reader.state == COMPLETE:
                    self._begin()
                else:
                    self._wait_for_more()
        except Refusal as refusal:
            self._refuse(refusal, is_complete=False)
        finally:
            self._is_advancing = False
        if data and self._state in (READING, SERVING):
            self._early = data  # its turn comes when what is before it has been answered, and the answer been read

    def _wait_for_more(self) -> None:
        """A head or a body has come in part: what is missing has a deadline."""
        reader = self._reader
        if reader.wants_continue:
            reader.wants_continue = False
            self.write(CONTINUE)
        if reader.state != self._timed_state:
            serving, now = self._serving, _now_ns()
            self._timed_state, self._since_ns = reader.state, now
            is_body = reader.state == IN_BODY
            self._arm(now + (serving.body_timeout_ns if is_body else serving.head_timeout_ns))

    def _begin(self) -> None:
        """A request is complete: answer it ourselves, or give it to an exchange."""
        reader = self._reader
        head, body = reader.head, reader.body
        assert head is not None
        reader.next()
        self._since_ns, self._timed_state = 0, BETWEEN
        self._state = SERVING
        self.keep_alive = head.keep_alive
        self.minor_version = head.minor_version
        endpoint = MODEL_ENDPOINTS.get(head.path)
        if endpoint is not None and head.method == "POST":
            exchange = self._exchange = Exchange(self._serving, self, head, endpoint, body)
            try:
                exchange.start()
            except Exception as error:
                self._server.report(error)
                exchange.broke()
        elif is_local(head):
            self.write(answer_locally(self._serving, self._server, head, self.last_line()))
            self._await_next(_now_ns())
        else:
            self._refuse(unknown_path() if endpoint is None else wrong_method("POST"), is_complete=True)

    def _refuse(self, refusal: Refusal, *, is_complete: bool) -> None:
        """Answer a request that cannot be read, or that nobody serves here, and close if its end is not known."""
        head: Head | None = self._reader.head
        endpoint = MODEL_ENDPOINTS.get(head.path, "") if head is not None else ""
        self.keep_alive = is_complete and self.keep_alive and not self._serving.is_draining
        request_id = request_id_of(head.headers.get(b"x-request-id") if head is not None else None)
        self.write(error_answer(endpoint, refusal, request_id, keep_alive=self.keep_alive))
        now = _now_ns()
        self._serving.ended(refused_early(refusal, request_id, now, endpoint), is_whole=False)
        if is_complete:
            self._await_next(now)
        else:
            self._reader.release()
            self._linger(now)

    def _await_next(self, now_ns: int) -> None:
        """The request has been answered: go on to the next, or close."""
        self._reader.release()
        if not self.keep_alive or self._serving.is_draining or self._has_half_closed:
            self._close_gently()
            return
        self._state = READING
        self._arm(now_ns + self._serving.keep_alive_ns)
        if self._early and not self._is_advancing and not self.is_paused:
            self._take_early()

    def _take_early(self) -> None:
        """It is the turn of what came early."""
        if self._early_is_full and self.transport is not None:
            self._early_is_full = False
            self.transport.resume_reading()
        if self._early:
            early, self._early = self._early, b""
            self._advance(early)

    # ── closing ──

    def turn_away(self) -> None:
        """There are too many connections from its address."""
        refusal = Refusal(
            429,
            "There are too many connections from this address.",
            reason="overload",
            type=RATE_LIMIT,
            code="too_many_connections",
            retry_after_ms=1000,
            should_retry=True,
        )
        self._refuse(refusal, is_complete=False)

    def close_if_idle(self) -> None:
        """Close a connection that waits for its next request: the worker goes."""
        if self._state == READING and not self._since_ns:
            self._close_gently()

    def drain(self) -> None:
        """End what is open with an error, and close."""
        self.keep_alive = False
        if self._exchange is not None:
            self._exchange.drain()
        else:
            self._close_gently()

    def cut(self) -> None:
        """Close at once."""
        self._state = CLOSED
        if self.transport is not None:
            self.transport.abort()

    def _close_gently(self) -> None:
        """Close once everything written has gone; a client that does not read it is cut off by its deadline."""
        if self._state == CLOSED or self.transport is None:
            return
        self.send()
        self._state = CLOSING
        self.transport.close()
        if self.transport.get_write_buffer_size():
            self._stalled_bytes = self._unsent()
            self._serving.deadlines.arm(self, _now_ns() + self._serving.write_stall_ns)

    def _linger(self, now_ns: int) -> None:
        """The client may still be sending: read on for a moment, or closing would destroy the answer on its way."""
        self.send()
        self._state = CLOSING
        if self.transport is not None and not self.transport.is_closing():
            if self.transport.can_write_eof():
                self.transport.write_eof()
            self._serving.deadlines.arm(self, now_ns + LINGER_NS)

    # ── deadlines ──

    def _arm(self, deadline_ns: int) -> None:
        """Look again at that time, or sooner if the client does not read."""
        stalled_ns = self._stalled_ns
        self._serving.deadlines.arm(self, deadline_ns if deadline_ns < stalled_ns else stalled_ns)

    def on_deadline(self, now_ns: int) -> None:
        """Something was to have happened by now: find out what, and what follows."""
        if self.transport is None or self._state == CLOSED:
            return
        if self._state == CLOSING:
            if self.transport.get_write_buffer_size() and not self._is_stalled(now_ns):
                self._arm(self._stalled_ns)  # it still reads what it was sent last
            else:
                self.cut()
        elif now_ns >= self._stalled_ns and self._is_stalled(now_ns):
            self.cut()
            if self._exchange is not None:
                self._exchange.client_gone("slow-client")
        elif self._state == SERVING:
            self._on_serving_deadline(now_ns)
        elif self._reader.state == IN_BODY:
            self._on_body_deadline(now_ns)
        elif self._since_ns:
            self._late("The request's headers did not arrive in time.")
        elif self.is_paused:
            self._arm(self._stalled_ns)
        else:
            self._close_gently()

    def _is_stalled(self, now_ns: int) -> bool:
        """Whether the client has taken nothing since it was last looked at; if it has, it gets as much time again."""
        unsent = self._unsent()
        if unsent >= self._stalled_bytes:
            return True
        self._stalled_bytes = unsent
        self._stalled_ns = now_ns + self._serving.write_stall_ns
        return False

    def _on_serving_deadline(self, now_ns: int) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        if now_ns >= self._look_ns:
            if self._has_half_closed:
                exchange.client_gone()
                return
            exchange.on_look(now_ns)
            if self._exchange is not exchange:
                return
            self._look_ns = exchange.next_look_ns()
        self._arm(self._look_ns)

    def _on_body_deadline(self, now_ns: int) -> None:
        """A body may take longer than its time as long as it keeps coming fast enough."""
        earned_ns = self._reader.received * _NS // LEAST_BODY_RATE
        due_ns = self._since_ns + self._serving.body_timeout_ns + earned_ns
        if due_ns > now_ns:
            self._arm(due_ns)
        else:
            self._late("The request's body did not arrive in time.")

    def _late(self, message: str) -> None:
        self._refuse(malformed(message, status=408, code="request_timeout"), is_complete=False)

    def _unsent(self) -> int:
        """Bytes written and not yet taken by the client's machine: ours and the kernel's."""
        transport = self.transport
        if transport is None:
            return 0
        unsent = transport.get_write_buffer_size()
        connection = transport.get_extra_info("socket")
        if connection is not None and connection.fileno() >= 0:
            try:
                held = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, b"\0\0\0\0")
            except OSError:
                return unsent
            unsent += int(struct.unpack("i", held)[0])
        return unsent
