"""Series: cumulative counts of good, bad and excluded requests by key, kept so that windows up to 30 days can be read.

Counts only grow, so a window is the difference of two samples, and old samples are thinned without touching any sum:

    up to 1 hour old     a sample every 10 s      windows to ±10 s
    up to 6 hours        every minute             ± 1 min
    up to 3 days         every 10 minutes         ± 10 min
    up to 31 days        every 2 hours            ± 2 h

Times are seconds of the wall clock, given by the caller, because a series outlives its process. A clock set back drops
the samples that it makes future, not their counts; counts that go back (a new board) begin again from nought.
"""

from __future__ import annotations

import zlib
from bisect import bisect_right
from collections.abc import Mapping
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from gridctl.errors import InputError
from gridctl.signals.totals import Totals

SAMPLE_S = 10
HOUR_S = 3600
THINNED_EVERY_S = HOUR_S
TIERS = (
    (HOUR_S + 600, SAMPLE_S // 2),
    (6 * HOUR_S + 1200, 60),
    (72 * HOUR_S + 2 * HOUR_S, 600),
    (31 * 24 * HOUR_S, 2 * HOUR_S),
)
"""Ages up to which samples are kept, and of which steps of time one each. A little more than the windows that are asked
for, so that the first sample of a window is of its own tier."""
MOST_KEYS = 4096
VERSION = 1
COLUMNS = 3
_MAGIC = b"gridctl-series"
_NOTHING: NDArray[np.int64] = np.zeros((0, COLUMNS), np.int64)


class Key(NamedTuple):
    """What is counted: a workload (no site), a site (no workload), a workload at a site, or everything (neither)."""

    workload: str = ""
    site: str = ""


class Window(NamedTuple):
    """Requests that ended in a window; `covered_s` is how far back from the last sample the counts reach."""

    good: int
    bad: int
    excluded: int
    covered_s: float

    @property
    def valid(self) -> int:
        return self.good + self.bad


class _Stored(msgspec.Struct, frozen=True):
    version: int
    keys: list[tuple[str, str]]
    times_s: list[float]
    widths: list[int]
    counts: bytes


class Series:
    """The samples, oldest first. All counts are cumulative since the series began."""

    def __init__(self) -> None:
        self._columns: dict[Key, int] = {}
        self._times: list[float] = []
        self._samples: list[NDArray[np.int64]] = []
        self._seen: dict[Key, tuple[int, int, int]] = {}
        self._thinned_s = 0.0

    @property
    def keys(self) -> tuple[Key, ...]:
        """Every key that was ever counted, in the order of their coming."""
        return tuple(self._columns)

    @property
    def last_s(self) -> float | None:
        """When the last sample was taken."""
        return self._times[-1] if self._times else None

    def sample(self, now_s: float, counts: Mapping[Key, tuple[int, int, int]]) -> None:
        """Take a sample of cumulative counts (good, bad, excluded) of one board; a key left out has not changed.

        Keys beyond MOST_KEYS are not kept: those of workloads and sites should come first.
        """
        if self._times and self._times[-1] > now_s:  # the clock was set back
            past = bisect_right(self._times, now_s)
            self._times[past:], self._samples[past:] = [now_s], [self._samples[-1]]
        total = self._grown(counts)
        for key, raw in counts.items():
            column = self._columns.get(key)
            if column is None:
                continue
            seen = self._seen.get(key, (0, 0, 0))
            has_gone_back = any(new < old for new, old in zip(raw, seen, strict=True))
            total[column] += np.subtract(raw, (0, 0, 0) if has_gone_back else seen)
            self._seen[key] = raw
        if self._times and self._times[-1] == now_s:
            self._samples[-1] = total
        else:
            self._times.append(now_s)
            self._samples.append(total)
        if now_s - self._thinned_s >= THINNED_EVERY_S or now_s < self._thinned_s:
            self._thin(now_s)

    def _grown(self, counts: Mapping[Key, tuple[int, int, int]]) -> NDArray[np.int64]:
        """A copy of the last sample with a row for every key."""
        for key in counts:
            if key not in self._columns and len(self._columns) < MOST_KEYS:
                self._columns[key] = len(self._columns)
        total = np.zeros((len(self._columns), COLUMNS), np.int64)
        if self._samples:
            last = self._samples[-1]
            total[: len(last)] = last
        return total

    def between(self, key: Key, window_s: float) -> Window:
        """What was counted of a key in the last `window_s` seconds before the last sample.

        The window begins at the last sample before it, so it is never shorter than asked for, except where the series
        does not reach so far: then `covered_s` says how far it does.
        """
        return self.between_times(key, (self.last_s or 0.0) - window_s, self.last_s or 0.0)

    def between_times(self, key: Key, from_s: float, to_s: float) -> Window:
        """What was counted of a key between two moments, each taken to be the last sample before it."""
        column = self._columns.get(key)
        if not self._times:
            return Window(0, 0, 0, 0.0)
        first = max(0, bisect_right(self._times, from_s) - 1)
        last = max(first, bisect_right(self._times, to_s) - 1)
        covered_s = self._times[last] - self._times[first]
        if column is None:
            return Window(0, 0, 0, covered_s)
        good, bad, excluded = (self._at(last, column) - self._at(first, column)).tolist()
        return Window(good, bad, excluded, covered_s)

    def _at(self, place: int, column: int) -> NDArray[np.int64]:
        sample = self._samples[place]
        return sample[column] if column < len(sample) else np.zeros(COLUMNS, np.int64)

    def _thin(self, now_s: float) -> None:
        """Keep of every age only as many samples as its tier says: the first in each step, and the last of all."""
        self._thinned_s = now_s
        kept: list[int] = []
        for place, time_s in enumerate(self._times):
            step_s = next((step for age, step in TIERS if now_s - time_s <= age), None)
            if step_s is None:  # too old for any window: the last of these is where the longest one begins
                kept[:] = [place]
            elif not kept or time_s // step_s != self._times[kept[-1]] // step_s or place == len(self._times) - 1:
                kept.append(place)
        self._times = [self._times[place] for place in kept]
        self._samples = [self._samples[place] for place in kept]

    # ── keeping ──

    def to_bytes(self) -> bytes:
        """Everything, to be kept over a restart."""
        stored = _Stored(
            VERSION,
            [(key.workload, key.site) for key in self._columns],
            self._times,
            [len(sample) for sample in self._samples],
            np.concatenate([_NOTHING, *self._samples]).astype("<i8").tobytes(),
        )
        body = zlib.compress(msgspec.msgpack.encode(stored), 1)
        return _MAGIC + zlib.crc32(body).to_bytes(4, "big") + body

    @classmethod
    def from_bytes(cls, content: bytes) -> Series:
        """What `to_bytes` wrote; the next sample is of a new board. Raises InputError for anything else."""
        series = cls()
        stored = _decoded(content)
        series._columns = {Key(*pair): column for column, pair in enumerate(stored.keys)}
        series._times = list(stored.times_s)
        counts = np.frombuffer(stored.counts, "<i8").astype(np.int64).reshape(-1, COLUMNS)
        ends = np.cumsum(stored.widths).tolist()
        series._samples = [counts[end - width : end] for end, width in zip(ends, stored.widths, strict=True)]
        return series


MOST_STORED_BYTES = 256 << 20


def _decoded(content: bytes) -> _Stored:
    start = len(_MAGIC) + 4
    body = content[start:]
    problem = "it is damaged"
    if content[: len(_MAGIC)] == _MAGIC and zlib.crc32(body).to_bytes(4, "big") == content[len(_MAGIC) : start]:
        try:
            inflate = zlib.decompressobj()
            stored = msgspec.msgpack.decode(inflate.decompress(body, MOST_STORED_BYTES), type=_Stored)
        except (zlib.error, msgspec.MsgspecError):
            stored = None
        if stored is not None and stored.version != VERSION:
            problem = f"it is of version {stored.version}; this program reads version {VERSION}"
        elif stored is not None and _is_whole(stored):
            return stored
    raise InputError(
        f"the kept counts of requests cannot be read: {problem}",
        where="series",
        fix="remove the file: counts begin anew",
    )


def _is_whole(stored: _Stored) -> bool:
    is_sorted = all(early <= late for early, late in zip(stored.times_s, stored.times_s[1:], strict=False))
    return (
        is_sorted
        and len(stored.times_s) == len(stored.widths)
        and all(0 <= width <= len(stored.keys) for width in stored.widths)
        and len(stored.counts) == 8 * COLUMNS * sum(stored.widths)
        and len(set(stored.keys)) == len(stored.keys) <= MOST_KEYS
    )


def counts_of(totals: Totals) -> dict[Key, tuple[int, int, int]]:
    """The counts of a reading by key: of everything, of workloads, of sites, of workloads at sites, in that order."""
    parts: tuple[dict[Key, tuple[int, int, int]], ...] = ({Key(): (0, 0, 0)}, {}, {}, {})
    for (workload, site), counted in totals.by_site().items():
        keys = [Key(), Key(workload)]
        if site:  # else no engine was chosen
            keys += [Key("", site), Key(workload, site)]
        for part, key in zip(parts, keys, strict=False):
            good, bad, excluded = part.get(key, (0, 0, 0))
            part[key] = good + counted.good, bad + counted.bad, excluded + counted.excluded
    return {key: count for part in parts for key, count in part.items()}
