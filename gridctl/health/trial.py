"""Trial: how a thing that was ejected gets its traffic back, a share at a time.

Decides when the next share is earned: after so many successes, and no sooner than so long after the share before,
however fast they come. While the thing flaps the last share before all is held. Must not know why the thing was out,
nor what becomes of it when it fails: `condition` says that. Time is an input; what never comes is at `NEVER_NS`.
"""

from __future__ import annotations

from gridctl.health.settings import Settings
from gridctl.health.words import ALL_PPM, NEVER_NS
from gridctl.units import NS_PER_S


class Trial:
    """The probation of one thing; `begin` starts a new one. Shares are millionths of the traffic meant for it."""

    __slots__ = ("_earned_ns", "_shares_ppm", "_since_ns", "_step", "_step_ns", "_successes", "_wanted")

    def __init__(self, settings: Settings) -> None:
        self._shares_ppm = settings.ramp_ppm
        self._wanted = settings.ramp_successes
        self._step_ns = round(settings.ramp_step_s * NS_PER_S)
        self._step = self._successes = self._since_ns = 0
        self._earned_ns = NEVER_NS

    def begin(self, now_ns: int) -> int:
        """Start at the first share, and return it."""
        self._step = self._successes = 0
        self._since_ns = now_ns
        self._earned_ns = NEVER_NS
        return self._shares_ppm[0] if self._shares_ppm else ALL_PPM

    def succeeded(self, count: int, now_ns: int) -> bool:
        """Count successes; True when with these the next share is earned, which `due_ns` then tells."""
        self._successes += count
        if self._successes < self._wanted or self._earned_ns != NEVER_NS:
            return False
        self._earned_ns = max(now_ns, self._since_ns + self._step_ns)
        return True

    def due_ns(self, *, is_flapping: bool) -> int:
        """When the share rises."""
        is_last = self._step + 1 >= len(self._shares_ppm)
        return NEVER_NS if is_last and is_flapping else self._earned_ns

    def climb(self, now_ns: int) -> int | None:
        """Take the share that was earned, and return it; None: the trial is over and passed."""
        self._step += 1
        self._successes = 0
        self._since_ns = now_ns
        self._earned_ns = NEVER_NS
        return self._shares_ppm[self._step] if self._step < len(self._shares_ppm) else None

    def believe(self, now_ns: int) -> None:
        """The thing flaps no more: a share that was earned and held rises from now on."""
        if self._earned_ns != NEVER_NS:
            self._earned_ns = max(self._earned_ns, now_ns)
