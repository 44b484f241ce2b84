"""The thresholds of health's machine. Must not decide anything.

Defaults: Envoy's outlier detection (5 failures in a row; ejected for 30 s times the number of ejections, at most
300 s), Kubernetes' probes (3 failed in a row), Nagios' flap detection for services (above 20 %, below 5 %).
"""

from __future__ import annotations

import msgspec

from gridctl.units import NS_PER_S


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Thresholds of one machine. Times in seconds; shares of requests 0 to 1; shares of traffic in millionths."""

    consecutive_failures: int = 5
    window_s: float = 30.0
    window_requests: int = 20  # fewer answers in the window say nothing about a share
    ejecting_share: float = 0.5
    degrading_share: float = 0.1
    slow_share: float = 0.5
    recovered_part: float = 0.5  # of the share that degraded it: at or below this part of it, it is healthy again
    degraded_min_s: float = 10.0
    probe_failures: int = 3
    base_ejection_s: float = 30.0
    max_ejection_s: float = 300.0
    healthy_interval_s: float = 30.0  # the number of ejections falls by one after each
    ramp_ppm: tuple[int, ...] = (50_000, 250_000)  # shares of a probation, then all
    ramp_successes: int = 3
    ramp_step_s: float = 5.0  # at least this long at each share, however fast successes come
    degraded_ppm: int = 500_000
    silent_ppm: int = 500_000
    silent_after_s: float = 30.0  # stale telemetry and no answer for so long: unknown
    flap_sample_s: float = 15.0
    flap_begins_above: float = 20.0  # percent
    flap_ends_below: float = 5.0

    def ejection_ns(self, ejections: int) -> int:
        """How long the `ejections`-th ejection in close succession lasts.

        >>> [Settings().ejection_ns(n) // 10**9 for n in (1, 2, 10, 11)]
        [30, 60, 300, 300]
        """
        longest = max(self.max_ejection_s, self.base_ejection_s)
        return round(min(self.base_ejection_s * max(1, ejections), longest) * NS_PER_S)


DEFAULTS = Settings()
