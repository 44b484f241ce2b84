"""Pool: the connections to one engine, kept open between requests, and the opening of new ones.

The last used is used first, so that the rest can expire: an idle connection is closed before the engine would close it,
else a request is written into a connection that is just going. At the cap, requests wait in order. An engine's name is
resolved when a connection is opened, at most once in RESOLVE_S, and every address is checked (`origin`).
"""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from collections import deque
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Final, cast

from gridctl.gateway.deadlines import NEVER_NS, Deadlines
from gridctl.gateway.engine import Asker, EngineConnection, Keeper
from gridctl.gateway.origin import Address, Origin, addresses_of, check_address
from gridctl.gateway.outbox import Outbox

if TYPE_CHECKING:
    import ssl

    from gridctl.broker.plan import Settings

_now_ns: Final = time.monotonic_ns
RESOLVE_S: Final = 30.0
NS_PER_MS: Final = 1_000_000
KEEP_ALIVE_MARGIN_S: Final = 1.0
"""How long before an engine's own word for it a connection is closed."""


class Pool(Keeper):
    """Connections to one engine. `opened` and `open_now` count them; `in_use` are neither idle nor opening."""

    __slots__ = (
        "_addresses",
        "_context",
        "_deadlines",
        "_idle",
        "_is_closed",
        "_opened_before",
        "_opening",
        "_outbox",
        "_own",
        "_resolved_at",
        "_tasks",
        "_turn",
        "_waiting",
        "open_now",
        "opened",
        "origin",
        "settings",
    )

    def __init__(
        self,
        origin: Origin,
        settings: Settings,
        deadlines: Deadlines,
        outbox: Outbox,
        *,
        own: Collection[Address] = (),
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.origin = origin
        self.settings = settings
        self._deadlines = deadlines
        self._outbox = outbox
        self._own = own
        self._context = context
        self._idle: dict[EngineConnection, None] = {}
        self._waiting: deque[Asker] = deque()
        self._opening = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._addresses: list[Address] = []
        self._resolved_at = -RESOLVE_S
        self._turn = 0
        self._is_closed = False
        self._opened_before = 0
        self.opened = 0
        self.open_now = 0

    @property
    def idle(self) -> int:
        return len(self._idle)

    @property
    def waiting(self) -> int:
        return sum(1 for asker in self._waiting if asker.is_waiting)

    def opened_since(self) -> int:
        """How many connections were opened since this was last asked."""
        since, self._opened_before = self.opened - self._opened_before, self.opened
        return since

    def acquire(self, asker: Asker, *, fresh: bool = False) -> None:
        """Give `asker` a connection, at once where one is idle. `fresh`: one that no request has used before."""
        if not fresh:
            while self._idle:
                connection, _ = self._idle.popitem()
                if connection.is_usable:
                    connection.deadline_ns = NEVER_NS
                    asker.is_waiting = False
                    asker.on_connection(connection, True)
                    return
        asker.is_waiting = True
        if fresh:
            self._waiting.appendleft(asker)
        else:
            self._waiting.append(asker)
        self._open_as_needed()

    def give_back(self, connection: EngineConnection) -> None:
        """A connection whose answer has ended by its own word."""
        if self._is_closed:
            connection.cancel()
            return
        asker = self._next_waiting() if self._waiting else None
        if asker is not None:
            asker.on_connection(connection, True)
            return
        self._idle[connection] = None
        keep_ns = self.settings.upstream_keep_alive_ms * NS_PER_MS
        if connection.keep_alive_s is not None:
            keep_ns = min(keep_ns, int(max(0.0, connection.keep_alive_s - KEEP_ALIVE_MARGIN_S) * 1e9))
        self._deadlines.arm(connection, _now_ns() + keep_ns)

    def made(self, connection: EngineConnection) -> None:
        """A connection is open."""
        self.opened += 1
        self.open_now += 1

    def lost(self, connection: EngineConnection) -> None:
        """A connection has gone, in use or idle."""
        self.open_now -= 1
        self._idle.pop(connection, None)
        self._deadlines.drop(connection)
        if self._waiting:
            self._open_as_needed()

    def close(self) -> None:
        """Close what is idle and take no connection back; answers under way end in peace."""
        self._is_closed = True
        for connection in list(self._idle):
            connection.cancel()
        self._idle.clear()

    async def closed(self) -> None:
        """Stop opening connections and wait until nothing of it runs."""
        self.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # ── opening ──

    def _next_waiting(self) -> Asker | None:
        while self._waiting:
            asker = self._waiting.popleft()
            if asker.is_waiting:
                asker.is_waiting = False
                return asker
        return None

    def _open_as_needed(self) -> None:
        while self._waiting and not self._waiting[0].is_waiting:
            self._waiting.popleft()
        most = self.settings.max_upstream_connections
        while self._opening < len(self._waiting) and self.open_now + self._opening < most:
            self._opening += 1
            task = asyncio.get_running_loop().create_task(self._open())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _open(self) -> None:
        """Open one connection for whoever has waited longest; tell one of them when there is none to be had."""
        why, is_ours = "", False
        try:
            async with asyncio.timeout(self.settings.connect_timeout_ms / 1000):
                connection = await self._connect(await self._resolve())
            if not connection.is_usable:
                why = "it closed the connection at once"
        except TimeoutError:
            why = "it did not take the connection in time"
        except (OSError, ValueError) as error:  # ValueError: a certificate's, or of a name that no resolver takes
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            is_ours = getattr(error, "errno", None) in (errno.EMFILE, errno.ENFILE)
            self._resolved_at = -RESOLVE_S
        finally:
            self._opening -= 1
        if why:
            asker = self._next_waiting()
            if asker is not None:
                asker.on_no_connection(why, is_ours=is_ours)
            if self._waiting:
                self._open_as_needed()
            return
        asker = self._next_waiting()
        if asker is None:
            self.give_back(connection)
        else:
            asker.on_connection(connection, False)

    async def _resolve(self) -> list[Address]:
        """The engine's addresses, each one checked. Raises OSError when there is none that may be used."""
        now = time.monotonic()
        if now - self._resolved_at < RESOLVE_S and self._addresses:
            return self._addresses
        host, port = self.origin.host, self.origin.port
        literal = self.origin.literal
        if literal is not None:
            found = [(literal, port)]
        else:
            loop = asyncio.get_running_loop()
            found = addresses_of(await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        for address in found:
            why = check_address(address, allows_link_local=self.settings.allow_link_local, own=self._own)
            if why is not None:
                raise PermissionError(1, f"{address[0]}:{address[1]} is refused: {why}")
        if not found:
            raise OSError(f"{host} has no address")
        self._addresses, self._resolved_at = found, now
        return found

    async def _connect(self, addresses: list[Address]) -> EngineConnection:
        """A connection to one of the addresses, each tried once, beginning with another one every time."""
        loop = asyncio.get_running_loop()
        self._turn += 1
        failure: OSError | None = None
        for number in range(len(addresses)):
            host, port = addresses[(self._turn + number) % len(addresses)]
            try:
                _, connection = await loop.create_connection(
                    cast("Callable[[], asyncio.Protocol]", lambda: EngineConnection(self, self._outbox)),
                    host,
                    port,
                    ssl=self._context,
                    server_hostname=self.origin.host if self._context is not None else None,
                )
            except OSError as error:
                failure = error
                continue
            return cast("EngineConnection", connection)
        raise failure or OSError("no address")
