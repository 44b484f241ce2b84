"""Plain pace: a fixed time to the first token and between tokens, whatever else runs. No memory, no batch effects.

Without any times a request is answered as it is submitted, which is what a gateway is measured against.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from dataclasses import dataclass

from gridctl.executors.alarm import Alarm
from gridctl.mockengine.clock import Clock
from gridctl.mockengine.pace import Answer, EngineFullError, Gauges
from gridctl.units import PS_PER_MS

BLOCK_SIZE = 16
LONGEST_CONTEXT = 1 << 30
MAX_WAITING = 100_000


@dataclass(eq=False, slots=True)
class _Turn:
    """A request being answered; `made` tokens were given. Gone when its client left."""

    answer: Answer
    begun_ps: int
    made: int = 0
    is_gone: bool = False


class PlainPace:
    """At most `seats` requests are answered at a time; the others wait in order."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, ttft_ms: float, tpot_ms: float, clock: Clock, *, seats: int = 4096
    ) -> None:
        self.block_size = BLOCK_SIZE
        self.longest_context = LONGEST_CONTEXT
        self._ttft_ps, self._tpot_ps = round(ttft_ms * PS_PER_MS), round(tpot_ms * PS_PER_MS)
        self._is_immediate = ttft_ms == 0 and tpot_ms == 0
        self._clock = clock
        self._seats = seats
        self._turns: dict[Answer, _Turn] = {}
        self._waiting: deque[Answer] = deque()
        self._due: list[tuple[int, int, _Turn]] = []
        self._number = 0
        self._alarm = Alarm(loop, self._ring)

    def submit(self, answer: Answer) -> None:
        """Begin, or queue when every seat is taken."""
        if self._is_immediate and self._clock.speed:
            answer.given(answer.output_tokens, 0)
        elif len(self._turns) < self._seats:
            self._begin(answer)
            self._arm()
        elif len(self._waiting) >= MAX_WAITING:
            raise EngineFullError
        else:
            self._waiting.append(answer)

    def leave(self, answer: Answer) -> None:
        """Free the seat, or the place in the queue."""
        turn = self._turns.pop(answer, None)
        if turn is not None:
            turn.is_gone = True
            self._fill_seats()
            self._arm()
        elif answer in self._waiting:
            self._waiting.remove(answer)

    def set_speed(self, speed: float) -> None:
        """Change the speed; what is due now is told at the old one."""
        self._clock.set_speed(speed)
        self._ring()

    def gauges(self) -> Gauges:
        """Requests only: there is no memory here."""
        return Gauges(running=len(self._turns), waiting=len(self._waiting))

    def close(self) -> None:
        """Tell nobody anything any more."""
        self._alarm.close()

    def _begin(self, answer: Answer) -> None:
        turn = _Turn(answer, self._clock.now_ps())
        self._turns[answer] = turn
        self._push(turn)

    def _push(self, turn: _Turn) -> None:
        self._number += 1
        due = turn.begun_ps + self._ttft_ps + turn.made * self._tpot_ps
        heapq.heappush(self._due, (due, self._number, turn))

    def _ring(self) -> None:
        now = self._clock.now_ps()
        while self._due and self._due[0][0] <= now:
            turn = heapq.heappop(self._due)[2]
            if not turn.is_gone:
                self._give(turn, now)
        self._arm()

    def _give(self, turn: _Turn, now: int) -> None:
        """Tell a request of every token that is due."""
        total = turn.answer.output_tokens
        later = (now - turn.begun_ps - self._ttft_ps) // self._tpot_ps if self._tpot_ps else total
        turn.made = min(total, 1 + later)
        if turn.made == total:
            del self._turns[turn.answer]
            self._fill_seats()
        else:
            self._push(turn)
        turn.answer.given(turn.made, 0)

    def _fill_seats(self) -> None:
        while self._waiting and len(self._turns) < self._seats:
            self._begin(self._waiting.popleft())

    def _arm(self) -> None:
        due = self._clock.wall_ns(self._due[0][0]) if self._due else None
        if due is None:
            self._alarm.off()
        else:
            self._alarm.set(due)
