"""Chunks: the chunked coding, read as strictly from an engine as from a client, and written.

A size line is hexadecimal digits and an optional extension of at most 1 KiB; every chunk ends in CRLF; trailers are
bounded, checked and thrown away. Anything else is a FramingError, after which the connection must be closed: two
readers that disagree about where a message ends are how requests are smuggled. Source: RFC 9112 section 7.
"""

from __future__ import annotations

from typing import Final

from gridctl.gateway.grammar import CHUNK_SIZE, END_OF_HEAD, TRAILERS

MAX_SIZE_LINE_BYTES: Final = 1024
MAX_TRAILER_BYTES: Final = 8192
PLAIN_SIZE_LINE_BYTES: Final = 10
_HEXADECIMAL: Final = frozenset(b"0123456789abcdefABCDEF")
LAST_CHUNK: Final = b"0\r\n\r\n"


class FramingError(Exception):
    """The peer's message ends where nobody can say for sure."""


class ChunkedReader:
    """Takes bytes as they come, gives the payload; `is_done` once the last chunk and its trailers were read.

    `rest` are the bytes after the message, once it is done.
    """

    __slots__ = ("_buffer", "_in_trailers", "_left", "is_done", "rest")

    def __init__(self) -> None:
        self._buffer = b""
        self._left = 0
        """Bytes of the open chunk still to come, with its CRLF; 0 between chunks."""
        self._in_trailers = False
        self.is_done = False
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """The payload in `data`. Raises FramingError; O(len(data))."""
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        elif not self._left and not self._in_trailers:
            # What an engine writes at a time, mostly: one whole chunk, and nothing else.
            line_end = data.find(b"\r\n", 1, PLAIN_SIZE_LINE_BYTES)
            if line_end > 0 and data.endswith(b"\r\n") and _HEXADECIMAL.issuperset(data[:line_end]):
                size = int(data[:line_end], 16)
                if size and line_end + size + 4 == len(data):
                    return data[line_end + 2 : -2]
        pieces: list[bytes] = []
        position, end = 0, len(data)
        while position < end:
            if self._in_trailers:
                self._read_trailers(data[position:])
                break
            if self._left:
                position = self._read_payload(data, position, pieces)
                continue
            line_end = data.find(b"\r\n", position, position + MAX_SIZE_LINE_BYTES + 2)
            if 0 < line_end - position < PLAIN_SIZE_LINE_BYTES:
                digits = data[position:line_end]
                if _HEXADECIMAL.issuperset(digits):  # no extension, and the chunk whole: what engines write
                    size = int(digits, 16)
                    stop = line_end + 2 + size
                    if size and stop + 2 <= end and data[stop : stop + 2] == b"\r\n":
                        pieces.append(data[line_end + 2 : stop])
                        position = stop + 2
                        continue
            if line_end < 0:
                if end - position > MAX_SIZE_LINE_BYTES:
                    raise FramingError("a chunk's size line is longer than 1 KiB")
                self._buffer = data[position:]
                break
            matched = CHUNK_SIZE.fullmatch(data, position, line_end)
            if matched is None:
                raise FramingError("a chunk's size is not a number")
            position = line_end + 2
            size = int(matched[1], 16)
            if size:
                self._left = size + 2
            else:
                self._in_trailers = True
                self._read_trailers(data[position:])
                break
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _read_payload(self, data: bytes, position: int, pieces: list[bytes]) -> int:
        """Take what `data` holds of the open chunk; the position after it."""
        have = len(data) - position
        if have >= self._left:
            end = position + self._left
            if data[end - 2 : end] != b"\r\n":
                raise FramingError("a chunk is longer than it says")
            if self._left > 2:
                pieces.append(data[position : end - 2])
            self._left = 0
            return end
        payload = min(have, self._left - 2) if self._left > 2 else 0
        if payload:
            pieces.append(data[position : position + payload])
            self._left -= payload
        tail = data[position + payload :]
        if tail and tail != b"\r":
            raise FramingError("a chunk is longer than it says")
        self._buffer = tail
        return len(data)

    def _read_trailers(self, data: bytes) -> None:
        if data.startswith(b"\r\n"):
            self.is_done, self.rest = True, data[2:]
            return
        end = data.find(END_OF_HEAD, 0, MAX_TRAILER_BYTES)
        if end < 0:
            if len(data) >= MAX_TRAILER_BYTES:
                raise FramingError("trailers are longer than 8 KiB")
            self._buffer = data
            return
        if TRAILERS.fullmatch(data, 0, end + 2) is None:
            raise FramingError("a trailer is malformed")
        self.is_done, self.rest = True, data[end + 4 :]


def chunk(payload: bytes) -> bytes:
    """One chunk of a chunked message.

    >>> chunk(b"data: x")
    b'7\\r\\ndata: x\\r\\n'
    """
    return b"%x\r\n%b\r\n" % (len(payload), payload)
