"""Connection: HTTP/1.1 of the mock engine on a raw protocol. Reads requests, answers them in order, notices who leaves.

A client that closes its connection ends its request in the engine at once, as vLLM's server does. Requests sent behind
one another wait for their turn; reading pauses while an answer is open, so a client cannot pile them up.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, NamedTuple, Protocol, cast

import httptools

from gridctl.mockengine import wording
from gridctl.mockengine.exchange import Exchange

MAX_HEAD_BYTES = 64 << 10
HEADER_BYTES = 4
"""Of a header, besides its name and value: colon, space and line end."""
MAX_BODY_BYTES = 64 << 20
WRITE_HIGH_BYTES = 64 << 10


class Request(NamedTuple):
    """A complete request. `is_local` when it came over loopback or a Unix socket."""

    method: str
    path: str
    authorization: bytes
    body: bytes
    is_local: bool


class Service(Protocol):
    """The engine behind a connection."""

    def handle(self, request: Request, connection: Connection) -> None:
        """Answer now, or begin an exchange and hand it to the connection."""
        ...

    def leave(self, exchange: Exchange) -> None:
        """The client of an exchange has gone."""
        ...

    def opened(self, connection: Connection) -> None: ...
    def closed(self, connection: Connection) -> None: ...


class Connection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._parser: Any = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._exchange: Exchange | None = None
        self._waiting: deque[tuple[Request, bool]] = deque()
        self._is_local = False
        self._is_busy = False
        self._is_silent = False
        self.is_paused = False
        self.keeps_alive = True
        self._start()

    def _start(self) -> None:
        self._url = b""
        self._authorization = b""
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._head_bytes = self._unparsed_bytes = 0
        self._is_in_head = True

    # ---- transport ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(WRITE_HIGH_BYTES)
        peer = transport.get_extra_info("peername")
        self._is_local = not isinstance(peer, tuple) or peer[0] in ("127.0.0.1", "::1")
        self._service.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._waiting.clear()
        if self._exchange is not None:
            exchange, self._exchange = self._exchange, None
            self._service.leave(exchange)
        self._service.closed(self)

    def pause_writing(self) -> None:
        self.is_paused = True

    def resume_writing(self) -> None:
        self.is_paused = False
        if self._exchange is not None:
            self._exchange.flush()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # Answered as any request; what follows in another protocol is not.
            self.hang_up()
        except httptools.HttpParserError as error:
            self._refuse(400, f"not HTTP: {error}")
        else:
            if self._is_in_head:
                self._unparsed_bytes += len(data)
                if self._unparsed_bytes > MAX_HEAD_BYTES:
                    self._refuse(431, "the head of the request is too large")

    def _refuse(self, status: int, message: str) -> None:
        """Answer what cannot be read, and hang up."""
        if self._transport is not None and not self._transport.is_closing():
            if self._exchange is None:
                body = wording.error(status, message, "BadRequestError")
                self._transport.write(wording.response(status, body, keep_alive=False))
            self._transport.close()

    # ---- parser ----

    def on_message_begin(self) -> None:
        self._start()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value) + HEADER_BYTES
        if len(name) == 13 and name.lower() == b"authorization":
            self._authorization = value
        elif len(name) == 9 and name.lower() == b"x-api-key":  # how clients of the Messages API send theirs
            self._authorization = self._authorization or b"Bearer " + value
        elif len(name) == 6 and name.lower() == b"expect" and self._transport is not None and not self._is_busy:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(431, "the head of the request is too large")

    def on_body(self, data: bytes) -> None:
        self._body_bytes += len(data)
        if self._body_bytes <= MAX_BODY_BYTES:
            self._body.append(data)
        else:
            self._refuse(413, f"the body has more than {MAX_BODY_BYTES >> 20} MiB")

    def on_message_complete(self) -> None:
        if self._body_bytes > MAX_BODY_BYTES or self._head_bytes > MAX_HEAD_BYTES:
            return
        path = self._url.split(b"?", 1)[0].decode("latin-1")
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        method = self._parser.get_method().decode("ascii")
        request = Request(method, path, self._authorization, body, self._is_local)
        self._waiting.append((request, self._parser.should_keep_alive()))
        if not self._is_busy:
            self._next()

    # ---- answers ----

    def _next(self) -> None:
        """Take up the next request; one that is answered at once makes room for the one after it."""
        while self._waiting and not self._is_busy and self._transport is not None:
            request, self.keeps_alive = self._waiting.popleft()
            self._is_busy = True
            self._service.handle(request, self)
        if self._transport is not None and not self._transport.is_closing():
            if self._is_busy and len(self._waiting) > 4:
                self._transport.pause_reading()
            elif not self._is_busy:
                self._transport.resume_reading()

    def begin(self, exchange: Exchange) -> None:
        """An answer begins that takes its time."""
        self._exchange = exchange

    def answer(self, status: int, body: bytes, kind: bytes = b"application/json") -> None:
        """Answer the request whole."""
        self.write(wording.response(status, body, keep_alive=self.keeps_alive, kind=kind))
        self.finished()

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def finished(self) -> None:
        """The answer is complete: hang up, or take the next request."""
        self._exchange = None
        self._is_busy = False
        if not self.keeps_alive:
            self.hang_up()
        elif self._waiting:
            asyncio.get_running_loop().call_soon(self._next)

    def cut(self, *, is_reset: bool) -> None:
        """The answer ends half-way."""
        if self._exchange is not None:
            self._service.leave(self._exchange)
        if is_reset:
            self._exchange = None
            self.reset()
        else:
            self.finished()

    def reset(self) -> None:
        """Break the connection off, unsent bytes and all."""
        if self._transport is not None:
            self._transport.abort()

    def hang_up(self) -> None:
        """Close after what is written is sent."""
        if self._transport is not None:
            self._transport.close()
