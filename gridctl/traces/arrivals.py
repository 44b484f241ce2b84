"""Arrivals: the times of JSON rows as exact nanoseconds, said outright or as a delay after the session's last row.

Milliseconds are read as floats below 2**31 ms, where a double's error stays under half a nanosecond (t·2⁻⁵² < 0.5 ns
for t < 2⁵¹ ns), and as decimals above. A delay counts, in the tools that write it, from the completion of the
session's previous request; a trace has no completions, so here it counts from that request's arrival: a note says so.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec
import numpy as np
from numpy.typing import NDArray

from gridctl.errors import InputError
from gridctl.traces.jsonfields import ARRIVAL, DELAY, Row, first_values, mentions, present
from gridctl.traces.lines import Block
from gridctl.units import NS_PER_MS

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_EXACT_FLOAT_MS = float(1 << 31)
_LATEST_MS = 4e12  # the year 2096 in ms since 1970: a larger value is not milliseconds


class ExactTime(msgspec.Struct, gc=False):
    """The time fields of a line as decimals, for values a double cannot hold to the nanosecond."""

    timestamp: Decimal | None = None
    timestamp_ms: Decimal | None = None
    created_time: Decimal | None = None
    session_offset_ms: Decimal | None = None


_EXACT_TIMES = msgspec.json.Decoder(ExactTime)


class SessionClock:
    """When each session's previous row arrived, for rows that only say how long after it they come."""

    def __init__(self) -> None:
        self.delays = 0
        self._last_ns: dict[int, int] = {}

    def resolve(self, arrivals: Ints, delays: Floats, is_delayed: NDArray[np.bool_], sessions: Ints | None) -> Ints:
        """Arrival times where each delayed row comes its delay after its session's previous row (or after 0)."""
        keys = [-1] * len(arrivals) if sessions is None else sessions.tolist()
        delays_ns = np.rint(np.where(is_delayed, delays, 0.0) * NS_PER_MS).astype(np.int64).tolist()
        resolved = arrivals.tolist()
        for row, (key, delayed) in enumerate(zip(keys, is_delayed.tolist(), strict=True)):
            if delayed:
                resolved[row] = self._last_ns.get(key, 0) + delays_ns[row]
                self.delays += 1
            self._last_ns[key] = resolved[row]
        return np.array(resolved, np.int64)


def arrivals_ns(rows: list[Row], block: Block, where: str, clock: SessionClock, sessions: Ints | None) -> Ints:
    """Nanoseconds of every row's arrival."""
    names = present(block, ARRIVAL)
    times = _floats(rows, names)
    missing = np.isnan(times)
    _check_range(times, "timestamp", block, where)
    if np.max(times, initial=0.0, where=~missing) < _EXACT_FLOAT_MS:
        exact: Ints = np.rint(np.where(missing, 0.0, times) * NS_PER_MS).astype(np.int64)
    else:
        exact = _decimals(block, names)
    if not mentions(block, DELAY):
        _refuse_untimed(missing, block, where)
        return exact
    delays = _floats(rows, present(block, DELAY))
    _check_range(delays, "delay", block, where)
    _refuse_untimed(missing & np.isnan(delays), block, where)
    return clock.resolve(exact, delays, missing, sessions)


def _floats(rows: list[Row], names: list[str]) -> Floats:
    # None becomes NaN, which JSON itself cannot hold
    times: Floats = np.array(first_values(rows, names), np.float64)
    return times


def _decimals(block: Block, names: list[str]) -> Ints:
    rows = _EXACT_TIMES.decode_lines(block.data)
    exact = []
    for row in rows:
        value = next((v for v in (getattr(row, name) for name in names) if v is not None), Decimal(0))
        exact.append(int((value * NS_PER_MS).to_integral_value()))
    return np.array(exact, np.int64)


def _check_range(times: Floats, what: str, block: Block, where: str) -> None:
    wrong = (times < 0) | (times > _LATEST_MS)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InputError(
            f"{what} {times[row]:g} ms: expected 0 to {_LATEST_MS:g}",
            where=f"{where}:{block.line_of(row)}",
            fix="times are milliseconds, from the trace's start or since 1970",
        )


def _refuse_untimed(untimed: NDArray[np.bool_], block: Block, where: str) -> None:
    if untimed.any():
        raise InputError(
            "no timestamp in this row",
            where=f"{where}:{block.line_of(int(np.argmax(untimed)))}",
            fix="add 'timestamp' (ms), or 'delay' (ms) to a later turn of a session",
        )
