"""Service: the keeper behind its Unix socket: connections, the line for embedding, commits, and its regular work.

Decides the order of things, nothing about answers: where gateways share a tier, an exact question is looked for there
before its meaning is, and an answer that was kept is offered there. The loop never waits for the disk or a model:
commits run in one thread, embedding in another. An order is answered after what it changed is durable. A connection
that sends what is no message, or does not read, is hung up on; the others go on.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from gridctl.answers.aside import Aside
from gridctl.answers.connection import Connection
from gridctl.answers.embedding import Embedding
from gridctl.answers.keeper import Keeper
from gridctl.answers.ledger import Ledger
from gridctl.answers.orders import TAGGED, obey
from gridctl.answers.question import Found, Fresh, Note, Question
from gridctl.answers.settings import KeeperSettings, Rules
from gridctl.answers.shared_answers import SharedAnswers
from gridctl.answers.shared_place import SharedKeys, SharedPlace
from gridctl.answers.wire import Answered, Hello, Look, Obeyed, Order
from gridctl.errors import GridctlError, StoreError

COMMIT_EVERY_S = 0.02
TICK_S = 0.1
SWEEP_EVERY_S = 60.0
SYNC_EVERY_S = 5.0
RETRY_STORING_S = 2.0
LOADED_AT_ONCE = 200


class Service:
    """A keeper at work."""

    def __init__(
        self,
        keeper: Keeper,
        ledger: Ledger,
        folder: Path | None = None,
        shared: tuple[SharedPlace, SharedKeys] | None = None,
    ) -> None:
        self.keeper = keeper
        self._ledger = ledger
        self.embedding = Embedding(keeper.vectors, keeper.embedders)
        self._disk = ThreadPoolExecutor(1, "gridctl-answers-disk")
        self._aside = Aside(keeper)
        self._commit_lock = asyncio.Lock()
        self._connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._retry_at = 0.0
        self._wants_sweep = False
        self.turned_away = 0
        self.shared: SharedAnswers | None = None
        if shared is not None and folder is not None:
            self.shared = SharedAnswers(keeper, shared, folder, self.commit, self._sweep_soon, self._disk)

    @property
    def hello(self) -> Hello:
        """The greeting, which tells workers how long a look among other gateways' answers may take."""
        return Hello(shared_ms=self.shared.budget_ms if self.shared is not None else 0.0)

    async def start(self, listener: socket.socket) -> None:
        """Open the embedders, begin to load, and listen."""
        for place in {rules.embedder for rules in self.keeper.settings.rules.values() if rules.mode == "semantic"}:
            await self.embedding.open(place)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: Connection(self), sock=listener)
        for work in (
            self._load(),
            self._commit_often(),
            self._tick_often(),
            self._aside.work_out_often(),
            self._aside.learn_often(),
            self._sync_often(),
        ):
            self._start(work)
        if self.shared is not None:
            self._start(self.shared.tier.run())

    async def stop(self) -> None:
        """Hang up, write what waits, and let go."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.hang_up()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.commit()
        self.embedding.close()
        self._aside.close()
        self._disk.shutdown(wait=True)
        self._ledger.close()
        self.keeper.store.close()

    async def follow(self, settings: KeeperSettings) -> None:
        """Take a new plan's settings; the room stays as it is until a restart."""
        for place in {rules.embedder for rules in settings.rules.values() if rules.mode == "semantic"}:
            await self.embedding.open(place)
        self.keeper.follow(settings)

    # ── what is asked ──

    def look(self, connection: Connection, message: Look) -> None:
        question, shared = message.question, self.shared
        rules = self.keeper.settings.rules.get(question.workload)
        if shared is None or not shared.fetches(question, rules):
            self._look_here(connection, message, rules)
        else:
            shared.fetch(question, lambda: self._look_here(connection, message, rules))

    def _look_here(self, connection: Connection, message: Look, rules: Rules | None) -> None:
        question = message.question

        def answer() -> None:
            found = self.keeper.look(question, time.time_ns())
            connection.say(Answered(message.number, found))
            if found.ticket is not None:
                connection.awaits(question, found.ticket)

        if rules is None or rules.mode != "semantic" or question.mode != "semantic":
            answer()
        elif not self.embedding.want(rules.embedder, [question.text], answer, is_urgent=True):
            self.turned_away += 1
            self.keeper.deciders.bypassed(question.workload, time.time_ns())
            connection.say(Answered(message.number, Found("miss", "keeper-busy")))

    def abandon(self, question: Question, ticket: int) -> None:
        """A label will not come."""
        self.keeper.abandon(question, ticket, time.time_ns())

    def noted(self, notes: list[Note]) -> None:
        """A worker says what it served."""
        self.keeper.noted(notes, time.time_ns())

    def keep(self, question: Question, fresh: Fresh, rounds: int = 2) -> None:
        """Take an answer in once the vectors its judging needs are there."""
        rules = self.keeper.settings.rules.get(question.workload)
        texts = self.keeper.texts_to_judge(question, fresh) if rules is not None and rounds else []
        known = self.keeper.vectors.get(rules.embedder) if rules is not None else None
        if rules is None or known is None or not known.missing(texts) or not self.embedding.may_try(rules.embedder):
            if self.keeper.keep(question, fresh, time.time_ns()) == "kept" and self.shared is not None:
                self.shared.offer(question)
        elif not self.embedding.want(
            rules.embedder, texts, lambda: self.keep(question, fresh, rounds - 1), is_urgent=False
        ):
            self.turned_away += 1
            if fresh.ticket is not None:
                self.keeper.abandon(question, fresh.ticket, time.time_ns())

    async def order(self, connection: Connection, message: Order) -> None:
        """Carry an order out, and say so when it is durable."""
        number = message.number
        try:
            await self.commit()  # so that servings of a moment ago are found
            told = obey(self.keeper, message.order, message.words, time.time_ns())
            is_owed = self.shared is not None and self.shared.owe(message.order, message.words, told)
            told.pop("keys", None)
            is_tagged = message.order == "announce" or message.words.get("by") in TAGGED
            self._wants_sweep = self._wants_sweep or is_tagged
            problem = await self.commit()
            if problem is not None and message.order in ("purge", "announce", "feedback"):
                self._sweep_all()
                raise StoreError(
                    f"it is in force, but a restart of the cache may forget it: {problem}",
                    fix="make room on the disk; it is written by itself as soon as there is",
                )
        except GridctlError as error:
            connection.say(Obeyed(number, {}, (error.what, error.where or "", error.fix or "")))
            return
        if is_owed and self.shared is not None:
            told["shared"] = await self.shared.tell()
        if message.order == "status":
            told["shared"] = self.shared.tier.status() if self.shared is not None else None
            told |= {"turned_away": self.turned_away, "connections": len(self._connections)}
            told["embedder_problems"] = dict(self.embedding.problems)
        connection.say(Obeyed(number, told))

    # ── regular work ──

    async def commit(self) -> str | None:
        """Write what waits; what went wrong, None when nothing did."""
        async with self._commit_lock:
            batch = self.keeper.store.take()
            if batch is None:
                return None
            problem: str | None = None
            try:
                await asyncio.get_running_loop().run_in_executor(self._disk, self.keeper.store.commit, batch)
            except StoreError as error:
                problem = error.what
                self._retry_at = time.monotonic() + RETRY_STORING_S
            self.keeper.committed(batch, problem)
            return problem

    async def _commit_often(self) -> None:
        while True:
            await asyncio.sleep(COMMIT_EVERY_S)
            if time.monotonic() >= self._retry_at:
                if not self.keeper.is_storing:
                    self.keeper.retry_storing()
                await self.commit()

    async def _load(self) -> None:
        while not self.keeper.load(time.time_ns(), LOADED_AT_ONCE):
            await asyncio.sleep(0)
        gc.freeze()  # what was loaded stays: nobody need look through it for garbage

    async def _tick_often(self) -> None:
        next_sweep = time.monotonic() + SWEEP_EVERY_S
        slices = 0
        while True:
            await asyncio.sleep(TICK_S)
            if self._wants_sweep or (time.monotonic() >= next_sweep and not slices):
                self._wants_sweep = False
                next_sweep = time.monotonic() + SWEEP_EVERY_S
                self.keeper.begin_sweep()
                slices = 1
            if slices and self.keeper.is_loaded:
                self.keeper.sweep(time.time_ns())
                slices = int(self.keeper.is_sweeping)
            self.keeper.deciders.stop_broken()
            await self._try_embedders()

    async def _try_embedders(self) -> None:
        """Open what could not be opened before; then entries with its vectors are taken in again."""
        rules = self.keeper.settings.rules.values()
        for place in {one.embedder for one in rules if one.mode == "semantic"}:
            if not self.embedding.is_open(place) and self.embedding.may_try(place) and await self.embedding.open(place):
                await self.commit()
                self.keeper.load_again()
                self._start(self._load())

    async def _sync_often(self) -> None:
        while True:
            await asyncio.sleep(SYNC_EVERY_S)
            with suppress(OSError):
                await asyncio.get_running_loop().run_in_executor(self._disk, self._ledger.sync)

    def _sweep_soon(self) -> None:
        self._wants_sweep = True

    def _sweep_all(self) -> None:
        self.keeper.begin_sweep()
        while self.keeper.is_sweeping:
            self.keeper.sweep(time.time_ns())

    def _start(self, work: object) -> None:
        task = asyncio.get_running_loop().create_task(work)  # type: ignore[arg-type,var-annotated]
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            # Our own bug: a keeper without one of its duties must not go on as if nothing were. It is started again.
            asyncio.get_running_loop().call_exception_handler(
                {"message": "a duty of the cache's keeper failed", "exception": task.exception(), "is_fatal": True}
            )

    def connected(self, connection: Connection) -> None:
        self._connections.add(connection)

    def gone(self, connection: Connection) -> None:
        """No label will come from a worker that is gone."""
        self._connections.discard(connection)
        now_ns = time.time_ns()
        for question, ticket in connection.tickets.values():
            self.keeper.abandon(question, ticket, now_ns)
        connection.tickets.clear()

    def take_order(self, connection: Connection, message: Order) -> None:
        self._start(self.order(connection, message))
