"""Hedging: how many requests may have a second copy.

A share of all requests, never saved up: an outage that makes every stream late at once would otherwise be met with all
the copies that quiet weeks left over, and double the load when there is least room. Where a copy may go is the broker's
to say (`broker.idleness`). Source: Dean and Barroso, The Tail at Scale, 2013 (a few percent of requests).
"""

from __future__ import annotations

MOST_SAVED = 5.0
"""Hedges that may follow one another closely, once requests have paid for so many."""


class HedgeBudget:
    """Each of `requests` pays for a `share` of a hedge, and at most MOST_SAVED are kept for later. Of any n requests in
    a row at most n · share + MOST_SAVED are hedged."""

    __slots__ = ("_paid", "_saved", "hedged", "requests", "share")

    def __init__(self, share: float = 0.02) -> None:
        self.share = share
        self.requests = 0
        self.hedged = 0
        self._paid = 0
        self._saved = 0.0

    def take(self) -> bool:
        """Count one more hedge, if it may be made."""
        self._saved = min(MOST_SAVED, self._saved + self.share * (self.requests - self._paid))
        self._paid = self.requests
        if self._saved < 1.0 - 1e-9:  # fifty times a fiftieth is a little less than one
            return False
        self._saved -= 1.0
        self.hedged += 1
        return True

    def give_back(self) -> None:
        """A hedge that was taken was not sent: there was no engine for it."""
        self._saved += 1.0
        self.hedged -= 1
