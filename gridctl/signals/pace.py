"""Pace: how often an engine is asked for its report, and when what it said is old. Pure: time is an argument.

    requests in flight    every 250 ms     its load moves
    otherwise             every second
    quiet for 10 s        every 10 s       nothing moves; a request in flight ends that at once
    no report to be had   every minute     it may have been restarted with one
    failing               the usual period, doubled with every failure up to 10 s

Each period is drawn ±20 % by the engine's row and turn, so that engines are not asked in step, and all are stretched
alike when together they would exceed `most_per_second`. News older than three periods is stale.
"""

from __future__ import annotations

from typing import NamedTuple
from zlib import crc32

from gridctl.signals.rows import FAILING, FRESH, NEVER, STALE, UNSUPPORTED
from gridctl.units import NS_PER_MS, NS_PER_S

_DRAWS = 1 << 32


class Pace(NamedTuple):
    """Periods and limits; times in nanoseconds."""

    busy_ns: int = 250 * NS_PER_MS
    usual_ns: int = NS_PER_S
    idle_ns: int = 10 * NS_PER_S
    unsupported_ns: int = 60 * NS_PER_S
    quiet_after_ns: int = 10 * NS_PER_S
    jitter: float = 0.2
    stale_periods: int = 3
    failing_after: int = 3
    most_per_second: float = 400.0
    timeout_ns: int = 2 * NS_PER_S


class Standing(NamedTuple):
    """What is known of the asking of one engine: failures in a row, when it last answered well (0: never), since when
    it has been quiet (0: it is not), whether it has no report."""

    failures: int = 0
    good_ns: int = 0
    quiet_ns: int = 0
    is_unsupported: bool = False


def period_ns(pace: Pace, standing: Standing, in_flight: int, now_ns: int) -> int:
    """How long after one question the next one follows, before jitter and stretching."""
    if standing.failures:
        return min(pace.usual_ns << min(standing.failures - 1, 20), max(pace.idle_ns, pace.usual_ns))
    if standing.is_unsupported:
        return pace.unsupported_ns
    if in_flight > 0:
        return pace.busy_ns
    if standing.quiet_ns and now_ns - standing.quiet_ns >= pace.quiet_after_ns:
        return pace.idle_ns
    return pace.usual_ns


def jittered_ns(pace: Pace, period: int, row: int, turn: int) -> int:
    """The period of this turn: the same for the same row and turn, evenly spread within ±jitter."""
    draw = crc32(b"%d %d" % (row, turn)) / _DRAWS
    return int(period * (1 + pace.jitter * (2 * draw - 1)))


def stretched(pace: Pace, periods: list[int]) -> float:
    """By how much every period is to be stretched so that all together stay under the limit; at least 1."""
    per_second = sum(NS_PER_S / period for period in periods)
    return max(1.0, per_second / pace.most_per_second)


def telemetry_state(pace: Pace, standing: Standing, period: int, now_ns: int) -> int:
    """NEVER, FRESH, STALE, FAILING or UNSUPPORTED. An engine that fails goes on being FRESH while its last news is."""
    if standing.is_unsupported:
        return UNSUPPORTED
    is_old = standing.good_ns == 0 or now_ns - standing.good_ns > pace.stale_periods * period
    if not is_old:
        return FRESH
    if standing.failures >= pace.failing_after:
        return FAILING
    return NEVER if standing.good_ns == 0 else STALE
