"""Connection: one HTTP/1.1 connection of the load, one request on it at a time, read as it comes.

Every read is stamped once, before anything is made of it. Decides when a response is over, not what it means.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Protocol, cast

import httptools

from gridctl.liveload.answers import AnswerReader

MAX_ERROR_BYTES = 16 << 10
KEPT_HEADERS = frozenset(
    (b"x-gridctl-site", b"x-gridctl-cluster", b"x-gridctl-model-variant", b"x-gridctl-usd",
     b"x-gridctl-predicted-ttft-ms", b"x-gridctl-cache", b"retry-after")
)  # fmt: skip


class Reply:
    """What has come back for request number `row`. Times are monotonic nanoseconds, 0 is never."""

    __slots__ = ("answer", "end_ns", "error_body", "failure", "headers", "row", "sent_ns", "status")

    def __init__(self, row: int) -> None:
        self.row = row
        self.sent_ns = self.end_ns = 0
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.answer = AnswerReader()
        self.error_body = b""
        self.failure = ""


class Owner(Protocol):
    """Who is told what becomes of a connection."""

    def opened(self, connection: Connection) -> None: ...
    def ended(self, connection: Connection, reply: Reply) -> None:
        """The reply is complete, or will never be; the connection is free when `is_open`."""
        ...

    def unused(self, connection: Connection, reply: Reply) -> None:
        """The connection had been closed before the request reached anybody: it may be sent again."""
        ...

    def closed(self, connection: Connection) -> None: ...


class Connection(asyncio.Protocol):
    """A connection to the target."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._parser: Any = None
        self._reply: Reply | None = None
        self._now_ns = 0
        self._has_bytes = False
        self._is_reused = False

    @property
    def is_open(self) -> bool:
        """Whether another request may be sent on it."""
        return self._transport is not None and not self._transport.is_closing()

    def send(self, reply: Reply, request: bytes) -> None:
        """Send a request; what comes back goes into `reply`."""
        assert self._transport is not None
        self._is_reused = self._parser is not None
        self._parser = httptools.HttpResponseParser(self)
        self._reply = reply
        self._has_bytes = False
        reply.sent_ns = time.monotonic_ns()
        self._transport.write(request)

    def drop(self) -> None:
        """Break off, whatever is under way."""
        self._reply = None
        if self._transport is not None:
            self._transport.abort()

    # ---- transport ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._owner.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._now_ns = time.monotonic_ns()
        reply = self._reply
        if reply is not None:
            if self._is_reused and not self._has_bytes:
                self._reply = None
                self._owner.unused(self, reply)
            else:
                # A response without a length ends with its connection.
                reply.answer.close(self._now_ns)
                if exc is not None or reply.status != 200 or not reply.answer.is_complete:
                    reply.failure = reply.failure or "the connection broke"
                self._end()
        self._owner.closed(self)

    def data_received(self, data: bytes) -> None:
        self._now_ns = time.monotonic_ns()
        self._has_bytes = True
        if self._reply is None:
            self.drop()  # nobody asked
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if self._reply is not None:
                self._reply.failure = f"not HTTP: {error}"
                reply, self._reply = self._reply, None
                reply.end_ns = self._now_ns
                self.drop()
                self._owner.ended(self, reply)

    # ---- parser ----

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._reply is not None:
            lower = name.lower()
            if lower in KEPT_HEADERS:
                self._reply.headers[lower] = value

    def on_headers_complete(self) -> None:
        if self._reply is not None:
            self._reply.status = self._parser.get_status_code()

    def on_body(self, data: bytes) -> None:
        reply = self._reply
        if reply is None:
            return
        if reply.status == 200:
            reply.answer.feed(data, self._now_ns)
        elif len(reply.error_body) < MAX_ERROR_BYTES:
            reply.error_body += data

    def on_message_complete(self) -> None:
        reply = self._reply
        if reply is None or reply.status < 200:  # an interim response
            return
        reply.answer.close(self._now_ns)
        if not self._parser.should_keep_alive() and self._transport is not None:
            self._transport.close()
        self._end()

    def _end(self) -> None:
        reply, self._reply = self._reply, None
        if reply is not None:
            reply.end_ns = self._now_ns
            self._owner.ended(self, reply)
