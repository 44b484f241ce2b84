"""Sampling: the intervals in which one thing was good throughout or was not, which flapping is told by.

Decides when an interval ends and what it was. Invariant: a long time in which nothing changes costs no more than a
short one, and says the same as interval after interval would. Time is an input; what flapping means is `flapping`'s.
"""

from __future__ import annotations

from typing import Literal

from gridctl.health.flapping import SAMPLES, Flapping
from gridctl.health.settings import Settings
from gridctl.units import NS_PER_S

Turn = Literal["begins", "ends", "stays"]
"""What the end of an interval did to flapping."""


class Sampling:
    """The intervals of one thing. `due_ns` is when the one under way ends; `is_bad`, whether it was bad so far."""

    __slots__ = ("_interval_ns", "due_ns", "flapping", "is_bad")

    def __init__(self, settings: Settings, now_ns: int) -> None:
        self.flapping = Flapping(settings.flap_begins_above, settings.flap_ends_below)
        self._interval_ns = max(1, round(settings.flap_sample_s * NS_PER_S))
        self.due_ns = now_ns + self._interval_ns
        self.is_bad = False

    def close(self, *, is_bad_now: bool) -> Turn:
        """End the interval under way and begin the next, which is bad already if the thing is now."""
        was_flapping = self.flapping.is_flapping
        self.flapping.sample(self.is_bad)
        self.is_bad = is_bad_now
        self.due_ns += self._interval_ns
        if self.flapping.is_flapping == was_flapping:
            return "stays"
        return "begins" if self.flapping.is_flapping else "ends"

    def skip(self, now_ns: int) -> None:
        """Nothing changes until `now_ns`: take in the intervals that end by then at once, if there are many of them."""
        passed = (now_ns - self.due_ns) // self._interval_ns
        if passed > SAMPLES and not self.flapping.is_flapping:
            self.flapping.settle(self.is_bad)
            self.due_ns += passed * self._interval_ns
