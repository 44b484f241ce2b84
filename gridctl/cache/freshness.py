"""How long an answer is good: fresh, stale but served once more while it is fetched again, or gone; and purges by tag.

Decides from times that are inputs (nanoseconds of any clock; one that runs backwards stands still). An entry is valid
if it was born after the last purge of each of its tags, so a purge costs one number whatever it hits. Purges of a tag
are numbered: one that arrives twice does nothing, and a site that missed a number serves nothing under that tag until
it has it: it fails closed. Times to live differ by up to a tenth between entries, so what was stored together does not
expire together.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import msgspec

from gridctl.units import NS_PER_S

JITTER = 0.1


class Age(StrEnum):
    """What may be done with an entry."""

    FRESH = "fresh"
    STALE = "stale"
    GONE = "gone"


class Lifetime(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds an answer is fresh, then stale; `stale_if_error_s` counts from the end of fresh, when no engine is up."""

    ttl_s: float
    stale_s: float = 0.0
    stale_if_error_s: float = 0.0

    def age(self, born_ns: int, now_ns: int, jitter: float = 0.0, is_emergency: bool = False) -> Age:
        """The state at `now_ns` of an entry born then; `jitter` in [-1, 1] stretches its time by up to a tenth."""
        old_s = max(0, now_ns - born_ns) / NS_PER_S
        fresh_s = self.ttl_s * (1.0 + JITTER * max(-1.0, min(1.0, jitter)))
        if old_s < fresh_s:
            return Age.FRESH
        stale_s = max(self.stale_s, self.stale_if_error_s) if is_emergency else self.stale_s
        return Age.STALE if old_s < fresh_s + stale_s else Age.GONE

    def ends_ns(self, born_ns: int, jitter: float = 0.0) -> tuple[int, int]:
        """When an entry born then is no longer fresh, and when it is gone."""
        fresh_s = self.ttl_s * (1.0 + JITTER * max(-1.0, min(1.0, jitter)))
        return born_ns + round(fresh_s * NS_PER_S), born_ns + round((fresh_s + self.stale_s) * NS_PER_S)


def jitter_of(number: int) -> float:
    """An entry's own jitter by its number, in (-1, 0]: it only ever shortens, so nothing is fresh after its time."""
    return -(number * 0x9E3779B1 % 1024) / 1024


class Stamp(msgspec.Struct, frozen=True):
    """The purge number of each of an entry's tags when it was born."""

    numbers: dict[str, int]


class Purges:
    """The last purge of each tag known here, and tags of which one is missing."""

    def __init__(self) -> None:
        self._done: dict[str, int] = {}
        self._announced: dict[str, int] = {}

    def stamp(self, tags: Iterable[str]) -> Stamp:
        """What an entry born now carries. Take it before the engine is asked, so a purge during the answer counts."""
        return Stamp({tag: self._done.get(tag, 0) for tag in tags})

    def is_valid(self, stamp: Stamp) -> bool:
        """Whether no tag was purged since, and none has a purge that did not arrive."""
        return all(
            number == self._done.get(tag, 0) and self._announced.get(tag, 0) <= self._done.get(tag, 0)
            for tag, number in stamp.numbers.items()
        )

    def purge(self, tag: str) -> int:
        """Purge a tag here; the number to send to other sites."""
        self._done[tag] = max(self._done.get(tag, 0), self._announced.get(tag, 0)) + 1
        self._announced[tag] = self._done[tag]
        return self._done[tag]

    def receive(self, tag: str, number: int) -> bool:
        """A purge from elsewhere; False when it was known. Numbers before it need not come: it covers them."""
        if number <= self._done.get(tag, 0):
            return False
        self._done[tag] = number
        return True

    def announce(self, tag: str, number: int) -> None:
        """Another site says how many purges of a tag there were; fewer here means that one is missing."""
        self._announced[tag] = max(self._announced.get(tag, 0), number)

    def missing(self) -> dict[str, int]:
        """Tags of which a purge is missing, and its number."""
        return {tag: number for tag, number in self._announced.items() if number > self._done.get(tag, 0)}
