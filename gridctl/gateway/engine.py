"""Engine: our end of one connection to an engine. Writes a request, reads its answer as hostile, closes to cancel.

One request at a time. The answer ends by length, by its last chunk or with the connection, and only an answer that
ended by its own word lets the connection be used again; bytes that nobody asked for end it. Closing the socket is the
only way to cancel in HTTP/1.1, so a cancelled request's connection is aborted at once. Decides nothing about retries.
"""

from __future__ import annotations

import asyncio
from typing import Final, cast

from gridctl.gateway.chunks import ChunkedReader, FramingError
from gridctl.gateway.deadlines import Timed
from gridctl.gateway.engine_head import MAX_HEAD_BYTES, EngineHead, engine_head_like_last, parse_engine_head
from gridctl.gateway.grammar import END_OF_HEAD
from gridctl.gateway.outbox import Outbox

HIGH_WATER_BYTES: Final = 64 * 1024
LOW_WATER_BYTES: Final = 16 * 1024
MOST_INTERIM: Final = 8
"""Interim (1xx) answers that are read before an engine is taken for broken."""

IDLE: Final = 0
HEAD: Final = 1
BY_LENGTH: Final = 2
BY_CHUNKS: Final = 3
BY_END: Final = 4
CLOSED: Final = 5


class Asker:
    """Who asks an engine: told of a connection or that there is none, then of the answer as it comes. After `on_broken`
    or the last `on_body` nothing more comes. While it `is_waiting` it stands in a pool's queue."""

    __slots__ = ("is_waiting",)

    def __init__(self) -> None:
        self.is_waiting = False

    def on_connection(self, connection: EngineConnection, is_reused: bool) -> None:
        raise NotImplementedError

    def on_no_connection(self, why: str, is_ours: bool = False) -> None:
        raise NotImplementedError

    def on_head(self, head: EngineHead) -> None:
        raise NotImplementedError

    def on_body(self, data: bytes, is_last: bool) -> None:
        raise NotImplementedError

    def on_broken(self, kind: str, has_answered: bool) -> None:
        raise NotImplementedError


class Keeper:
    """Where connections come from and return to."""

    __slots__ = ()

    def made(self, connection: EngineConnection) -> None:
        raise NotImplementedError

    def give_back(self, connection: EngineConnection) -> None:
        raise NotImplementedError

    def lost(self, connection: EngineConnection) -> None:
        raise NotImplementedError


