"""Worker: one process of the data path, put together: board, broker, meter, logs, server, and the channel to control.

    python -m gridctl.gateway.worker --plan FILE --board NAME --worker K --listen-fd N --channel-fd M

Started by the control process only, which holds the listener open over the lives of its workers. It says `ready` when
it accepts, follows new plans, drains when told to, on SIGTERM, or when the channel ends, and ends at once on a second
asking. Decides nothing that its parts do not decide.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from gridctl.broker.broker import Broker
from gridctl.broker.plan import Plan, read_plan
from gridctl.broker.warmup import warm_up_decisions
from gridctl.errors import GridctlError, InputError
from gridctl.gateway.access_log import AccessLog
from gridctl.gateway.caching import open_caching
from gridctl.gateway.certificate import renew, server_context
from gridctl.gateway.channel import Channel
from gridctl.gateway.deadlines import Deadlines
from gridctl.gateway.drain import Drain
from gridctl.gateway.limits import connections_that_fit, raise_descriptor_limit
from gridctl.gateway.recall import Memory, RecordingSink, described, named_engines
from gridctl.gateway.server import Server
from gridctl.gateway.serving import Serving, Sink
from gridctl.signals.board import Board
from gridctl.signals.meter import Meter
from gridctl.traces.recorder import Recorder
from gridctl.traces.recording import read_header

GARBAGE_THRESHOLDS = (2_000_000, 20, 20)
"""Requests leave few cycles; collecting as often as the default costs more than it finds."""


class Worker:
    """The parts of one worker process, and what it does when it is told to."""

    def __init__(self, options: argparse.Namespace) -> None:
        plan = read_plan(Path(options.plan))
        self._options = options
        self._board = Board.attach(options.board)
        self._worker: int = options.worker
        self._memory = Memory()
        self._log = _access_log(options.access_log)
        self._recorder: Recorder | None = None
        self._recording: RecordingSink | None = None
        self._listeners = [socket.socket(fileno=number) for number in options.listen_fd]
        self._context = server_context(options.tls_cert, options.tls_key)
        self.serving = Serving(
            plan,
            Broker(plan, self._board, self._worker),
            Meter(self._board, self._worker),
            self._board,
            self._worker,
            Deadlines(time.monotonic_ns()),
            own=_own_addresses(self._listeners),
        )
        self.serving.half_close_grace_ns = int(options.half_close_grace_s * 1e9)
        self._fit_connections(plan)
        self._record_to(plan.settings.record or options.record)
        self.server = Server(self.serving, self._listeners, context=self._context, on_beat=self._beat)
        if options.cache is not None:
            place = options.cache, options.presence
            self.serving.caching = open_caching(
                place, self.serving, self._board, self._worker, plan, self.server.report
            )
        self.drain = Drain(self.server)
        self._channel: Channel | None = None
        self._done = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve until told to go."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._go, self.serving.settings.drain_ms / 1000)
        self._say_problems()
        self._beat(time.monotonic_ns(), 0)
        self._channel = await Channel.over(self._options.channel_fd, self._hear, self._orphaned)
        self.server.start()
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GARBAGE_THRESHOLDS)
        self._channel.say("ready", generation=self.serving.generation)
        await self._done.wait()
        await self.server.closed()
        self._flush()
        if self._recorder is not None:
            self._recorder.close()
        self._channel.say("drained")
        await asyncio.sleep(0)
        self._channel.close()

    # ── what control says ──

    def _hear(self, message: dict[str, Any]) -> None:
        do = message.get("do")
        if do == "plan":
            self._follow(str(message.get("path", "")), int(message.get("generation", 0)))
        elif do == "drain":
            self._go(float(message.get("grace_s", 0.0)))
        elif do == "stop":
            self._done.set()
        elif do == "find":
            self._find(str(message.get("request_id", "")), message.get("ask", 0))
        elif do == "recent":
            self._recent(str(message.get("site", "")), float(message.get("window_s", 0.0)), message.get("ask", 0))
        elif do == "certificate":
            renew(self._context, self._options.tls_cert, self._options.tls_key)

    def _follow(self, path: str, generation: int) -> None:
        """Serve another plan; one that cannot be served is refused, and the one in use stays."""
        assert self._channel is not None
        try:
            plan = read_plan(Path(path))
            self.serving.reload(plan)
        except GridctlError as error:
            self._channel.say("refused", generation=generation, message=error.what)
            return
        self._fit_connections(plan)
        self._record_to(plan.settings.record or self._options.record)
        self._say_problems()
        self._channel.say("planned", generation=plan.generation)

    def _find(self, request_id: str, ask: object) -> None:
        assert self._channel is not None
        request = self._memory.find(request_id)
        self._channel.say(
            "found", ask=ask, request=described(request, self.serving.broker) if request is not None else None
        )

    def _recent(self, site: str, window_s: float, ask: object) -> None:
        assert self._channel is not None
        since_ns = time.monotonic_ns() - round(window_s * 1e9)
        self._channel.say("found", ask=ask, request=self._memory.recent(site, since_ns))

    def _go(self, grace_s: float) -> None:
        """Drain; a second time: end now."""
        if self.drain.is_begun:
            self.drain.hurry()
            return
        self._start(self._drained(grace_s))

    async def _drained(self, grace_s: float) -> None:
        await self.drain.run(grace_s)
        self._done.set()

    def _orphaned(self) -> None:
        """The control process has gone: finish what is under way and go too."""
        if not self._done.is_set():
            self._go(self.serving.settings.drain_ms / 1000)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ── what it keeps ──

    def _beat(self, now_ns: int, lag_ns: int) -> None:
        self._board.beat(
            self._worker,
            now_ns,
            pid=os.getpid(),
            generation=self.serving.generation,
            in_flight=self.serving.in_flight,
            connections=self.serving.limits.connections,
            loop_lag_ns=lag_ns,
            accepted=self.server.accepted,
        )
        self._flush()

    def _flush(self) -> None:
        if self._log is not None:
            self._log.flush()
        if self._recorder is not None:
            self._recorder.flush()

    def _sinks(self) -> list[Sink]:
        sinks: list[Sink] = []
        if self._log is not None:
            sinks.append(self._log.write)
        if self._recording is not None:
            sinks.append(self._recording.record)
        sinks.append(self._memory.remember)  # the last: it drops what the others still read
        return sinks

    def _record_to(self, folder: str | None) -> None:
        """Record requests to this folder from now on, or not at all."""
        before = None if self._recorder is None else str(self._recorder.folder)
        if folder != before:
            if self._recorder is not None:
                self._recorder.close()
            self._recorder = _recorder(folder, self._worker)
            self._recording = None if self._recorder is None else RecordingSink(self._recorder, time.monotonic_ns())
        self.serving.sinks = tuple(self._sinks())
        self._name_engines()

    def _name_engines(self) -> None:
        """Tell the recording which engines the decisions from now on number."""
        if self._recording is not None:
            broker = self.serving.broker
            self._recording.recorder.keep_engines(broker.generation, named_engines(broker))

    def _fit_connections(self, plan: Plan) -> None:
        self.serving.limits.most_connections = connections_that_fit(
            plan.settings.max_connections, raise_descriptor_limit(), plan.settings.max_upstream_connections
        )

    def _say_problems(self) -> None:
        for problem in self.serving.problems:
            print(f"gridctl gateway: {problem.where}: {problem.what}", file=sys.stderr)  # noqa: T201


def _own_addresses(listeners: Sequence[socket.socket]) -> list[tuple[str, int]]:
    """Where the gateway listens, under every address by which an engine's URL could name it."""
    own: list[tuple[str, int]] = []
    for listener in listeners:
        if listener.family == socket.AF_UNIX:
            continue
        host, port = listener.getsockname()[:2]
        own.append((host, port))
        if host in ("0.0.0.0", "::"):
            own += [("127.0.0.1", port), ("::1", port)]
    return own


