"""How many of the last seconds' requests failed or were slow, in ten buckets, so that a count costs no list of times.

Knows no clock of its own. The window covers between nine and ten buckets of time: what is older is forgotten a bucket
at a time.
"""

from __future__ import annotations

BUCKETS = 10


class Window:
    """Counts of one thing's answers over a sliding span of `span_ns`."""

    __slots__ = ("_answered", "_bucket", "_bucket_ns", "_failed", "_slow", "answered", "failed", "next_ns", "slow")

    def __init__(self, span_ns: int, now_ns: int) -> None:
        self._bucket_ns = max(1, span_ns // BUCKETS)
        self.clear(now_ns)

    def clear(self, now_ns: int) -> None:
        """Forget all counts."""
        self._answered = [0] * BUCKETS
        self._failed = [0] * BUCKETS
        self._slow = [0] * BUCKETS
        self.answered = self.failed = self.slow = 0
        self._bucket = now_ns // self._bucket_ns
        self.next_ns = (self._bucket + 1) * self._bucket_ns

    def advance(self, now_ns: int) -> None:
        """Forget what the time has carried out of the window; needed only from `next_ns` on."""
        bucket = now_ns // self._bucket_ns
        if bucket - self._bucket >= BUCKETS:
            self.clear(now_ns)
            return
        for passed in range(self._bucket + 1, bucket + 1):
            slot = passed % BUCKETS
            self.answered -= self._answered[slot]
            self.failed -= self._failed[slot]
            self.slow -= self._slow[slot]
            self._answered[slot] = self._failed[slot] = self._slow[slot] = 0
        self._bucket = bucket
        self.next_ns = (bucket + 1) * self._bucket_ns

    def add(self, good: int, failed: int = 0, slow: int = 0) -> None:
        """Count answers: `good` ones, of which `slow` were too slow, and `failed` ones. Call `advance` before."""
        slot = self._bucket % BUCKETS
        answered = good + failed
        self._answered[slot] += answered
        self.answered += answered
        if failed:
            self._failed[slot] += failed
            self.failed += failed
        if slow:
            self._slow[slot] += slow
            self.slow += slow

    def failed_share(self) -> float:
        """Failed of all answers, 0 without any."""
        return self.failed / self.answered if self.answered else 0.0

    def slow_share(self) -> float:
        """Slow of all answers, 0 without any."""
        return self.slow / self.answered if self.answered else 0.0