class EngineConnection(Timed):
    """A connection of a pool, by its shape a protocol of the event loop. `uses` counts the requests it was given."""

    __slots__ = (
        "_asker",
        "_buffer",
        "_chunks",
        "_head",
        "_interim",
        "_is_paused",
        "_left",
        "_outbox",
        "_outgoing",
        "_pool",
        "_state",
        "keep_alive_s",
        "received",
        "transport",
        "uses",
    )

    def __init__(self, pool: Keeper, outbox: Outbox) -> None:
        super().__init__()
        self._pool = pool
        self._outbox = outbox
        self._outgoing = b""
        self._asker: Asker | None = None
        self._state = IDLE
        self._buffer = b""
        self._chunks: ChunkedReader | None = None
        self._head: EngineHead | None = None
        self._left = 0
        self._interim = 0
        self._is_paused = False
        self.transport: asyncio.Transport | None = None
        self.keep_alive_s: float | None = None
        self.received = 0
        self.uses = 0

    @property
    def is_usable(self) -> bool:
        """Whether a request may be written now."""
        return self._state == IDLE and self.transport is not None and not self.transport.is_closing()

    # ── the asker's side ──

    def ask(self, asker: Asker, request: bytes) -> None:
        """Write a whole request at the end of the turn; `asker` is told of the answer."""
        self._asker = asker
        self._state = HEAD
        self._interim = 0
        self.uses += 1
        self._outgoing = request
        self._outbox.ask(self)

    def send(self) -> None:
        """Hand over the request; called by the outbox. One that was cancelled in its own turn never leaves."""
        request, self._outgoing = self._outgoing, b""
        if request and self._state == HEAD and self.transport is not None:
            self.transport.write(request)

    def cancel(self) -> None:
        """Close at once; nobody is told any more. The engine sees the connection go and stops."""
        self._asker = None
        self._outgoing = b""
        self._state = CLOSED
        if self.transport is not None:
            self.transport.abort()

    def pause(self) -> None:
        """Read no more until `resume`: the client is slower than the engine."""
        if not self._is_paused and self.transport is not None and not self.transport.is_closing():
            self._is_paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self._is_paused:
            self._is_paused = False
            if self.transport is not None and not self.transport.is_closing():
                self.transport.resume_reading()

    def on_deadline(self, now_ns: int) -> None:
        """It has been idle for as long as the engine may be trusted to keep it open."""
        if self._state == IDLE:
            self.cancel()

    # ── the socket's side ──

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by name
        self.transport.set_write_buffer_limits(HIGH_WATER_BYTES, LOW_WATER_BYTES)
        self._pool.made(self)

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        try:
            self._read(data)
        except FramingError:
            self._break("garbage")

    def eof_received(self) -> bool:
        asker = self._asker
        if self._state == BY_END and asker is not None:
            self._asker = None
            self._state = CLOSED
            asker.on_body(b"", True)
        return False

    def connection_lost(self, error: Exception | None) -> None:
        state, asker = self._state, self._asker
        self._state = CLOSED
        self._asker = None
        self._pool.lost(self)
        if asker is None:
            return
        if state == BY_END and error is None:
            asker.on_body(b"", True)
        else:
            asker.on_broken("reset", state != HEAD or bool(self._buffer))

    # ── reading ──

    def _read(self, data: bytes) -> None:
        state = self._state
        if state == BY_CHUNKS:
            self._read_chunks(data)
        elif state == HEAD:
            self._read_head(data)
        elif state == BY_LENGTH:
            self._read_length(data)
        elif state == BY_END:
            if self._asker is not None:
                self._asker.on_body(data, False)
        elif state == IDLE:
            # Bytes that no request asked for: whatever comes next could be taken for somebody's answer.
            self.cancel()

    def _read_head(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        alike = engine_head_like_last(data)
        if alike is not None and alike.status >= 200:
            self._begin(alike, data[alike.size :])
            return
        while True:
            end = data.find(END_OF_HEAD, 0, MAX_HEAD_BYTES)
            if end < 0:
                if len(data) >= MAX_HEAD_BYTES or not b"HTTP/1.".startswith(data[:7]):
                    raise FramingError("the engine's answer is not HTTP, or its head has no end")
                self._buffer = data
                return
            head = parse_engine_head(data[: end + 4])
            data = data[end + 4 :]
            if head.status >= 200:
                break
            self._interim += 1
            if head.status == 101 or self._interim > MOST_INTERIM:
                raise FramingError("the engine changes protocols, or never comes to its answer")
            if not data:
                return
        self._begin(head, data)

    def _begin(self, head: EngineHead, data: bytes) -> None:
        """The head is known: tell the asker, then read on by the framing that it states."""
        asker = self._asker
        self._head = head
        if head.is_chunked and not head.has_no_body:
            self._state = BY_CHUNKS
            self._chunks = ChunkedReader()
        elif head.has_no_body or head.content_length is not None:
            self._state = BY_LENGTH
            self._left = 0 if head.has_no_body else head.content_length or 0
        else:
            self._state = BY_END
        if asker is None:
            return
        asker.on_head(head)
        if self._asker is not asker:  # cancelled meanwhile
            return
        if self._state == BY_LENGTH:
            self._read_length(data)
        elif data:
            self._read(data)

    def _read_length(self, data: bytes) -> None:
        left = self._left - len(data)
        if left > 0:
            self._left = left
            if self._asker is not None:
                self._asker.on_body(data, False)
            return
        self._left = 0
        self._complete(data if left == 0 else data[:left], is_clean=left == 0)

    def _read_chunks(self, data: bytes) -> None:
        chunks = self._chunks
        assert chunks is not None
        payload = chunks.feed(data)
        if chunks.is_done:
            self._complete(payload, is_clean=not chunks.rest)
        elif payload and self._asker is not None:
            self._asker.on_body(payload, False)

    def _complete(self, last: bytes, *, is_clean: bool) -> None:
        """The answer has ended by its own word: the connection goes back, then the asker gets the end."""
        asker, head, transport = self._asker, self._head, self.transport
        self._asker = self._head = self._chunks = None
        self._state = IDLE
        assert head is not None
        assert transport is not None
        if is_clean and head.keep_alive and not transport.is_closing() and not transport.get_write_buffer_size():
            self.resume()
            self.keep_alive_s = head.keep_alive_s
            self._pool.give_back(self)
        else:
            self._state = CLOSED
            transport.close()
        if asker is not None:
            asker.on_body(last, True)

    def _break(self, kind: str) -> None:
        """The engine does not speak HTTP: tell the asker and close."""
        asker, has_answered = self._asker, self._state != HEAD
        self.cancel()
        if asker is not None:
            asker.on_broken(kind, has_answered)
