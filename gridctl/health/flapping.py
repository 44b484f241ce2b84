"""Flapping: how restless a state has been over its last 21 samples, late changes weighing more than early ones.

A sample says only whether the thing was good or bad throughout one sampling interval. Of the 20 steps between 21
samples, step x (1 the oldest) weighs from 0.75 to 1.25 in equal increments, so all 20 weigh 20 together, and

    flap % = 100 · Σ weight(x) over the steps that changed / 20

Flapping begins above one threshold and ends below a lower one. Source: Nagios Core, "Detection and Handling of State
Flapping". Knows no clock: the caller says when an interval is over.
"""

from __future__ import annotations

SAMPLES = 21
STEPS = SAMPLES - 1
OLDEST_WEIGHT = 0.75
NEWEST_WEIGHT = 1.25
_ALL = (1 << SAMPLES) - 1

WEIGHTS = tuple(OLDEST_WEIGHT + (NEWEST_WEIGHT - OLDEST_WEIGHT) * step / (STEPS - 1) for step in range(STEPS))
"""Weight of each of the 20 steps, oldest first."""


class Flapping:
    """The last 21 samples of one thing, as bits: 1 bad, the newest lowest. Begins as if it had always been good."""

    __slots__ = ("_bits", "begins_above", "ends_below", "is_flapping")

    def __init__(self, begins_above: float, ends_below: float) -> None:
        self.begins_above = begins_above
        self.ends_below = ends_below
        self.is_flapping = False
        self._bits = 0

    @property
    def percent(self) -> float:
        """How much it changed, 0 (never) to 100 (at every step)."""
        changed = (self._bits ^ (self._bits >> 1)) & (_ALL >> 1)
        if not changed:
            return 0.0
        # Bit k of `changed` is the step into the sample that is k from the newest: step 20 − k of 20.
        return 100.0 * sum(WEIGHTS[STEPS - 1 - k] for k in range(STEPS) if changed >> k & 1) / STEPS

    def sample(self, is_bad: bool) -> None:
        """Take in one interval."""
        self._bits = (self._bits << 1 | is_bad) & _ALL
        percent = self.percent
        if self.is_flapping:
            self.is_flapping = percent >= self.ends_below
        else:
            self.is_flapping = percent > self.begins_above

    def settle(self, is_bad: bool) -> None:
        """Take in at least 21 like intervals at once."""
        self._bits = _ALL if is_bad else 0
        self.is_flapping = False
