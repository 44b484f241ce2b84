"""Server: accepts connections on listeners that others opened, within the limits, and turns the worker's clockwork.

Accepting is ours rather than the event loop's so that it can pause: at the cap on connections, or when the machine has
no descriptors left, those who wait stay in the kernel's queue and are not dropped. One periodic tick turns the wheel of
deadlines, beats the worker's heart and writes what was gathered. Knows no HTTP.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

from gridctl.gateway.client import ClientConnection
from gridctl.gateway.ending import set_wall_clock

if TYPE_CHECKING:
    import ssl

    from gridctl.gateway.serving import Serving

TICK_S = 0.025
BEAT_NS = 250_000_000
ACCEPTS_AT_ONCE = 16
"""Connections taken per wake-up: few, so that workers who share a listener share what comes."""
PAUSE_S = 0.5
"""How long accepting rests when there are no descriptors."""
SEND_BUFFER_BYTES = 256 * 1024
"""What the kernel holds for a client that does not read."""
EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
TLS_HANDSHAKE_S = 10.0
SAID_AGAIN_S = 10.0
"""How long an error that keeps happening at one place is not said again."""
CLOSING_TURNS = 1000
"""Turns of the loop that connections which were cut may take to go."""


class Server:
    """A worker's listeners and connections. `accepted` and `turned_away` count connections since the start."""

    def __init__(
        self,
        serving: Serving,
        listeners: Sequence[socket.socket],
        *,
        context: ssl.SSLContext | None = None,
        on_beat: Callable[[int, int], None] | None = None,
        metrics: Callable[[], bytes] | None = None,
    ) -> None:
        self.serving = serving
        self.accepted = 0
        self.turned_away = 0
        self.pauses = 0
        self.errors = 0
        self.connections: set[ClientConnection] = set()
        self._listeners = list(listeners)
        self._context = context
        self._on_beat = on_beat
        self._metrics = metrics
        self._said_at: dict[str, float] = {}
        self._opening: set[asyncio.Task[None]] = set()
        self._is_accepting = False
        self._is_resting = False
        self._ticker: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ticked_at = 0.0
        self._lag_ns = 0
        self._beat_at_ns = 0
        self.on_empty: Callable[[], None] | None = None

    def start(self) -> None:
        """Accept from now on; called inside the event loop."""
        loop = self._loop = asyncio.get_running_loop()
        for listener in self._listeners:
            listener.setblocking(False)
            if listener.family != socket.AF_UNIX:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self.serving.outbox.open(loop)
        self._resume_accepting()
        self._ticked_at = loop.time()
        self._tick()

    # ── accepting ──

    def _resume_accepting(self) -> None:
        if not self._is_accepting and self._loop is not None:
            self._is_accepting = True
            for listener in self._listeners:
                self._loop.add_reader(listener.fileno(), self._accept, listener)

    def _pause_accepting(self) -> None:
        if self._is_accepting and self._loop is not None:
            self._is_accepting = False
            self.pauses += 1
            for listener in self._listeners:
                self._loop.remove_reader(listener.fileno())

    def _rested(self) -> None:
        self._is_resting = False
        if not self.serving.limits.is_full and not self.serving.is_draining:
            self._resume_accepting()

    def _accept(self, listener: socket.socket) -> None:
        loop = self._loop
        assert loop is not None
        for _ in range(ACCEPTS_AT_ONCE):
            if self.serving.limits.connections + len(self._opening) >= self.serving.limits.most_connections:
                self._pause_accepting()
                return
            try:
                connection, address = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno in EXHAUSTED:
                    self._rest(loop, error)
                    return
                raise
            self.accepted += 1
            peer = str(address[0]) if isinstance(address, tuple) and address else ""
            task = loop.create_task(self._connect(connection, peer))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    def _rest(self, loop: asyncio.AbstractEventLoop, error: OSError) -> None:
        """No descriptors: those who wait go on waiting."""
        self._pause_accepting()
        if not self._is_resting:
            self._is_resting = True
            loop.call_later(PAUSE_S, self._rested)
            _say(f"accepting pauses for {PAUSE_S} s: {error.strerror}; raise the limit on open files (ulimit -n)")

    async def _connect(self, connection: socket.socket, peer: str) -> None:
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        try:
            if connection.family != socket.AF_UNIX:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            await loop.connect_accepted_socket(
                cast("Callable[[], asyncio.Protocol]", lambda: ClientConnection(self, peer)),
                connection,
                ssl=self._context,
                ssl_handshake_timeout=TLS_HANDSHAKE_S if self._context is not None else None,
            )
        except (OSError, TimeoutError):  # gone before it was ours, or no TLS
            self.turned_away += 1
            connection.close()
        except Exception as error:
            self.report(error)
            connection.close()

    # ── connections ──

    def enter(self, client: ClientConnection) -> None:
        """A connection is open."""
        self.connections.add(client)
        if not self.serving.limits.enter(client.peer):
            self.turned_away += 1
            client.turn_away()

    def leave(self, client: ClientConnection) -> None:
        """A connection has gone."""
        self.connections.discard(client)
        limits = self.serving.limits
        limits.leave(client.peer)
        if self.serving.is_draining:
            if not self.connections and self.on_empty is not None:
                self.on_empty()
        elif not self._is_accepting and not self._is_resting and not limits.is_full:
            self._resume_accepting()

    def metrics(self) -> bytes:
        """The text of `/metrics`, where it is served on the data address."""
        return self._metrics() if self._metrics is not None else b""

    def report(self, error: BaseException) -> None:
        """An error of our own that a request ran into: said with its place, never with the request, once in a while."""
        self.errors += 1
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        place = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else "?"
        now = time.monotonic()
        if now - self._said_at.get(place, -SAID_AGAIN_S) >= SAID_AGAIN_S:
            self._said_at[place] = now
            _say(f"internal error: {type(error).__name__} at {place} ({self.errors} errors since the start)")

    # ── the clockwork ──

    def _tick(self) -> None:
        loop = self._loop
        assert loop is not None
        started = loop.time()
        self._lag_ns = max(0, int((started - self._ticked_at - TICK_S) * 1e9)) if self._ticker is not None else 0
        self._ticked_at = started
        now = time.monotonic_ns()
        self.serving.deadlines.expire(now)
        if now - self._beat_at_ns >= BEAT_NS:
            self._beat_at_ns = now
            set_wall_clock()
            self.serving.count_connections()
            if self._on_beat is not None:
                self._on_beat(now, self._lag_ns)
        self._ticker = loop.call_later(TICK_S, self._tick)

    # ── going ──

    def stop_accepting(self) -> None:
        """Take no more connections; the listeners stay open in whoever opened them."""
        self._pause_accepting()
        for listener in self._listeners:
            listener.close()
        self._listeners = []

    async def closed(self) -> None:
        """Stop the clockwork and close what is still open."""
        self.stop_accepting()
        if self._ticker is not None:
            self._ticker.cancel()
        for task in tuple(self._opening):
            task.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)
        for client in tuple(self.connections):
            client.cut()
        await self.serving.closed()
        for _ in range(CLOSING_TURNS):
            if not self.connections and not self.serving.has_connections:
                return
            await asyncio.sleep(0.001)


def _say(text: str) -> None:
    sys.stderr.write(f"gridctl gateway: {text}\n")
    sys.stderr.flush()
