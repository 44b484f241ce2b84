"""How old an entry may be for who asks: the shorter of what it was stored with and what the question allows.

Decides by `cache.freshness`; the jitter only ever shortens, so nothing is served after its time. An entry born more
than a minute after now was stored under a clock that ran ahead, and its age is not believed.
"""

from __future__ import annotations

from typing import Protocol

from gridctl.answers.question import Age
from gridctl.cache.freshness import Age as Freshness
from gridctl.cache.freshness import Lifetime, jitter_of

AHEAD_NS = 60_000_000_000


class Dated(Protocol):
    """What has a birth."""

    @property
    def number(self) -> int:
        """The entry's number."""

    @property
    def born(self) -> int:
        """Unix nanoseconds."""

    @property
    def ttl_s(self) -> float:
        """Seconds it was stored for."""

    @property
    def stale_s(self) -> float:
        """Seconds after those in which it may still go out once more."""


def age_of(entry: Dated, ttl_s: float, stale_s: float, now_ns: int) -> Age | None:
    """fresh, stale, or None: not to be served."""
    if entry.born - now_ns > AHEAD_NS:
        return None
    lifetime = Lifetime(ttl_s=min(ttl_s, entry.ttl_s), stale_s=min(stale_s, entry.stale_s))
    age = lifetime.age(entry.born, now_ns, jitter_of(entry.number))
    if age is Freshness.GONE:
        return None
    return "fresh" if age is Freshness.FRESH else "stale"
