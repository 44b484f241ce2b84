"""Clock: the engine's virtual time, which runs at a chosen speed of the machine's.

A slower engine is a slower clock, and one that stalls is a clock that stands. Picoseconds, as the twin counts them.
"""

from __future__ import annotations

import time

from gridctl.units import PS_PER_NS


class Clock:
    """Virtual picoseconds since the engine started; `speed` of them pass where one does on the machine."""

    def __init__(self, speed: float) -> None:
        self.speed = speed
        self._since_ns = time.monotonic_ns()
        self._since_ps = 0

    def now_ps(self) -> int:
        """The engine's time now. Never falls."""
        return self._since_ps + int((time.monotonic_ns() - self._since_ns) * PS_PER_NS * self.speed)

    def wall_ns(self, when_ps: int) -> int | None:
        """When, on the machine's monotonic clock, the engine's will show `when_ps`; None while it stands."""
        if self.speed == 0:
            return None
        # Rounded up: a wake-up before the moment would find nothing to do.
        return self._since_ns + int((when_ps - self._since_ps) / (PS_PER_NS * self.speed)) + 1

    def set_speed(self, speed: float) -> None:
        """From now on time passes at `speed`."""
        now_ns = time.monotonic_ns()
        self._since_ps += int((now_ns - self._since_ns) * PS_PER_NS * self.speed)
        self._since_ns = now_ns
        self.speed = speed
