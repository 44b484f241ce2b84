"""Pace: a cap on bytes per second, shared by every transfer that is handed the same one.

A token bucket of a quarter of a second's bytes: links are thin, and a burst of seconds would starve the traffic that
the cap protects. The clock and the pause are inputs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from gridctl.errors import Interrupted

BURST_S = 0.25


class Pace:
    """At most `bytes_per_s` on the long run. Safe among threads."""

    def __init__(
        self,
        bytes_per_s: float | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rate = bytes_per_s
        self._clock = clock
        self._pause = pause
        self._free_at = clock()
        self._lock = threading.Lock()
        self._is_stopped = False

    def stop(self) -> None:
        """End every transfer that goes by this pace at its next piece."""
        self._is_stopped = True

    def take(self, count: int) -> None:
        """Wait until `count` more bytes may travel. Raises: Interrupted once `stop` was called."""
        if self._is_stopped:
            raise Interrupted("the transfer was stopped", where="transfer", fix="run the command again: it resumes")
        if self._rate is None:
            return
        with self._lock:
            now = self._clock()
            self._free_at = max(self._free_at, now - BURST_S) + count / self._rate
            wait = self._free_at - now
        if wait > 0:
            self._pause(wait)
