"""Processes of this machine: each takes a job, answers, takes the next.

Processes, not threads: the work around the compiled loop holds the interpreter's lock, and a worker that is killed for
its memory must not take the command with it. They are started anew rather than forked, so that no thread or lock of
the caller is copied half way. A worker ignores Ctrl-C, which is the caller's to answer, and ends when the caller is
gone, because its pipe then is.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import shutil
import signal
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Generic, cast

from gridctl.errors import StoreError
from gridctl.executors.attempt import Answer, attempt, unwrap
from gridctl.executors.pool import RETRIES, Function, Job, Result, Shared, lost
from gridctl.executors.shared import mapped, packed, store, unpacked

PATIENCE_S = 2.0
"""How long a worker that was told to end may take before it is killed."""


@dataclass(slots=True)
class _Worker:
    """A process, our end of its pipe, and the number of the job it is at."""

    process: BaseProcess
    connection: Connection
    number: int | None = None


class LocalPool(Generic[Shared, Job, Result]):
    """The jobs, on processes of this machine. See `pool.Pool`."""

    def __init__(
        self, function: Function[Shared, Job, Result], shared: Shared, jobs: Sequence[Job], workers: int, own: int
    ) -> None:
        self._function = function
        self._jobs = list(jobs)
        self._waiting = deque(range(len(self._jobs)))
        self._tries = [0] * len(self._jobs)
        self._size = min(workers, len(self._jobs))
        self._context = multiprocessing.get_context("spawn")
        self._workers: list[_Worker] = []
        self._folder = Path(tempfile.mkdtemp(prefix="gridctl-"))
        try:
            try:
                self._frame, arrays = packed(shared)
                self._arrays = self._folder / "arrays"
                self._places = store(arrays, self._arrays)
            except OSError as error:
                raise StoreError(
                    f"the workers' copy of the trace cannot be written: {error.strerror or error}",
                    where=str(self._folder),
                    fix="free space there, or set TMPDIR to a folder with more",
                ) from None
            self._grow(min(workers - own, self._size))
        except BaseException:
            self.close()
            raise

    def results(self, advanced: Callable[[int, int], None]) -> Iterator[tuple[int, Result]]:
        self._grow(self._size)
        while busy := [worker for worker in self._workers if worker.number is not None]:
            ready = set(wait([worker.connection for worker in busy]))
            for worker in (worker for worker in busy if worker.connection in ready):
                number = worker.number
                assert number is not None, "only busy workers are listened to"
                try:
                    said: int | Answer[Result] = worker.connection.recv()
                except (EOFError, OSError):
                    self._replace(worker)
                    continue
                if isinstance(said, int):
                    advanced(number, said)
                    continue
                self._give(worker)
                yield number, unwrap(said)

    def close(self) -> None:
        for worker in self._workers:
            worker.connection.close()
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join(PATIENCE_S)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
        self._workers.clear()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _grow(self, size: int) -> None:
        while len(self._workers) < size:
            self._workers.append(self._started())
            self._give(self._workers[-1])

    def _started(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=_serve,
            args=(theirs, self._function, self._frame, str(self._arrays), self._places),
            daemon=True,
            name="gridctl-worker",
        )
        with _no_interrupt():
            process.start()
        theirs.close()  # so that the pipe ends when the worker does
        return _Worker(process, ours)

    def _give(self, worker: _Worker) -> None:
        """Hand the next job to an idle worker."""
        worker.number = self._waiting.popleft() if self._waiting else None
        if worker.number is not None:
            self._tries[worker.number] += 1
            with contextlib.suppress(OSError):  # gone already: reading from it says so, too
                worker.connection.send((worker.number, self._jobs[worker.number]))

    def _replace(self, worker: _Worker) -> None:
        """Another process in place of a lost one; it takes the job of that one first."""
        worker.connection.close()
        worker.process.join()
        self._workers.remove(worker)
        assert worker.number is not None, "only busy workers are listened to"
        if self._tries[worker.number] > RETRIES:
            code = worker.process.exitcode or 0
            raise lost(worker.number, f"signal {-code}" if code < 0 else f"exit {code}")
        self._waiting.appendleft(worker.number)
        self._grow(len(self._workers) + 1)


@contextlib.contextmanager
def _no_interrupt() -> Iterator[None]:
    """What is started here never hears a Ctrl-C, not even before its first line runs, where it would answer with a
    traceback; ours is delivered afterwards."""
    resource_tracker.ensure_running()  # its own start lets Ctrl-C through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(
    connection: Connection,
    function: Function[Shared, Job, Result],
    frame: object,
    arrays: str,
    places: Sequence[tuple[int, int]],
) -> None:
    """The life of a worker: jobs until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    shared = cast(Shared, unpacked(frame, mapped(Path(arrays), places)))
    with contextlib.suppress(EOFError, OSError):  # the caller has gone
        while True:
            _, job = connection.recv()
            connection.send(attempt(function, shared, job, connection.send))
