"""Fetch: one engine's report over HTTP/1.1, by a connection that is kept. Raw protocol: an eighth of a client library's
CPU time, which counts when hundreds of engines are asked every second.

Follows no redirect, sends credentials only to the engine they are of, reads at most MOST_BYTES, and answers within its
time. Whatever the peer does, the outcome is a Fetched: bytes with a status, or the word for what went wrong.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
from typing import Literal, NamedTuple, cast
from urllib.parse import urlsplit

import httptools

from gridctl import __version__
from gridctl.signals.report import MOST_BYTES

MOST_HEAD_BYTES = 64 << 10

Failure = Literal[
    "bad-url", "unresolved", "refused", "unreachable", "tls", "timeout", "reset", "too-large", "not-http", "redirect"
]


class Fetched(NamedTuple):
    """What came of asking: a status and its body, or a failure."""

    status: int = 0
    body: bytes = b""
    failure: Failure | None = None


class _Answer(asyncio.Protocol):
    """A connection, and the answer that it is waiting for."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.answered: asyncio.Future[Fetched] | None = None
        self._received = 0
        self._start_over()

    def _start_over(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._parts: list[bytes] = []
        self._has_length = False
        self._has_head = False

    def ask(self, request: bytes) -> asyncio.Future[Fetched]:
        """Send a request; the future ends with its answer."""
        self._received = 0
        self._start_over()
        self.answered = answered = asyncio.get_running_loop().create_future()
        if self.transport is None:  # lost as soon as it was made
            self._end(Fetched(failure="reset"))
        else:
            self.transport.write(request)
        return answered

    @property
    def is_open(self) -> bool:
        return self.transport is not None and not self.transport.is_closing()

    @property
    def is_silent(self) -> bool:
        """Whether nothing of the answer has come."""
        return self._received == 0

    def close(self) -> None:
        if self.transport is not None:
            self.transport.abort()
            self.transport = None

    def _end(self, fetched: Fetched) -> None:
        answered, self.answered = self.answered, None
        if fetched.failure is not None:
            self.close()
        if answered is not None and not answered.done():
            answered.set_result(fetched)

    # ── asyncio.Protocol ──

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # other loops' transports are of no common class

    def data_received(self, data: bytes) -> None:
        if self.answered is None:  # unasked for
            self.close()
            return
        self._received += len(data)
        if self._received > MOST_BYTES + MOST_HEAD_BYTES or (
            not self._has_head and self._received > 2 * MOST_HEAD_BYTES
        ):
            self._end(Fetched(failure="too-large"))
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._end(Fetched(failure="not-http"))

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        if error is None and self._has_head and not self._has_length:  # the body ends with the connection
            self._end(Fetched(self._parser.get_status_code(), b"".join(self._parts)))
        else:
            self._end(Fetched(failure="reset"))

    # ── the parser's events ──

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() in (b"content-length", b"transfer-encoding"):
            self._has_length = True

    def on_headers_complete(self) -> None:
        self._has_head = True

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:  # an announcement: the answer follows
            self._parts.clear()
            self._has_length = self._has_head = False
            return
        is_kept = self._parser.should_keep_alive()
        self._end(Fetched(status, b"".join(self._parts)))
        if not is_kept:
            self.close()


class Fetcher:
    """Asks one engine, again and again. Not for two questions at a time."""

    def __init__(self, url: str, authorization: str | None = None) -> None:
        """`url` is scheme://host:port[/prefix]; a URL that is none makes every answer a `bad-url`."""
        self._answer: _Answer | None = None
        self._place = _place_of(url)
        self._authorization = authorization or ""
        self._requests: dict[str, bytes] = {}

    async def get(self, path: str, timeout_s: float) -> Fetched:
        """What the engine answers under its prefix and that path. Never raises, but for cancellation."""
        if self._place is None or not _is_plain(self._authorization):
            return Fetched(failure="bad-url")
        try:
            async with asyncio.timeout(timeout_s):
                return await self._ask(self._request(path))
        except TimeoutError:
            self.close()
            return Fetched(failure="timeout")
        except ssl.SSLError:
            return Fetched(failure="tls")
        except socket.gaierror:
            return Fetched(failure="unresolved")
        except ConnectionRefusedError:
            return Fetched(failure="refused")
        except (ConnectionError, EOFError):
            return Fetched(failure="reset")
        except (OSError, UnicodeError):
            return Fetched(failure="unreachable")
        except asyncio.CancelledError:
            self.close()
            raise

    async def _ask(self, request: bytes) -> Fetched:
        if self._answer is not None and self._answer.is_open:
            fetched = await self._answer.ask(request)
            # A kept connection may be closed just as we write: then, and only then, the question is asked again.
            if fetched.failure != "reset" or not self._answer.is_silent:
                return fetched
        self._answer = await self._connect()
        return await self._answer.ask(request)

    async def _connect(self) -> _Answer:
        assert self._place is not None
        loop = asyncio.get_running_loop()
        context = _tls() if self._place.is_tls else None
        _, protocol = await loop.create_connection(_Answer, self._place.host, self._place.port, ssl=context)
        return protocol

    def _request(self, path: str) -> bytes:
        request = self._requests.get(path)
        if request is None:
            assert self._place is not None
            credential = f"authorization: {self._authorization}\r\n" if self._authorization else ""
            request = (
                f"GET {self._place.prefix}{path} HTTP/1.1\r\nhost: {self._place.authority}\r\n"
                f"accept: text/plain\r\naccept-encoding: identity\r\nuser-agent: gridctl/{__version__}\r\n"
                f"{credential}\r\n"
            ).encode("ascii")
            self._requests[path] = request
        return request

    def close(self) -> None:
        """Close the connection; the next question opens another."""
        if self._answer is not None:
            self._answer.close()
            self._answer = None


class _Place(NamedTuple):
    host: str
    port: int
    is_tls: bool
    prefix: str
    authority: str


def _place_of(url: str) -> _Place | None:
    """The parts of a URL that names a host and nothing else but a prefix; None for any other text."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not host or parts.username is not None or parts.query or parts.fragment:
        return None
    if not (_is_plain(url) and " " not in url):
        return None
    is_tls = parts.scheme == "https"
    return _Place(host, port or (443 if is_tls else 80), is_tls, parts.path.rstrip("/"), parts.netloc)


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable()


@functools.cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()
