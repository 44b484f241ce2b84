"""Epochs: which life of the tier is followed, and the notices that gateways leave each other in it.

A notice is sealed under the name of its epoch's list, so it counts in no other. An epoch ends when anything may have
been lost: the server's life is another (it was restarted or failed over, with its data or without), it holds fewer
notices than were read, one that does not open, or none; or there are too many. Then a new one begins, everything of the
former is void, and each gateway says again what it ordered. Invariant: when a call here returns, every notice that the
server held when it began was carried out here.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import msgspec

from gridctl.answers import shared_record as records
from gridctl.answers.sealing import Sealing
from gridctl.answers.shared_numbers import MOST_NOTICES, Numbers
from gridctl.answers.shared_record import Notice
from gridctl.answers.shared_server import Command, Line, LostError, refusals
from gridctl.errors import StoreError

NOTICES_AT_ONCE = 200
MOST_EPOCHS_AT_ONCE = 3


class Epochs:
    """The epoch that one gateway follows. `carry_out` does what notices of others order and tells the place of the
    purges here afterwards; `commit` makes that durable; `followed` hears which epoch it is."""

    def __init__(
        self,
        prefix: str,
        sealing: Sealing,
        folder: Path,
        carry_out: Callable[[Sequence[Notice]], int],
        commit: Callable[[], Awaitable[object]],
        disk: Executor,
        followed: Callable[[str], None],
        counts: Counter[str],
    ) -> None:
        self._prefix, self._sealing, self._disk = prefix, sealing, disk
        self._carry_out, self._commit, self._followed = carry_out, commit, followed
        self.counts = counts
        self.numbers = Numbers(folder)
        self.state_name = records.state_name(prefix)
        self.pushed = asyncio.Event()
        """Set when everything that was owed is told, or nobody can be told."""
        self.problem = ""

    def questions(self) -> list[Command]:
        """What tells, asked after everything else, whether `is_current`."""
        return [("LLEN", self._list(self.numbers.epoch)), ("GET", self.state_name)]

    async def keep_up(self, line: Line, count: Any, state: Any) -> bool:
        """Follow what the answers to `questions` say; whether it is still the same epoch. Raises LostError."""
        epoch = self.numbers.epoch
        if state != state_of(epoch, line):
            await self.meet(line)
        elif count != self.numbers.number:
            await self.catch_up(line)
        return self.numbers.epoch == epoch

    async def meet(self, line: Line) -> None:
        """Learn the epoch, or begin one where what is there is of another life of the server."""
        (state,) = await self._ask(line, ("GET", self.state_name))
        epoch, life = _read_state(state)
        if self.numbers.epoch not in ("", epoch):  # nobody goes back to it
            await self._ask(line, ("DEL", self._list(self.numbers.epoch)))
        if epoch and life == line.life:
            self._follow(epoch)
            await self.catch_up(line)
        else:
            await self._begin(line, epoch, is_empty=state is None)

    async def _begin(
        self, line: Line, before: str, tries: int = MOST_EPOCHS_AT_ONCE, *, is_empty: bool = False
    ) -> None:
        """Begin an epoch, unless another gateway just did."""
        if not tries:
            raise LostError("what it holds is changed or evicted again and again")
        epoch = secrets.token_hex(16)
        first = self._sealed(epoch, Notice("begin", sender=self.numbers.state.sender, unix_ns=time.time_ns()))
        setting: Command = ("SET", self.state_name, state_of(epoch, line))
        if is_empty:
            setting = (*setting, "NX")
        if before:
            await self._ask(line, ("DEL", self._list(before)))
        *_, state = await self._ask(line, ("RPUSH", self._list(epoch), first), setting, ("GET", self.state_name))
        found, life = _read_state(state)
        if life != line.life:
            raise LostError("it does not hold what it was told")
        if found != epoch:
            await self._ask(line, ("DEL", self._list(epoch)))
        self.counts["epochs"] += 1
        self._follow(found)
        await self.catch_up(line, tries - 1)

    def _follow(self, epoch: str) -> None:
        self.numbers.begin(epoch)
        self._followed(epoch)

    async def catch_up(self, line: Line, tries: int = MOST_EPOCHS_AT_ONCE) -> None:
        """Read notices that were not read yet, and carry them out."""
        numbers = self.numbers
        name, before = self._list(numbers.epoch), numbers.number
        (count,) = await self._ask(line, ("LLEN", name))
        while numbers.number < count:
            most = min(count, numbers.number + NOTICES_AT_ONCE)
            (found,) = await self._ask(line, ("LRANGE", name, numbers.number, most - 1))
            notices = [self._opened(name, sealed) for sealed in found]
            is_whole = len(notices) == most - numbers.number and None not in notices
            if not is_whole or (not numbers.number and notices[0] is not None and notices[0].kind != "begin"):
                self.counts["tampered"] += 1
                await self._begin(line, numbers.epoch, tries)
                return
            # At once, before anything else is waited for: what was heard is not heard again.
            self._do(numbers.hear(notice for notice in notices if notice is not None))
        if not count or count < numbers.number:
            await self._begin(line, numbers.epoch, tries)
            return
        if not numbers.is_marked:
            self._do([])
        elif numbers.number == before:
            return
        epoch, heard = numbers.epoch, numbers.number
        await self._commit()
        numbers.settle(epoch, heard)
        await self.save()

    def _do(self, orders: Sequence[Notice]) -> None:
        self.numbers.mark(self._carry_out(orders))
        self.counts["carried_out"] += len(orders)

    async def push(self, line: Line) -> None:
        """Say what is owed."""
        while owed := self.numbers.state.owed[:NOTICES_AT_ONCE]:
            epoch = self.numbers.epoch
            if self.numbers.number + len(owed) > MOST_NOTICES:
                await self._begin(line, epoch)
                continue
            sealed = [self._sealed(epoch, notice) for notice in owed]
            (count,) = await self._ask(line, ("RPUSHX", self._list(epoch), *sealed))
            if not count:
                await self._begin(line, epoch)
                continue
            self.numbers.said(owed)
            self.counts["told"] += len(owed)
            await self.catch_up(line)
        pushed, self.pushed = self.pushed, asyncio.Event()
        pushed.set()

    async def save(self) -> None:
        """Write down what is owed, and what was carried out."""
        data = self.numbers.packed()
        try:
            await asyncio.get_running_loop().run_in_executor(self._disk, self.numbers.write, data)
        except StoreError as error:
            self.problem = error.what
        else:
            self.problem = ""

    async def _ask(self, line: Line, *commands: Command) -> list[Any]:
        """Answers, none of which may be a refusal. Raises LostError."""
        answers = await line.ask(commands)
        if said := refusals(answers):
            raise LostError(f"it refuses: {said[0]}")
        return answers

    def _sealed(self, epoch: str, notice: Notice) -> bytes:
        return self._sealing.seal(self._list(epoch), records.encode(notice))

    def _opened(self, name: bytes, sealed: bytes) -> Notice | None:
        text = self._sealing.open(name, bytes(sealed))
        try:
            return None if text is None else records.decode_notice(text)
        except msgspec.MsgspecError:
            return None

    def _list(self, epoch: str) -> bytes:
        return records.notices_name(self._prefix, epoch)


def state_of(epoch: str, line: Line) -> bytes:
    """What the server holds of an epoch that began in its life of now."""
    return f"{epoch}.{line.life}".encode()


def _read_state(state: Any) -> tuple[str, str]:
    """The epoch and the server's life that a state names; "" where it is none."""
    epoch, _, life = bytes(state or b"").decode("ascii", "replace").partition(".")
    return (epoch, life) if records.is_epoch(epoch) else ("", life)
