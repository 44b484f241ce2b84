"""The workers: started together, started anew when one dies, given plans, drained.

Decides when a worker is started and how long one that keeps dying is left alone: 0.1 s doubled with every death in
quick succession, at most 10 s, and from the beginning once one has lived a minute. Invariant: each index has at most
one process, and the rows of a dead one are cleared before the next one counts in them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import msgspec

from gridctl.control.worker import Heard, Say, Worker
from gridctl.errors import GridctlError, Interrupted

FIRST_BACKOFF_S = 0.1
LONGEST_BACKOFF_S = 10.0
SETTLED_S = 60.0
"""A worker that lived so long did not die of how it was started."""
MOST_STARTS = 3
"""How often a worker that is killed before all are ready is started. One that ends by itself is not: it would again."""
PLAN_TIMEOUT_S = 30.0
FIND_TIMEOUT_S = 1.0
TOLD_AFTER_S = 3.0
COMPILING = "still starting: the router is compiled once per version (gridctl warmup does it ahead of time)"
KILL_AFTER_S = 5.0
"""How long a worker may take to end beyond the grace it was given."""


class Board(Protocol):
    """What the supervisor needs of the shared rows: zero what a dead worker counted."""

    def clear(self, worker: int) -> None: ...


@dataclass(slots=True)
class Facts:
    """What a worker is started with."""

    program: Sequence[str]
    board_name: str
    listen_fd: int
    extra: Sequence[str] = ()


@dataclass(slots=True)
class _Seat:
    """One index: its process now, and how often one died of late."""

    index: int
    worker: Worker | None = None
    deaths: int = 0
    restarts: int = 0
    started_at: float = 0.0
    next_start: asyncio.TimerHandle | None = None
    starting: asyncio.Task[None] | None = None

    @property
    def is_being_started(self) -> bool:
        return self.next_start is not None or (self.starting is not None and not self.starting.done())


@dataclass(slots=True)
class _Search:
    """An answer that some worker may have; with `parts`, that every one has a part of."""

    found: asyncio.Future[Any]
    waiting: set[int] = field(default_factory=set)
    parts: list[Any] | None = None


class Supervisor:
    """The workers of one orchestrator. `say` takes one line for the operator."""

    def __init__(self, facts: Facts, count: int, board: Board, say: Callable[[str], None]) -> None:
        self._facts = facts
        self._board = board
        self._say = say
        self._seats = [_Seat(index) for index in range(count)]
        self._plan = Path()
        self._generation = -1
        self._is_ending = False
        self._is_up = False
        self._changed = asyncio.Event()
        self._searches: dict[int, _Search] = {}
        self._asks = 0

    # ── what it tells ───────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def ready(self) -> int:
        """Workers that take connections."""
        return sum(1 for worker in self._workers() if worker.state == "ready")

    def describe(self) -> list[dict[str, object]]:
        """Each worker: index, pid, state, the plan it follows, restarts."""
        return [
            {
                "worker": seat.index,
                "pid": seat.worker.pid if seat.worker is not None else 0,
                "state": seat.worker.state if seat.worker is not None else "gone",
                "generation": seat.worker.generation if seat.worker is not None else -1,
                "restarts": seat.restarts,
            }
            for seat in self._seats
        ]

    # ── what it does ────────────────────────────────────────────────────────────────────────────────────────────────

    async def start(self, plan: Path, generation: int) -> None:
        """Start all workers and wait until each is ready. Raises GridctlError when one ends instead.

        The first one alone, because it compiles what is not compiled yet, and the others find it so."""
        self._plan, self._generation = plan, generation
        telling = asyncio.get_running_loop().call_later(TOLD_AFTER_S, self._say, COMPILING)
        try:
            await self._start(self._seats[0])
            await self._until_ready(1)
        finally:
            telling.cancel()
        for seat in self._seats[1:]:
            await self._start(seat)
        await self._until_ready(len(self._seats))
        self._is_up = True

    async def _until_ready(self, count: int) -> None:
        while self.ready < count:
            ended = [seat for seat in self._seats[:count] if seat.worker is None and not seat.is_being_started]
            if ended:
                raise GridctlError(
                    f"worker {ended[0].index} ended before it was ready",
                    where=" ".join(self._facts.program),
                    fix="what it said stands above; if that does not help: gridctl doctor",
                )
            if self._is_ending:
                raise Interrupted("stopped before the workers were ready; nothing was served")
            await self._next_change()

    async def follow(self, plan: Path, generation: int, timeout_s: float = PLAN_TIMEOUT_S) -> list[str]:
        """Have every worker follow a new plan; a sentence for each that does not. One that starts meanwhile will."""
        self._plan, self._generation = plan, generation
        for worker in self._workers():
            worker.say(Say(do="plan", path=str(plan), generation=generation))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while any(not _has_answered(worker, generation) for worker in self._workers()):
                    await self._next_change()
        return [problem for worker in self._workers() if (problem := _problem(worker, generation))]

    async def find(self, request_id: str, timeout_s: float = FIND_TIMEOUT_S) -> Any:
        """What some worker remembers of a request; None when none does or none answers in time."""
        return await self._ask(Say(do="find", request_id=request_id), None, timeout_s)

    async def recent(self, site: str, window_s: float, timeout_s: float = FIND_TIMEOUT_S) -> list[Any]:
        """What each worker remembers of the requests to a site that ended in the last `window_s` seconds; of those that
        answer in time."""
        parts: list[Any] = []
        await self._ask(Say(do="recent", site=site, window_s=window_s), parts, timeout_s)
        return parts

    async def _ask(self, question: Say, parts: list[Any] | None, timeout_s: float) -> Any:
        """Ask every worker; the first answer that is one, or with `parts` all of them in there."""
        self._asks += 1
        number = self._asks
        asked = {worker.index for worker in self._workers() if worker.state != "starting"}
        if not asked:
            return None
        search = self._searches[number] = _Search(asyncio.get_running_loop().create_future(), asked, parts)
        for worker in self._workers():
            worker.say(msgspec.structs.replace(question, ask=number))
        try:
            async with asyncio.timeout(timeout_s):
                return await search.found
        except TimeoutError:
            return None
        finally:
            del self._searches[number]

    def renew_certificates(self) -> None:
        """Have every worker read its TLS certificate anew."""
        for worker in self._workers():
            worker.say(Say(do="certificate"))

    def end_stuck(self, ages_s: Mapping[int, float], most_s: float) -> None:
        """End ready workers whose last sign of life is older than `most_s`: their event loop stands still, and with it
        every request they hold. `ages_s` has those that have given one."""
        for worker in self._workers():
            age_s = ages_s.get(worker.index, 0.0)
            if worker.state == "ready" and age_s > most_s:
                self._say(f"worker {worker.index} (process {worker.pid}) has stood still for {age_s:.0f} s: ending it")
                worker.kill()

    async def drain(self, grace_s: float) -> None:
        """Let workers finish what they are at, for `grace_s` at most; then they end or are ended."""
        self._is_ending = True
        self._changed.set()
        for seat in self._seats:
            if seat.next_start is not None:
                seat.next_start.cancel()
        for worker in self._workers():
            if worker.state == "starting":
                worker.kill()
            else:
                worker.state = "draining"
                worker.say(Say(do="drain", grace_s=grace_s))
        try:
            async with asyncio.timeout(grace_s + KILL_AFTER_S):
                await self._all_gone()
        except TimeoutError:
            self._say("ending workers that did not end by themselves")
            await self.stop()

    async def stop(self) -> None:
        """End every worker now."""
        self._is_ending = True
        self._changed.set()
        for worker in self._workers():
            worker.say(Say(do="stop"))
            worker.kill()
        await self._all_gone()

    # ── inside ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _workers(self) -> list[Worker]:
        return [seat.worker for seat in self._seats if seat.worker is not None]

    async def _start(self, seat: _Seat) -> None:
        worker = Worker(seat.index, self._heard)
        seat.worker = worker
        seat.started_at = asyncio.get_running_loop().time()
        facts = self._facts
        try:
            await worker.start(
                facts.program, plan=self._plan, board=facts.board_name, listen_fd=facts.listen_fd, extra=facts.extra
            )
        except OSError as error:
            self._say(f"worker {seat.index} cannot be started: {error.strerror or error}")
            seat.worker = None
            if self._is_up:
                self._restart_later(seat)

    def _heard(self, worker: Worker, heard: Heard | None) -> None:
        if heard is None:
            self._ended(worker)
        elif heard.event == "ready" and worker.generation < self._generation and self._is_up:
            # It read the plan that was current when it was started.
            worker.say(Say(do="plan", path=str(self._plan), generation=self._generation))
        elif heard.event == "found":
            self._answer(worker, heard)
        self._changed.set()

    def _answer(self, worker: Worker, heard: Heard) -> None:
        search = self._searches.get(heard.ask)
        if search is None or search.found.done():
            return
        search.waiting.discard(worker.index)
        if search.parts is not None and heard.request is not None:
            search.parts.append(heard.request)
        if not search.waiting or (search.parts is None and heard.request is not None):
            search.found.set_result(heard.request)

    def _ended(self, worker: Worker) -> None:
        seat = self._seats[worker.index]
        if seat.worker is not worker:
            return
        seat.worker = None
        self._board.clear(worker.index)
        if self._is_ending:
            return
        self._say(f"worker {worker.index} (process {worker.pid}) {_how_it_ended(worker.exit_status)}")
        was_ended = worker.exit_status is not None and worker.exit_status < 0
        if self._is_up or (was_ended and seat.restarts + 1 < MOST_STARTS):
            self._restart_later(seat)

    def _restart_later(self, seat: _Seat) -> None:
        loop = asyncio.get_running_loop()
        seat.deaths = 1 if loop.time() - seat.started_at >= SETTLED_S else seat.deaths + 1
        wait_s = min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** (seat.deaths - 1))
        seat.restarts += 1

        def start() -> None:
            seat.next_start = None
            if not self._is_ending:
                seat.starting = asyncio.create_task(self._start(seat))

        seat.next_start = loop.call_later(wait_s, start)

    async def _all_gone(self) -> None:
        await asyncio.gather(*(seat.starting for seat in self._seats if seat.starting is not None))
        await asyncio.gather(*(worker.gone() for worker in self._workers()))

    async def _next_change(self) -> None:
        self._changed.clear()
        await self._changed.wait()


def _has_answered(worker: Worker, generation: int) -> bool:
    return worker.state in ("starting", "gone") or worker.generation >= generation or worker.refused >= generation


def _problem(worker: Worker, generation: int) -> str:
    if worker.refused >= generation:
        return f"worker {worker.index} refuses it: {worker.problem}"
    if worker.generation < generation and worker.state == "ready":
        return f"worker {worker.index} has not taken it up"
    return ""


def _how_it_ended(status: int | None) -> str:
    if status is None:
        return "ended"
    return f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
