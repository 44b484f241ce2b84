"""One HTTP GET: the least that tells whether an endpoint answers.

A probe opens a connection each time, because whether a new one is accepted is half of what it asks; only where that
takes a TLS handshake may the one before serve a few more times (`kept`). It follows no redirect, keeps no cookie and
reads at most a mebibyte. Plain asyncio and parsers in C, because httpx takes six times the CPU: on two busy cores
(2026-11) 241 µs a probe against 1,452, which for 4,400 endpoints every 30 s is 3.5 % of a core against 21.3 %.
`tests/bench/probe_cost.py` measures it. Must not judge the answer.
"""

from __future__ import annotations

import asyncio
import ipaddress
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

import httptools

from gridctl.errors import InputError

MOST_BYTES = 1 << 20
DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an endpoint listens, taken apart once. `prefix` is its path without a slash at the end; `is_literal`: the
    host is an address and no name."""

    host: str
    port: int
    is_tls: bool
    prefix: str
    authority: str
    is_literal: bool

    @classmethod
    def of(cls, url: str) -> Origin:
        """The origin of `http(s)://HOST[:PORT][/PREFIX]`. Raises: InputError for anything else."""
        problem = None
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            problem = "it cannot be read"
        else:
            if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
                problem = "only http://HOST:PORT and https://HOST:PORT can be probed"
            elif parts.username is not None or parts.password is not None:
                problem = "it holds a user name"
            elif parts.query or parts.fragment or any(ord(letter) <= 32 or ord(letter) > 126 for letter in url):
                problem = "it holds a query, a fragment, or a character that an address cannot have"
        if problem is not None:
            raise InputError(
                f"the endpoint {url[:128]!r} is none: {problem}", fix="write for example http://10.0.0.5:8000"
            )
        host = parts.hostname or ""
        named = f"[{host}]" if ":" in host else host
        number = port if port is not None else DEFAULT_PORTS[parts.scheme]
        authority = named if number == DEFAULT_PORTS[parts.scheme] else f"{named}:{number}"
        return cls(host, number, parts.scheme == "https", parts.path.rstrip("/"), authority, _is_literal(host))


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


@dataclass(slots=True)
class Answer:
    """What came back: the status, and of the body what was asked for."""

    status: int = 0
    location: str = ""
    body: bytearray = field(default_factory=bytearray)


class GarbageError(Exception):
    """What came back is no HTTP, or more than a mebibyte of it."""


class Connection(asyncio.Protocol):
    """A connection, and the answer that it waits for; one question at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._done: asyncio.Future[Answer] | None = None
        self._is_kept = False
        self._is_reusable = False
        self._start_over(needs_body=False)

    def _start_over(self, *, needs_body: bool) -> None:
        self._needs_body = needs_body
        self._answer = Answer()
        self._parser = httptools.HttpResponseParser(self)
        self._received = 0
        self._has_head = self._is_framed = False

    async def ask(self, request: bytes, *, needs_body: bool, is_kept: bool) -> Answer:
        """Send a request and wait for its answer. `needs_body`: wait for the body whatever the status; a 503 is always
        read whole, because its body tells an engine that is starting from one that is dead. `is_kept`: read every
        answer to its end, so that the connection can serve again."""
        done: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._done = done
        self._is_kept, self._is_reusable = is_kept, False
        self._start_over(needs_body=needs_body)
        try:
            self.send(request)
            return await done
        finally:
            self._done = None
            if done.done() and not done.cancelled():
                done.exception()  # seen, also when the caller was cancelled in the same instant

    @property
    def is_reusable(self) -> bool:
        """Whether it is open, was read to the end of an answer, and the other end means to go on."""
        return self._is_reusable and self._transport is not None and not self._transport.is_closing()

    def send(self, data: bytes) -> None:
        """Write these bytes, or fail when the connection is lost."""
        if self._transport is None or self._transport.is_closing():
            self.fail(ConnectionResetError("it closed the connection"))
        else:
            self._transport.write(data)

    def abort(self) -> None:
        """Close at once, whatever is under way."""
        if self._transport is not None:
            self._transport.abort()

    def fail(self, error: Exception) -> None:
        """End the question under way with this error; of this connection nothing more is expected."""
        self._is_reusable = False
        if self._done is not None and not self._done.done():
            self._done.set_exception(error)

    # ── asyncio.Protocol ──

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Of what connects, all loops give a transport that writes; uvloop's is no subclass that would say so.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._done is None:  # nobody asked: such a connection cannot be trusted with a question
            self.abort()
            return
        if self._done.done():
            self._is_reusable = False
            return
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.fail(GarbageError(str(error)))
        if self._received > MOST_BYTES:
            self.fail(GarbageError(f"an answer of more than {MOST_BYTES} bytes"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._has_head and not self._is_framed and exc is None:
            self._finish()  # a body without a length ends with the connection
        else:
            self.fail(exc or ConnectionResetError("it closed the connection without a whole answer"))

    # ── what the parser calls ──

    @property
    def _is_answered(self) -> bool:
        return self._done is None or self._done.done()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._is_answered:
            return
        lowered = name.lower()
        if lowered in (b"content-length", b"transfer-encoding"):
            self._is_framed = True
        elif lowered == b"location":
            self._answer.location = value.decode("latin-1")[:128]

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if self._is_answered:
            self._is_reusable = False  # a second answer to one question
            return
        if status < 200:
            return  # an interim answer: the real one follows
        self._has_head = True
        self._answer.status = status
        waits = self._needs_body or status == 503 or (self._is_kept and self._is_framed)
        if not waits:
            self._finish()

    def on_body(self, body: bytes) -> None:
        if not self._is_answered:
            self._answer.body += body

    def on_message_complete(self) -> None:
        if self._has_head and not self._is_answered:
            self._is_reusable = self._is_kept and self._is_framed and self._parser.should_keep_alive()
            self._finish()

    def _finish(self) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_result(self._answer)
