"""The admin API's server: uvicorn over a socket we opened, which tells the application who is at the other end.

Must not touch signals, which are the control process's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Iterator
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from gridctl.control.order import Tls

KEEP_ALIVE_S = 30
HEAD_TIMEOUT_S = 10.0
MOST_CONNECTIONS = 256
LONGEST_HEAD = 32 << 10
END_GRACE_S = 2


class _PeerProtocol(H11Protocol):
    """HTTP over h11, with the account at the other end of a Unix socket in `scope["state"]["peer_uid"]`."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        # A dictionary of this connection's own: the one handed in is shared by all.
        self.app_state = {**self.app_state, "peer_uid": peer_uid(transport.get_extra_info("socket"))}
        self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self._give_up_on_head)

    def _give_up_on_head(self) -> None:
        """Hang up on who has connected and asked nothing; uvicorn itself times only what is kept open afterwards."""
        has_asked: object = self.cycle
        if has_asked is None:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_timer.cancel()
        super().connection_lost(exc)


def peer_uid(connection: Any) -> int | None:
    """The account at the other end of a Unix socket; None for any other connection."""
    if connection is None or connection.family != socket.AF_UNIX:
        return None
    if hasattr(socket, "SO_PEERCRED"):
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        _, uid, _ = struct.unpack("3i", credentials)
        return int(uid)
    # Elsewhere the socket's own rights (0600, in a folder of 0700) are what keeps others out.
    import os

    return os.getuid()


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class AdminServer:
    """Serves an application on one socket until it is closed."""

    def __init__(self, app: Any, listener: socket.socket, tls: Tls | None) -> None:
        config = uvicorn.Config(
            app,
            http=_PeerProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=True,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            limit_concurrency=MOST_CONNECTIONS,
            h11_max_incomplete_event_size=LONGEST_HEAD,
            timeout_graceful_shutdown=END_GRACE_S,
            ssl_certfile=str(tls.certificate) if tls is not None else None,
            ssl_keyfile=str(tls.key) if tls is not None else None,
        )
        self._server = _Server(config)
        config.load()
        self.tls_context = config.ssl
        self._listener = listener
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to serve, in a task of the running loop."""
        self._task = asyncio.create_task(self._server.serve(sockets=[self._listener]))

    async def close(self) -> None:
        """Finish what is under way and stop."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task
