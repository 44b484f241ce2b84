"""Writing behind: answers on their way to the shared tier, after their requests are long over.

Decides what is dropped: everything over the bounds of the line, and what belongs to an epoch that has ended. It has a
connection of its own, so that a long answer is in no look's way. An answer that does not arrive costs a later hit.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from typing import NamedTuple

from gridctl.answers.sealing import Sealing
from gridctl.answers.shared_place import SharedPlace
from gridctl.answers.shared_record import Record, encode, lives_ms
from gridctl.answers.shared_server import Line, LostError, open_line, refusals

MOST_WAITING, MOST_WAITING_BYTES = 1_024, 16 << 20
MOST_TOGETHER, MOST_TOGETHER_BYTES = 32, 1 << 20
LARGEST_BYTES = 1 << 20
"""Of an answer: longer ones stay where they are."""
WRITE_S = 3.0
REST_S = 1.0


class _Waiting(NamedTuple):
    epoch: str
    name: bytes
    record: Record


class Writing:
    """The line of answers. `counts` is the tier's; `problem` what the server last refused, "" once it took one."""

    def __init__(self, place: SharedPlace, sealing: Sealing, counts: Counter[str]) -> None:
        self._place, self._sealing, self._counts = place, sealing, counts
        self._waiting: deque[_Waiting] = deque()
        self._bytes = 0
        self._has_some = asyncio.Event()
        self.epoch = ""
        self.problem = ""

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, name: bytes, record: Record) -> None:
        """Have an answer written in the epoch of now."""
        size = len(record.content)
        if size > LARGEST_BYTES:
            self._counts["too_large"] += 1
        elif len(self._waiting) >= MOST_WAITING or self._bytes + size > MOST_WAITING_BYTES:
            self._counts["dropped"] += 1
        else:
            self._waiting.append(_Waiting(self.epoch, name, record))
            self._bytes += size
            self._has_some.set()

    async def run(self) -> None:
        """Write what waits, until cancelled."""
        line: Line | None = None
        try:
            while True:
                await self._has_some.wait()
                taken = self._take()
                if not taken:
                    continue
                line = await self._write(line, taken)
                if line is None:
                    await asyncio.sleep(REST_S)
        finally:
            if line is not None:
                await line.close()

    async def _write(self, line: Line | None, taken: list[_Waiting]) -> Line | None:
        """Write some; the connection, None where there is none. One that had been cut meanwhile is made anew, once."""
        commands = [
            ("SET", one.name, self._sealing.seal(one.name, encode(one.record)), "PX", lives_ms(one.record))
            for one in taken
        ]
        is_new = line is None
        while True:
            try:
                if line is None:
                    line = await open_line(self._place)
                said = refusals(await line.ask(commands, WRITE_S))
            except LostError as error:
                if line is not None:
                    await line.close()
                line = None
                if is_new:
                    self.problem = str(error)
                    self._counts["dropped"] += len(taken)
                    return None
                is_new = True
                continue
            self._counts["refused"] += len(said)
            self._counts["stored"] += len(taken) - len(said)
            self.problem = said[-1] if said else ""
            return line

    def _take(self) -> list[_Waiting]:
        taken: list[_Waiting] = []
        size = 0
        while self._waiting and len(taken) < MOST_TOGETHER and size < MOST_TOGETHER_BYTES:
            one = self._waiting.popleft()
            self._bytes -= len(one.record.content)
            if one.epoch != self.epoch or lives_ms(one.record) <= 0:
                self._counts["dropped"] += 1
                continue
            size += len(one.record.content)
            taken.append(one)
        if not self._waiting:
            self._has_some.clear()
        return taken
