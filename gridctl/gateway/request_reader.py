"""Request reader: the bytes of a connection → requests, one at a time, with every limit checked before memory is used.

Knows no socket and no clock: it is given bytes and says when a request is complete. What can be refused by the head is
refused before the body is read. The body's end is where the head says, and nothing behind it is touched until the
request before has been taken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gridctl.broker.refusal import Refusal
from gridctl.gateway.chunks import ChunkedReader, FramingError
from gridctl.gateway.grammar import END_OF_HEAD
from gridctl.gateway.head import Head, head_like_last, head_too_large, malformed, parse_head

if TYPE_CHECKING:
    from gridctl.gateway.limits import Limits

BETWEEN: Final = 0
IN_HEAD: Final = 1
IN_BODY: Final = 2
COMPLETE: Final = 3
BARE_END: Final = b"\n\n"
"""How a head ends that is written without carriage returns: it never ends for us, so waiting for more is no use."""


class RequestReader:
    """Reads one connection. `head` is that of the request being read, `body` is whole once `state` is COMPLETE.

    `held_bytes` of bodies are counted in `limits` until `release`; `received` of them have come."""

    __slots__ = (
        "_buffer",
        "_chunks",
        "_left",
        "_limits",
        "_pieces",
        "body",
        "head",
        "held_bytes",
        "received",
        "state",
        "wants_continue",
    )

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._buffer = b""
        self._chunks: ChunkedReader | None = None
        self._left = 0
        self._pieces: list[bytes] = []
        self.head: Head | None = None
        self.body = b""
        self.held_bytes = self.received = 0
        self.state = BETWEEN
        self.wants_continue = False
        """The client waits to be told to send the body it has announced."""

    def read(self, data: bytes, peer: str, most_head: int, most_body: int) -> bytes:
        """Read on, to the end of one request at most; what is left of `data` behind it. Raises Refusal."""
        while data and self.state != COMPLETE:
            data = self._read_body(data, most_body) if self.state == IN_BODY else self._read_head(
                data, peer, most_head, most_body
            )  # fmt: skip
        return data

    def next(self) -> None:
        """The complete request has been taken: ready for another. Its bytes stay counted until `release`."""
        self.state = BETWEEN
        self.body = b""
        self.received = 0

    def release(self) -> None:
        """The body's bytes are no longer held."""
        if self.held_bytes:
            self._limits.release(self.held_bytes)
            self.held_bytes = 0

    def _read_head(self, data: bytes, peer: str, most: int, most_body: int) -> bytes:
        known = len(self._buffer)
        if not known:
            alike = head_like_last(data, peer, most)
            if alike is not None:
                self.head = alike
                self._begin_body(alike, most_body)
                return data[alike.size :]
        else:
            data = self._buffer + data
            self._buffer = b""
        if data[:2] == b"\r\n":
            self.state = BETWEEN
            return data[2:]  # an empty line before a request is passed over (RFC 9112 section 2.2)
        end = data.find(END_OF_HEAD, max(0, known - 3), most)
        if end < 0:
            if len(data) >= most:
                raise head_too_large(most)
            if BARE_END in data:
                raise malformed("The request's head ends in bare line feeds.")
            self._buffer = data
            self.state = IN_HEAD
            return b""
        self.head = None
        head = self.head = parse_head(data[: end + 4], peer)
        self._begin_body(head, most_body)
        return data[end + 4 :]

    def _begin_body(self, head: Head, most: int) -> None:
        length = head.content_length or 0
        if length > most:
            raise body_too_large(most)
        self.release()
        if head.is_chunked:
            self._chunks = ChunkedReader()
        elif not length:
            self.state = COMPLETE
            return
        if not self._limits.hold(length):
            raise too_many_bytes()
        self.held_bytes = self._left = length
        self.state = IN_BODY
        self.wants_continue = head.expects_continue

    def _read_body(self, data: bytes, most: int) -> bytes:
        chunks = self._chunks
        if chunks is not None:
            return self._read_chunks(chunks, data, most)
        left = self._left - len(data)
        if left > 0:
            self._left = left
            self.received += len(data)
            self._pieces.append(data)
            return b""
        if left:
            piece, rest = data[:left], data[left:]
        else:
            piece, rest = data, b""
        self._finish(piece)
        return rest

    def _read_chunks(self, chunks: ChunkedReader, data: bytes, most: int) -> bytes:
        try:
            piece = chunks.feed(data)
        except FramingError as error:
            raise malformed(f"The request's body is malformed: {error}.") from None
        size = len(piece)
        if self.received + size > most:
            raise body_too_large(most)
        if not self._limits.hold(size):
            raise too_many_bytes()
        self.held_bytes += size
        self.received += size
        if not chunks.is_done:
            if size:
                self._pieces.append(piece)
            return b""
        self._chunks = None
        self._finish(piece)
        return chunks.rest

    def _finish(self, last: bytes) -> None:
        if self._pieces:
            self._pieces.append(last)
            last = b"".join(self._pieces)
            self._pieces = []
        self.body = last
        self.state = COMPLETE


def body_too_large(most: int) -> Refusal:
    """More bytes of body than are read from anybody."""
    return Refusal(
        413,
        f"The request's body is larger than {most:,} bytes.",
        reason="too-large",
        code="request_too_large",
        should_retry=False,
    )


def too_many_bytes() -> Refusal:
    """The worker holds as many bytes of requests as it may."""
    return Refusal(
        503,
        "The gateway holds too many requests at the moment.",
        reason="overload",
        code="overloaded",
        retry_after_ms=1000,
        should_retry=True,
    )
