"""Load: a trace's requests sent when they are due, whether or not earlier ones were answered.

The clock of a request starts at its intended moment, not when it could be sent, so a target that stalls is charged for
everybody it keeps waiting (no coordinated omission, as wrk2's README names it). A session's next turn needs the answer
before it: it is intended for its moment in the trace or, when that is later, for the end of that answer and the time a
person thinks. How late the generator itself was, `sent − intended`, is kept beside every request.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import heapq
import signal
import ssl
import time
from collections import deque
from collections.abc import Callable

import numpy as np

from gridctl.executors.alarm import Alarm
from gridctl.liveload.connection import Connection, Reply
from gridctl.liveload.heard import Heard, Limits, turns_before
from gridctl.liveload.request import RequestWriter
from gridctl.liveload.target import Target
from gridctl.traces.trace import Trace
from gridctl.units import NS_PER_MS, NS_PER_S

HEAD_START_NS = 50 * NS_PER_MS
"""Before the first request: connections are opened meanwhile."""
OPENED_AHEAD = 32
SWEEP_S = 0.25
NEVER = 1 << 62
WRITTEN_AHEAD = 64
"""Requests worded before they are due, so that wording long prompts makes none of them late."""


class LiveLoad:
    """One load. Make and run it inside an event loop."""

    def __init__(
        self, trace: Trace, target: Target, writer: RequestWriter, limits: Limits, advanced: Callable[[int], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._target = target
        self._writer = writer
        self._limits = limits
        self._advanced = advanced
        self._arrival_ns: list[int] = trace.arrival_ns.tolist()
        self._before = turns_before(trace.session)
        count = len(trace)
        self._replies: list[Reply | None] = [None] * count
        self._intended = np.zeros(count, np.int64)
        self._ended = bytearray(count)
        self._parked: dict[int, int] = {}
        self._thinking: list[tuple[int, int]] = []
        self._written: dict[int, bytes] = {}
        self._next_written = 0
        self._next = 0
        self._left = count
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._opening = 0
        self._most_open = 0
        self._backlog: deque[Reply] = deque()
        self._flying: dict[int, tuple[Reply, Connection]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._turns_late = 0
        self._is_stopped = False
        self._is_over = asyncio.Event()
        self._start_ns = 0
        self._tls = ssl.create_default_context() if target.is_tls else None
        self._alarm = Alarm(self._loop, self._send_due)

    async def run(self) -> Heard:
        """Send everything and wait for the answers, or until SIGINT."""
        with contextlib.suppress(NotImplementedError, ValueError, RuntimeError):
            self._loop.add_signal_handler(signal.SIGINT, self._stop)
        began = time.monotonic()
        try:
            gc.disable()  # nothing here makes cycles, and a collection makes requests late
            self._start_ns = time.monotonic_ns() + HEAD_START_NS
            for _ in range(min(OPENED_AHEAD, self._limits.connections, len(self._replies))):
                self._connect()
            self._alarm.set(self._start_ns + self._arrival_ns[0])
            self._write_ahead()
            sweeper = self._loop.create_task(self._sweep())
            try:
                await self._is_over.wait()
            finally:
                sweeper.cancel()
        finally:
            gc.enable()
            self._alarm.close()
            for connection in list(self._open):
                connection.drop()
            for task in list(self._tasks):
                task.cancel()
            with contextlib.suppress(NotImplementedError, ValueError, RuntimeError):
                self._loop.remove_signal_handler(signal.SIGINT)
            await asyncio.gather(*self._tasks, return_exceptions=True)
        wall_s = time.monotonic() - began
        return Heard(
            self._replies, self._intended, self._start_ns, wall_s, self._turns_late, self._most_open, self._is_stopped
        )

    # ---- when ----

    def _next_due(self) -> tuple[int, bool]:
        """When the next request is due, and whether it is a turn whose person is thinking."""
        following = self._start_ns + self._arrival_ns[self._next] if self._next < len(self._arrival_ns) else NEVER
        is_turn = bool(self._thinking) and self._thinking[0][0] < following
        return (self._thinking[0][0] if is_turn else following), is_turn

    def _send_due(self) -> None:
        """Send what is due by now, and wait for what comes next."""
        due, is_turn = self._next_due()
        while due <= time.monotonic_ns():
            if is_turn:
                self._begin(heapq.heappop(self._thinking)[1], due)
            else:
                self._next += 1
                self._due(self._next - 1, due)
            due, is_turn = self._next_due()
        if due < NEVER:
            self._alarm.set(due)
            self._write_ahead()

    def _write_ahead(self) -> None:
        """Word one more of the next requests; another one when the loop has looked at what came meanwhile."""
        self._next_written = max(self._next_written, self._next)
        if self._next_written < min(self._next + WRITTEN_AHEAD, len(self._arrival_ns)):
            self._written[self._next_written] = self._writer.request(self._next_written)
            self._next_written += 1
            self._loop.call_soon(self._write_ahead)

    def _due(self, row: int, due: int) -> None:
        """A request's moment in the trace has come; a turn may have to wait for the answer before it."""
        before = self._before[row]
        if before < 0:
            self._begin(row, due)
        elif self._ended[before]:
            self._turn(row, before, due)
        else:
            self._parked[before] = row

    def _turn(self, row: int, before: int, due: int) -> None:
        """The answer before a turn is there: it begins at its moment, or when its person has thought."""
        reply = self._replies[before]
        assert reply is not None, "it has ended"
        think_s = self._limits.think_s
        think_ns = self._arrival_ns[row] - self._arrival_ns[before] if think_s is None else round(think_s * NS_PER_S)
        intended = max(due, reply.end_ns + think_ns)
        self._turns_late += intended > due
        if intended <= time.monotonic_ns():
            self._begin(row, intended)
        else:
            heapq.heappush(self._thinking, (intended, row))
            self._alarm.set(self._next_due()[0])

    def _begin(self, row: int, intended_ns: int) -> None:
        self._intended[row] = intended_ns
        reply = Reply(row)
        if self._idle:
            self._send(self._idle.pop(), reply)
            return
        self._backlog.append(reply)
        if self._opening < len(self._backlog):
            self._connect()

    def _send(self, connection: Connection, reply: Reply) -> None:
        self._flying[reply.row] = (reply, connection)
        request = self._written.pop(reply.row, None)
        connection.send(reply, self._writer.request(reply.row) if request is None else request)

    def _finish(self, reply: Reply) -> None:
        """A request has come to its end, whatever that was."""
        row = reply.row
        reply.end_ns = reply.end_ns or time.monotonic_ns()
        self._replies[row] = reply
        self._ended[row] = 1
        self._left -= 1
        self._advanced(1)
        following = self._parked.pop(row, -1)
        if self._left == 0 or self._is_stopped:
            self._is_over.set()
        elif following >= 0:
            self._turn(following, row, self._start_ns + self._arrival_ns[following])

    async def _sweep(self) -> None:
        """End requests that take longer than they may."""
        while True:
            await asyncio.sleep(min(SWEEP_S, self._limits.timeout_s / 4))
            limit = time.monotonic_ns() - round(self._limits.timeout_s * NS_PER_S)
            late = [(reply, connection) for reply, connection in self._flying.values() if reply.sent_ns < limit]
            for reply, connection in late:
                del self._flying[reply.row]
                reply.failure = "no complete answer in time"
                connection.drop()
                self._finish(reply)

    def _stop(self) -> None:
        self._is_stopped = True
        self._is_over.set()

    # ---- connections ----

    def _connect(self) -> None:
        """Open one more connection, if there may be one."""
        if len(self._open) + self._opening < self._limits.connections:
            self._opening += 1
            task = self._loop.create_task(self._open_one())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _open_one(self) -> None:
        target = self._target
        try:
            if target.socket_path:
                await self._loop.create_unix_connection(lambda: Connection(self), target.socket_path)
            else:
                server_name = target.host if self._tls is not None else None
                await self._loop.create_connection(
                    lambda: Connection(self), target.host, target.port, ssl=self._tls, server_hostname=server_name
                )
        except OSError as error:
            self._opening -= 1
            # One waiting request is told, or all would wait for ever when nobody listens any more.
            if self._backlog:
                reply = self._backlog.popleft()
                reply.sent_ns = time.monotonic_ns()
                reply.failure = f"no connection: {error.strerror or error}"
                self._finish(reply)
                if self._backlog:
                    self._connect()

    def opened(self, connection: Connection) -> None:
        """A connection is there."""
        self._opening -= 1
        self._open.add(connection)
        self._most_open = max(self._most_open, len(self._open))
        self._free(connection)

    def ended(self, connection: Connection, reply: Reply) -> None:
        """A reply is complete, or will never be."""
        self._flying.pop(reply.row, None)
        if connection.is_open:
            self._free(connection)
        self._finish(reply)

    def unused(self, connection: Connection, reply: Reply) -> None:
        """The target had closed an idle connection as we wrote: the request goes on another one."""
        self._flying.pop(reply.row, None)
        self._backlog.appendleft(reply)

    def closed(self, connection: Connection) -> None:
        """A connection is gone."""
        self._open.discard(connection)
        with contextlib.suppress(ValueError):
            self._idle.remove(connection)
        if self._backlog and not self._is_over.is_set():
            self._connect()

    def _free(self, connection: Connection) -> None:
        if self._backlog:
            self._send(connection, self._backlog.popleft())
        else:
            self._idle.append(connection)


def run_load(
    trace: Trace, target: Target, writer: RequestWriter, limits: Limits, advanced: Callable[[int], None]
) -> Heard:
    """Send a trace in real time, in an event loop of its own."""

    async def main() -> Heard:
        return await LiveLoad(trace, target, writer, limits, advanced).run()

    with asyncio.Runner(loop_factory=_new_loop) as runner:
        return runner.run(main())


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