def _access_log(path: str | None) -> AccessLog | None:
    if path is None:
        return None
    if path == "-":
        return AccessLog(sys.stderr.fileno())
    try:
        return AccessLog(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise InputError(
            f"the access log cannot be opened: {error.strerror}", where=path, fix="choose a file you can write"
        ) from error


def _recorder(folder: str | None, worker: int) -> Recorder | None:
    return Recorder(Path(folder), worker, read_header(folder)) if folder is not None else None


def options_of(words: Sequence[str]) -> argparse.Namespace:
    """The worker's command line. Not for operators: `gridctl up` writes it."""
    parser = argparse.ArgumentParser(prog="gridctl gateway worker")
    parser.add_argument("--plan", required=True)
    parser.add_argument("--board", required=True)
    parser.add_argument("--worker", type=int, required=True)
    parser.add_argument("--listen-fd", type=int, action="append", required=True)
    parser.add_argument("--channel-fd", type=int, required=True)
    parser.add_argument("--access-log", help="a file, or - for standard error")
    parser.add_argument("--record", help="a recording's folder")
    parser.add_argument("--tls-cert")
    parser.add_argument("--tls-key")
    parser.add_argument("--cache", help="the folder of the kept answers")
    parser.add_argument("--presence", default="", help="the name of their table in shared memory")
    parser.add_argument("--half-close-grace-s", type=float, default=0.0)
    return parser.parse_args(words)


def event_loop() -> Callable[[], asyncio.AbstractEventLoop]:
    """The fastest loop there is here."""
    with contextlib.suppress(ImportError):
        import uvloop

        return uvloop.new_event_loop
    return asyncio.new_event_loop


async def _run(options: argparse.Namespace) -> None:
    await Worker(options).run()


def main(words: Sequence[str] | None = None) -> int:
    """Run a worker; the exit status."""
    options = options_of(sys.argv[1:] if words is None else words)
    try:
        warm_up_decisions()  # a worker that says it is ready decides its first request as fast as any other
        with asyncio.Runner(loop_factory=event_loop()) as runner:
            runner.run(_run(options))
    except GridctlError as error:
        place = f"{error.where}: " if error.where else ""
        fix = f" ({error.fix})" if error.fix else ""
        print(f"gridctl gateway: {place}{error.what}{fix}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
