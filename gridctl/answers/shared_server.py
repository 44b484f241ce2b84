"""One connection to the shared tier's server: a Redis or Valkey, spoken to in commands of every version of either.

Decides nothing about answers. A connection is to one life of one server: it learns the life's id when it is made, and
is never made anew behind the back of who uses it, because a server that was restarted or replaced may have lost what it
was told. redis-py does the protocol, TLS and passwords; its pools and retries, which reconnect unseen, are not used. It
speaks to Valkey as to Redis (the protocol is the same), is released every few weeks and needs no compiler; `valkey-py`
is a fork of it that follows later, `valkey-glide` a compiled client with a pool of its own. Whatever goes wrong is a
LostError; what the server refuses is an answer of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from gridctl.answers.shared_place import SharedPlace

if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection

CONNECT_S = 3.0
COMMAND_S = 1.0
Command = tuple[str | bytes | int, ...]


class LostError(Exception):
    """The server cannot be reached, does not answer in time, or is none; the text says which."""


class Refused(str):
    """What the server said in place of an answer."""

    __slots__ = ()


class Line:
    """A connection; `life` is the id of the server's life. Made by `open_line`."""

    def __init__(self, connection: AbstractConnection, life: str) -> None:
        self._connection = connection
        self.life = life

    async def ask(self, commands: Sequence[Command], within_s: float = COMMAND_S) -> list[Any]:
        """The answers to some commands, which go out together. Raises LostError."""
        return await _ask(self._connection, commands, within_s)

    async def close(self) -> None:
        """Hang up."""
        await _close(self._connection)


async def open_line(place: SharedPlace) -> Line:
    """Connect. Raises LostError."""
    connection = _connection(place)
    try:
        try:
            async with asyncio.timeout(CONNECT_S):
                await connection.connect()  # type: ignore[no-untyped-call]
        except TimeoutError:
            raise LostError(f"no connection within {CONNECT_S:g} s") from None
        except Exception as error:  # the library wraps what it meets in kinds of its own, and those changed
            raise LostError(_said(error)) from error
        (told,) = await _ask(connection, [("INFO", "server")], COMMAND_S)
        if isinstance(told, Refused):
            raise LostError(f"it must allow INFO: {told}")
        return Line(connection, _life(bytes(told)))
    except BaseException:
        await _close(connection)
        raise


def _life(told: bytes) -> str:
    for line in told.decode("utf-8", "replace").splitlines():
        name, _, value = line.partition(":")
        if name == "run_id" and value.strip().isalnum():
            return value.strip()[:64]
    raise LostError("it does not tell its run_id, so nobody would know when it lost something")


async def _ask(connection: AbstractConnection, commands: Sequence[Command], within_s: float) -> list[Any]:
    from redis.exceptions import RedisError, ResponseError

    if not connection.is_connected:
        raise LostError("it hung up")
    answers: list[Any] = []
    try:
        async with asyncio.timeout(within_s):
            await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
            for _ in commands:
                try:
                    answers.append(await connection.read_response())
                except ResponseError as refusal:
                    answers.append(Refused(str(refusal)[:200]))
    except TimeoutError:
        raise LostError(f"no answer within {within_s:g} s") from None
    except (RedisError, OSError, ValueError, RecursionError) as error:
        raise LostError(_said(error)) from error
    return answers


async def _close(connection: AbstractConnection) -> None:
    with suppress(Exception):  # within CONNECT_S, which the library keeps to here, too
        await connection.disconnect()


def _connection(place: SharedPlace) -> AbstractConnection:
    from redis.asyncio import Connection, SSLConnection, UnixDomainSocketConnection
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    same: dict[str, Any] = {
        "db": place.database,
        "username": place.user or None,
        "password": place.password or None,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "socket_timeout": None,
        "socket_connect_timeout": CONNECT_S,
    }
    if place.path:
        return UnixDomainSocketConnection(path=place.path, **same)
    if not place.is_tls:
        return Connection(host=place.host, port=place.port, **same)
    import ssl

    return SSLConnection(
        host=place.host,
        port=place.port,
        ssl_cert_reqs="required",
        ssl_check_hostname=True,
        ssl_ca_certs=place.authority or None,
        ssl_min_version=ssl.TLSVersion.TLSv1_2,
        **same,
    )


def _said(error: BaseException) -> str:
    return (str(error) or type(error).__name__)[:200]


def refusals(answers: Iterable[Any]) -> list[str]:
    """What of the answers are refusals."""
    return [one for one in answers if isinstance(one, Refused)]
