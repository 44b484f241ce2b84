"""Asking: one GET to an endpoint, over the connection that the probe before left, or over one of its own.

What comes of a connection that was kept says nothing bad of the endpoint: only a fresh one that fails does. Must not
judge the answer.
"""

from __future__ import annotations

import asyncio
import ssl

from gridctl.health.exchange import Answer, Connection, GarbageError, Origin
from gridctl.health.kept import Kept
from gridctl.health.secure import SecureConnection

CLOSE = "connection: close\r\n"
KEPT_PATIENCE_S = 0.5
"""An endpoint may have forgotten a connection without a word: so long, and a fresh one is opened."""


def request_bytes(origin: Origin, path: str, *, token: str | None, agent: str, is_kept: bool) -> bytes:
    """The question. `is_kept`: the connection may stay open after the answer."""
    head = f"GET {origin.prefix}{path} HTTP/1.1\r\nhost: {origin.authority}\r\nuser-agent: {agent}\r\naccept: */*\r\n"
    if token is not None:
        head += f"authorization: Bearer {token}\r\n"
    return f"{head}{'' if is_kept else CLOSE}\r\n".encode("latin-1")


async def get(
    origin: Origin,
    address: str,
    path: str,
    *,
    context: ssl.SSLContext | None,
    token: str | None = None,
    agent: str = "gridctl",
    needs_body: bool = False,
    kept: Kept | None = None,
) -> Answer:
    """GET `path` of `origin` at the resolved `address`; no deadline of its own: the caller has one. `kept`: what is
    left of the probe before, used and left for the next one; over TLS only.

    Raises: OSError (refused, reset, unreachable, ssl.SSLError), GarbageError."""
    is_kept = kept is not None and kept.may_stay_open
    request = request_bytes(origin, path, token=token, agent=agent, is_kept=is_kept)
    if kept is not None and (connection := kept.take(address)) is not None:
        answer = await _asked_again(connection, request, needs_body=needs_body)
        if answer is not None:
            kept.put(connection, address)
            return answer
    secured = None
    if origin.is_tls:
        assert context is not None
        secured = SecureConnection(context, origin.host, kept.session if kept is not None else None)
    connection = secured or Connection()
    try:
        await asyncio.get_running_loop().create_connection(lambda: connection, address, origin.port)
        answer = await connection.ask(request, needs_body=needs_body, is_kept=is_kept)
        if kept is not None and secured is not None:
            kept.note_handshake(secured)
            kept.put(secured, address)
        return answer
    finally:
        if kept is None or not kept.holds(connection):
            connection.abort()


async def _asked_again(connection: Connection, request: bytes, *, needs_body: bool) -> Answer | None:
    """The answer over a connection that was kept; None when it came to nothing, which says nothing of the endpoint."""
    try:
        async with asyncio.timeout(KEPT_PATIENCE_S):
            return await connection.ask(request, needs_body=needs_body, is_kept=True)
    except (OSError, GarbageError):
        connection.abort()
        return None
    except BaseException:
        connection.abort()
        raise
