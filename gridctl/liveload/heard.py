"""Heard: what a load may use and what came of it. Plain records; the load fills one, the results read it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gridctl.liveload.connection import Reply

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Limits:
    """What the generator may use: connections at once, and seconds that an answer may take. And how long a person
    thinks before a session's next turn, at least: seconds, or None for the time between the two turns in the trace,
    which is right where a trace states it as a delay after the answer."""

    connections: int = 4096
    timeout_s: float = 600.0
    think_s: float | None = 0.0


@dataclass(frozen=True, slots=True)
class Heard:
    """What came of the requests: `replies` by row, None where none was sent or awaited to its end.

    `intended_ns` is on the monotonic clock of the replies, the start of the load included in it; `turns_late` counts
    session turns that had to wait for an answer. `is_stopped` when a person ended it early.
    """

    replies: list[Reply | None]
    intended_ns: Ints
    start_ns: int
    wall_s: float
    turns_late: int
    connections: int
    is_stopped: bool


def turns_before(session: Ints) -> list[int]:
    """The row of each request's turn before it in its session; −1 for first turns and requests of none."""
    last: dict[int, int] = {}
    before = []
    for row, number in enumerate(session.tolist()):
        before.append(last.get(number, -1) if number >= 0 else -1)
        if number >= 0:
            last[number] = row
    return before
