"""Wire: what workers, the control process and the keeper say to each other over the Unix socket, as bytes.

Four bytes of length, little-endian, then one message in msgpack. Decides only what is a message: one that is too long
or not of these kinds ends the connection. Both ends are the same program in the same version; the greeting says so, and
an older worker is hung up on rather than misunderstood.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from gridctl.answers.handed import Handed, Kind
from gridctl.answers.question import Found, Fresh, Note, Question
from gridctl.errors import InputError

VERSION = 2
LONGEST_FRAME = 4 << 20
SOCKET = "keeper.sock"
_LONGEST_PATH = 100
"""Bytes of a Unix socket's path that every system takes."""


class Hello(msgspec.Struct, tag="hello", array_like=True):
    """The first message of either side. `shared_ms` is what the keeper may take for a look among other gateways'
    answers, 0 where it does not look there."""

    version: int = VERSION
    shared_ms: float = 0.0


class Look(msgspec.Struct, tag="look", array_like=True):
    """A worker asks; the answer carries the number."""

    number: int
    question: Question


class Keep(msgspec.Struct, tag="keep", array_like=True):
    """A worker hands an answer in."""

    question: Question
    fresh: Fresh


class Keeps(msgspec.Struct, tag="keeps", array_like=True):
    """A worker hands answers in as they came, and what they share."""

    kinds: list[Kind]
    handed: list[Handed]


class Abandon(msgspec.Struct, tag="abandon", array_like=True):
    """A worker will have no answer for a ticket."""

    question: Question
    ticket: int


class Notes(msgspec.Struct, tag="notes", array_like=True):
    """What a worker served."""

    notes: list[Note]


class Order(msgspec.Struct, tag="order", array_like=True):
    """The control process orders; see `orders`."""

    number: int
    order: str
    words: dict[str, Any]


class Answered(msgspec.Struct, tag="answered", array_like=True):
    """The keeper answers a look."""

    number: int
    found: Found


class Obeyed(msgspec.Struct, tag="obeyed", array_like=True):
    """The keeper answers an order; `problem` is (what, where, fix) where it could not obey."""

    number: int
    told: dict[str, Any]
    problem: tuple[str, str, str] | None = None


ToKeeper = Hello | Look | Keep | Keeps | Abandon | Notes | Order
FromKeeper = Hello | Answered | Obeyed
_encoder = msgspec.msgpack.Encoder()
decode_to_keeper = msgspec.msgpack.Decoder(ToKeeper).decode
decode_from_keeper = msgspec.msgpack.Decoder(FromKeeper).decode


def frame(message: ToKeeper | FromKeeper) -> bytes:
    """A message's bytes. Raises InputError when it is too long to send."""
    body = _encoder.encode(message)
    if len(body) > LONGEST_FRAME:
        raise InputError(f"a message of {len(body):,} bytes is too long for the cache's keeper")
    return len(body).to_bytes(4, "little") + body


class Frames:
    """Bytes as they arrive, cut into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def cut(self, data: bytes) -> Iterator[bytes]:
        """The messages that are whole now. Raises InputError for one that is too long."""
        self._buffer += data
        start = 0
        while len(self._buffer) - start >= 4:
            length = int.from_bytes(self._buffer[start : start + 4], "little")
            if length > LONGEST_FRAME:
                raise InputError("a message to the cache's keeper is too long")
            if len(self._buffer) - start - 4 < length:
                break
            yield bytes(self._buffer[start + 4 : start + 4 + length])
            start += 4 + length
        del self._buffer[:start]


def listen(folder: Path) -> socket.socket:
    """A socket for the keeper, which only this user can reach. The control process holds it over the keeper's lives."""
    import os

    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / SOCKET
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        with _reachable(path) as name:
            listener.bind(name)
    except BaseException:
        listener.close()
        raise
    finally:
        os.umask(before)
    listener.listen(256)
    listener.setblocking(False)
    return listener


def connect(folder: Path) -> socket.socket:
    """A connection to the keeper. Raises OSError. Never waits: a full backlog is an error."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        with _reachable(folder / SOCKET) as name:
            connection.connect(name)
    except BaseException:
        connection.close()
        raise
    return connection


class _reachable:  # noqa: N801 (a context, used as a verb)
    """A name for a socket's path, however long the path is: through its folder's descriptor where it must be."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def __enter__(self) -> str:
        import os

        if len(os.fsencode(self._path)) <= _LONGEST_PATH:
            return str(self._path)
        self._descriptor = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._descriptor}/{self._path.name}"

    def __exit__(self, *error: object) -> None:
        import os

        if self._descriptor >= 0:
            os.close(self._descriptor)
