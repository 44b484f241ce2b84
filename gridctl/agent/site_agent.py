"""Site agent: one folder, one worker, one line to the orchestrator, started in order and ended in the opposite one.

    folder held → key pinned → journal → startup's sweep → journal says "in use" → sync loop and work loop

The loops share values and never wait for each other: a slow transfer does not delay a report, a lost orchestrator does
not delay a revert. Invariant: one agent a folder; only an end in order is journalled as one.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

from gridctl.agent.engine import Engine
from gridctl.agent.folder import AgentFolder, write_durably
from gridctl.agent.journal import JournalFile
from gridctl.agent.order import Order
from gridctl.agent.startup import put_in_order
from gridctl.agent.steps import Reached, unobserved
from gridctl.agent.syncing import Syncing
from gridctl.agent.talking import Line
from gridctl.agent.versions import Versions
from gridctl.agent.watching import EngineWatch
from gridctl.agent.worker import Say, Worker
from gridctl.artifacts.recipe import Derivation
from gridctl.errors import GridctlError, InputError, UnreachableError
from gridctl.rollout.protocol import Actual

TICK_S = 1.0
"""Seconds between looks at what only time changes: windows, leases, retries, the engine."""
STUCK_S = 5.0
"""Seconds to the next step after one that failed in a way nobody expected, such as a full disk."""
ROUNDS = 6
"""Syncs of a single run: staging, trying and committing may be wished for one after the other."""
T = TypeVar("T")


async def run_agent(
    order: Order,
    say: Say,
    stop: asyncio.Event,
    insist: asyncio.Event | None = None,
    *,
    derivations: Mapping[str, Derivation] | None = None,
    reached: Reached = unobserved,
) -> None:
    """Work until `stop`; then take trials back, for as long as the engine needs unless `insist`.

    Raises: InputError, StoreError, when it cannot begin."""
    async with _at_work(order, say, derivations, reached, may_try=True) as site:
        loops = [asyncio.create_task(site.syncing.for_ever()), asyncio.create_task(site.work_for_ever(say))]
        ending = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait([*loops, ending], return_when=asyncio.FIRST_COMPLETED)
        finally:
            site.worker.stop()
            site.changed.set()
            insisting = asyncio.create_task(_heed(insist, site.worker))
            loops[0].cancel()
            ending.cancel()
            ended = await asyncio.gather(*loops, return_exceptions=True)
            await site.in_thread(site.worker.release)
            insisting.cancel()
        for result in ended:
            if isinstance(result, Exception):
                raise result


async def run_once(
    order: Order,
    say: Say,
    *,
    derivations: Mapping[str, Derivation] | None = None,
    reached: Reached = unobserved,
) -> tuple[Actual, ...]:
    """Sync, do what is wanted, report it, and return what is here. A trial waits for an agent that stays.

    Raises: SyncRefusedError, SyncBusyError, RefusedError; UnreachableError naming what failed."""
    async with _at_work(order, say, derivations, reached, may_try=False) as site:
        for _ in range(ROUNDS):
            await site.syncing.sync()
            if not await site.work_to_the_end():
                break
        await site.syncing.sync()
        actual = site.syncing.report().actual
        for one in actual:
            if one.failed is not None:
                raise UnreachableError(
                    f"{one.model}: {one.failed.reason}: {one.failed.detail}",
                    where=str(order.folder),
                    fix=f"gridctl agent status --folder {order.folder}",
                )
        return actual


@dataclass(slots=True)
class _Site:
    """An agent at work."""

    worker: Worker
    syncing: Syncing
    changed: asyncio.Event
    pool: ThreadPoolExecutor
    tick_s: float

    async def work_for_ever(self, say: Say) -> None:
        """The worker's steps. What a step did not foresee is told and tried again: the site goes on."""
        while not self.worker.is_stopped:
            self.changed.clear()
            pause = self.tick_s
            try:
                if await self.in_thread(self.worker.step):
                    self.worker.trouble = ""
                    self.syncing.news.set()
                    continue
            except (GridctlError, OSError) as error:
                pause = STUCK_S
                if str(error) != self.worker.trouble:
                    say(f"stuck: {error}")
                self.worker.trouble = str(error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self.changed.wait()

    async def work_to_the_end(self) -> bool:
        """Steps until there are none, transfers included; whether there was any."""
        did = False
        while True:
            self.changed.clear()
            if await self.in_thread(self.worker.step):
                did = True
            elif self.worker.fetch is None:
                return did
            else:
                await self.changed.wait()

    async def in_thread(self, work: Callable[[], T]) -> T:
        """`work`, in the thread that changes the folder."""
        return await asyncio.get_running_loop().run_in_executor(self.pool, work)


@contextlib.asynccontextmanager
async def _at_work(
    order: Order, say: Say, derivations: Mapping[str, Derivation] | None, reached: Reached, *, may_try: bool
) -> AsyncIterator[_Site]:
    folder = AgentFolder(order.folder)
    folder.make()
    with folder.held():
        pinned = replace(order, key_pem=_pinned(folder, order.key_pem))
        journal = JournalFile(folder.journal, order.site)
        _pin(folder, journal, pinned.key_pem)
        versions = Versions(folder, reached)
        await asyncio.to_thread(put_in_order, folder, journal, versions, say)
        journal.change(is_clean=False)
        engine = Engine(pinned)
        changed = asyncio.Event()
        known = _derivations() if derivations is None else derivations
        watch = EngineWatch(pinned, engine)
        wake = _waker(asyncio.get_running_loop(), changed)
        worker = Worker(pinned, journal, versions, watch, known, say, reached, may_try=may_try, wake=wake)
        line = Line(pinned)
        pool = ThreadPoolExecutor(1, thread_name_prefix="agent")
        tick_s = min(TICK_S, order.health_every_s)
        try:
            yield _Site(worker, Syncing(pinned, journal, worker, line, say, reached), changed, pool, tick_s)
            with contextlib.suppress(OSError):  # a full disk: the next start reads everything, that is all
                journal.change(is_clean=True)
        finally:
            await line.close()
            engine.close()
            pool.shutdown(wait=False)


def _waker(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> Callable[[], None]:
    def wake() -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended while a transfer still did
            loop.call_soon_threadsafe(event.set)

    return wake


async def _heed(insist: asyncio.Event | None, worker: Worker) -> None:
    if insist is not None:
        await insist.wait()
        worker.stop(at_once=True)


def _pinned(folder: AgentFolder, given: str | None) -> str | None:
    """The release key to go by: the one pinned, else the one given. Raises: InputError when they differ."""
    if not folder.key.is_file():
        return given
    pinned = folder.key.read_text(encoding="ascii")
    if given is not None and given.strip() != pinned.strip():
        raise InputError(
            "another release key is pinned here",
            where=str(folder.key),
            fix="if the orchestrator's key was changed on purpose, remove the file first",
        )
    return pinned


def _pin(folder: AgentFolder, journal: JournalFile, key_pem: str | None) -> None:
    """Keep the key, and forget the counters of another one."""
    if key_pem is None:
        return
    if not folder.key.is_file():
        write_durably(folder.key, key_pem.encode())
    name = hashlib.sha256(key_pem.strip().encode()).hexdigest()
    if journal.value.key != name:
        journal.change(key=name, highest=-1, desired=None, etag="")


def _derivations() -> Mapping[str, Derivation]:
    """Recipes that this gridctl can follow."""
    from gridctl.artifacts.rederivation import DERIVATIONS

    return DERIVATIONS
