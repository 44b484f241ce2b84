"""Server: a mock engine on a socket, from listening to the last goodbye.

`MockServer` lives in a loop that is running; `serve` makes the loop and runs until a signal or a fault ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gridctl.errors import InputError
from gridctl.mockengine.connection import Connection
from gridctl.mockengine.engine import Manner, MockEngine
from gridctl.mockengine.faults import Fault
from gridctl.mockengine.pace import Pace

BACKLOG = 4096
UNIX = "unix:"

PaceMaker = Callable[[asyncio.AbstractEventLoop], Pace]


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen: a Unix socket's path, or host and port (0: any free one)."""

    host: str = "127.0.0.1"
    port: int = 0
    path: str = ""

    def opened(self) -> socket.socket:
        """A listening socket. Raises InputError."""
        try:
            return self._unix() if self.path else self._tcp()
        except (OSError, UnicodeError) as error:
            where = self.path or f"{self.host}:{self.port}"
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise InputError(
                f"cannot listen: {reason or error}", where=where, fix="--port 0 takes any free port; --listen HOST:PORT"
            ) from None

    def _tcp(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((self.host, self.port))
            listener.listen(BACKLOG)
        except BaseException:
            listener.close()
            raise
        return listener

    def _unix(self) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with contextlib.suppress(OSError):
                # One left behind by a process that was killed; a live one would answer.
                if not _answers(self.path):
                    Path(self.path).unlink()
            listener.bind(self.path)
            listener.listen(BACKLOG)
        except BaseException:
            listener.close()
            raise
        return listener


def _answers(path: str) -> bool:
    """Whether somebody listens on a Unix socket, or something else than a socket lies there."""
    if not Path(path).is_socket():
        return True
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return False
    return True


class MockServer:
    """A mock engine that listens. Make it in a running loop; `url` is where."""

    def __init__(self, address: Address, pace: Pace, manner: Manner, faults: list[Fault]) -> None:
        loop = asyncio.get_running_loop()
        self.engine = MockEngine(pace, manner, faults, loop)
        self.died = asyncio.Event()
        self._address = address
        self._server: asyncio.Server | None = None
        self._host, self._port = address.host, address.port
        self._change: asyncio.Task[None] | None = None
        self.engine.died = self._die
        self.engine.refusing = self._refuse

    @property
    def url(self) -> str:
        """Where clients find it."""
        if self._address.path:
            return f"{UNIX}{self._address.path}"
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    async def start(self) -> None:
        """Listen. When this returns, requests are answered. Raises InputError."""
        listener = self._address.opened()
        if not self._address.path:
            self._port = listener.getsockname()[1]
            self._address = Address(self._host, self._port)
        await self._listen(listener)
        self.engine.start()

    async def _listen(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        listener.setblocking(False)
        open_ = loop.create_unix_server if self._address.path else loop.create_server
        self._server = await open_(lambda: Connection(self.engine), sock=listener, backlog=BACKLOG)

    def _die(self) -> None:
        self.close()
        self.died.set()

    def _refuse(self, is_refusing: bool) -> None:
        """Take no new connection, or take them again."""
        if is_refusing and self._server is not None:
            self._server.close()
            self._server = None
        elif not is_refusing and self._server is None:
            self._change = asyncio.get_running_loop().create_task(self._listen(self._address.opened()))

    def close(self) -> None:
        """Stop listening and break every connection off."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.engine.close()
        if self._address.path:
            with contextlib.suppress(OSError):
                os.unlink(self._address.path)


def serve(
    address: Address, make_pace: PaceMaker, manner: Manner, faults: list[Fault], ready: Callable[[str], None]
) -> bool:
    """Run an engine until it is told to stop; `ready` is called with its URL once it listens. Returns whether it ended
    because of a fault. Raises InputError when it cannot listen."""
    with asyncio.Runner(loop_factory=_new_loop) as runner:
        return runner.run(_serve(address, make_pace, manner, faults, ready))


async def _serve(
    address: Address, make_pace: PaceMaker, manner: Manner, faults: list[Fault], ready: Callable[[str], None]
) -> bool:
    _allow_descriptors()
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError, ValueError):
            loop.add_signal_handler(number, stopped.set)
    server = MockServer(address, make_pace(loop), manner, faults)
    try:
        await server.start()
        ready(server.url)
        waits = [loop.create_task(event.wait()) for event in (stopped, server.died)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        return server.died.is_set()
    finally:
        server.close()


def _allow_descriptors() -> None:
    """As many open files as the system lets this process have: every client is one."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _new_loop() -> asyncio.AbstractEventLoop:
    """uvloop's, which takes a third of the time, where there is one."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
