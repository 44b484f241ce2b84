"""The shared tier: exact answers that several gateways keep together on a Redis or Valkey server, beside their own.

    look, nothing here ─▶ fetch ─▶ [GETRANGE answer …, LLEN notices, GET state] ─▶ opened, held against the notices
    answer kept here   ─▶ offer ─▶ a bounded line ─▶ SET … PX
    purge, stop, wrong ─▶ owe   ─▶ written down here ─▶ RPUSHX notices ─▶ carried out everywhere within a second

Only the keeper speaks to it. An answer from there becomes an entry of this gateway, and is served by the same rules as
any other. Decides what is fetched and what of it is believed: sealed by a holder of the key for this very question, in
the epoch of now, with nothing ordered since. The notices are counted after the answers are read, so a purge that was
acknowledged before a look is never missed by it.

When the server may have lost something, all of it is void (`shared_epochs`). Who can write to the server can make
answers vanish, and hold a notice back from a gateway that has not read it; no answer outlives its own time even then.

Never in the way: a look waits `budget_ms` at most and is a miss; after a row of those, or an error, nothing is asked
until a probe is quick again. Without the server everything else goes on.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from gridctl.answers import shared_record as records
from gridctl.answers.entries import Entry
from gridctl.answers.question import Question
from gridctl.answers.sealing import OVERHEAD_BYTES, Sealing
from gridctl.answers.shared_epochs import Epochs
from gridctl.answers.shared_place import SharedKeys, SharedPlace
from gridctl.answers.shared_record import Notice, Record
from gridctl.answers.shared_server import Command, Line, LostError, Refused, open_line
from gridctl.answers.shared_writing import LARGEST_BYTES, Writing

POLL_S = 1.0
MOST_FETCHES, MOST_TOGETHER = 512, 32
LONGEST_SEALED = LARGEST_BYTES + 16_384 + OVERHEAD_BYTES
"""Bytes of a sealed answer that are asked for at most: with its tags and names."""
MOST_LATE = 8
"""Looks in a row that waited in vain before none is asked any more."""
FIRST_REST_S, LONGEST_REST_S = 0.25, 15.0

Then = Callable[[Record | None], None]


class _Fetch:
    """A look that waits."""

    __slots__ = ("is_over", "question", "then", "timer")

    def __init__(self, question: Question, then: Then) -> None:
        self.question, self.then = question, then
        self.timer: asyncio.TimerHandle | None = None
        self.is_over = False

    def end(self, record: Record | None) -> None:
        if not self.is_over:
            self.is_over = True
            if self.timer is not None:
                self.timer.cancel()
            self.then(record)


class SharedTier:
    """The tier as one keeper sees it. `carry_out` does what notices of others order and tells the place of the purges
    afterwards; `commit` makes that durable."""

    def __init__(
        self,
        place: SharedPlace,
        keys: SharedKeys,
        folder: Path,
        carry_out: Callable[[Sequence[Notice]], int],
        commit: Callable[[], Awaitable[object]],
        disk: Executor,
    ) -> None:
        self.place = place
        self._keys = keys
        self._sealing = Sealing(keys.sealing)
        self.counts: Counter[str] = Counter()
        self._writing = Writing(place, self._sealing, self.counts)
        self._epochs = Epochs(keys.prefix, self._sealing, folder, carry_out, commit, disk, self._follow, self.counts)
        self.numbers = self._epochs.numbers
        self._fetches: deque[_Fetch] = deque()
        self._wake = asyncio.Event()
        self._late = 0
        self.is_up = False
        self.is_slow = False
        self.problem = ""

    # ── what the keeper asks ──

    def fetch(self, question: Question, then: Then) -> None:
        """Look for another gateway's answer; `then` is called exactly once, within the budget."""
        if not self.is_up or self.is_slow or len(self._fetches) >= MOST_FETCHES:
            self.counts["unasked"] += 1
            then(None)
            return
        fetch = _Fetch(question, then)
        fetch.timer = asyncio.get_running_loop().call_later(self.place.budget_ms / 1000, self._too_late, fetch)
        self._fetches.append(fetch)
        self._wake.set()

    def offer(self, entry: Entry) -> None:
        """Have an answer of an engine of ours written there, some time."""
        number = self.numbers.number_for(entry.stamp)
        if not self.is_up or number is None:
            self.counts["not_offered"] += 1
            return
        self._writing.add(self._name(entry), records.record_of(entry, number))

    def owe(self, notices: Sequence[Notice]) -> None:
        """Have every gateway told; what these name is not believed any more from now on."""
        self.numbers.owe(notices)

    async def told(self, within_s: float) -> bool:
        """Write down what is owed and tell the server; whether it has everything."""
        await self._epochs.save()
        ends = time.monotonic() + within_s
        while self.numbers.state.owed and self.is_up and (left_s := ends - time.monotonic()) > 0.0:
            self._wake.set()
            pushed = self._epochs.pushed
            with suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await pushed.wait()
        return not self.numbers.state.owed

    def status(self) -> dict[str, Any]:
        """The tier in numbers."""
        return {
            "place": self.place.name,
            "state": "down" if not self.is_up else "slow" if self.is_slow else "up",
            "problem": self.problem or self._epochs.problem or self._writing.problem,
            "epoch": self.numbers.epoch[:8],
            "notices": self.numbers.number,
            "owed": len(self.numbers.state.owed),
            "waiting": len(self._writing),
            "counts": dict(sorted(self.counts.items())),
        }

    # ── being connected ──

    async def run(self) -> None:
        """Be there for looks whenever the server is, until cancelled."""
        rest_s = FIRST_REST_S
        while True:
            began = time.monotonic()
            try:
                await self._live()
            except LostError as error:
                self.problem = str(error)
            except Exception as error:  # our own bug: it must not end the keeper, which serves on without the tier
                self.problem = f"gridctl's own error: {type(error).__name__}: {error}"
                sys.stderr.write(f"gridctl cache: the shared tier failed: {error!r}\n")
            if time.monotonic() - began > LONGEST_REST_S:
                rest_s = FIRST_REST_S
            await asyncio.sleep(rest_s * (0.75 + secrets.randbelow(512) / 1024))
            rest_s = min(LONGEST_REST_S, 2 * rest_s)

    async def _live(self) -> None:
        """One connection's life. Raises LostError."""
        line = await open_line(self.place)
        writing = asyncio.create_task(self._writing.run())
        try:
            await self._epochs.meet(line)
            await self._epochs.push(line)
            self.is_up, self.is_slow, self._late, self.problem = True, False, 0, ""
            while True:
                await self._turn(line)
        finally:
            self.is_up = False
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
            await line.close()
            self._miss_all()
            self._epochs.pushed.set()

    async def _turn(self, line: Line) -> None:
        """Answer looks, or at least see whether something was ordered."""
        if not self._fetches or self.is_slow:
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._wake.wait()
        self._wake.clear()
        batch = self._next()
        began = time.monotonic()
        try:
            names = [self._name(fetch.question) for fetch in batch]
            commands: list[Command] = [("GETRANGE", name, 0, LONGEST_SEALED) for name in names]
            *found, count, state = await line.ask([*commands, *self._epochs.questions()])
            self._time(time.monotonic() - began)
            is_same = await self._epochs.keep_up(line, count, state)
            for fetch, name, sealed in zip(batch, names, found, strict=True):
                fetch.end(self._believed(fetch, name, sealed) if is_same and not fetch.is_over else None)
        finally:
            for fetch in batch:
                fetch.end(None)
        if self.numbers.state.owed:
            await self._epochs.push(line)

    def _next(self) -> list[_Fetch]:
        batch: list[_Fetch] = []
        while self._fetches and len(batch) < MOST_TOGETHER:
            fetch = self._fetches.popleft()
            if not fetch.is_over:
                batch.append(fetch)
        return batch

    def _believed(self, fetch: _Fetch, name: bytes, sealed: Any) -> Record | None:
        """What was found, if it is an answer to that question and holds."""
        self._late = 0
        if isinstance(sealed, Refused) or not sealed:
            self.counts["misses"] += 1
            return None
        text = self._sealing.open(name, bytes(sealed)) if len(sealed) <= LONGEST_SEALED else None
        try:
            record = records.decode_record(text) if text is not None else None
        except msgspec.MsgspecError:
            record = None
        if record is None:
            self.counts["foreign"] += 1
            return None
        if not self.numbers.holds(record, fetch.question.exact):
            self.counts["void"] += 1
            return None
        self.counts["hits"] += 1
        return record

    # ── small things ──

    def _too_late(self, fetch: _Fetch) -> None:
        self.counts["late"] += 1
        self._late += 1
        self.is_slow = self.is_slow or self._late >= MOST_LATE
        fetch.end(None)

    def _time(self, took_s: float) -> None:
        """Ask again once the server is quick enough."""
        if self.is_slow and 1000 * took_s <= self.place.budget_ms / 2:
            self.is_slow, self._late = False, 0

    def _miss_all(self) -> None:
        while self._fetches:
            self._fetches.popleft().end(None)

    def _follow(self, epoch: str) -> None:
        self._writing.epoch = epoch

    def _name(self, question: Question | Entry) -> bytes:
        return records.answer_name(self._keys.prefix, self.numbers.epoch, self._keys.names, question)
