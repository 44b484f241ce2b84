"""The highest prediction of being wrong that is worth serving: a price, one for all requests of a workload.

Decides the price, never whether a promise is kept. Serving the least risky first buys the most answers for a sum of
predictions, so one price is best. It is the largest that would have spent, over recent requests, no more a request than
the account's allowance gives for those to come.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque

import numpy as np

from gridctl.cache.account import Account
from gridctl.cache.bound import FLOOR

RECENT = 1_000
LEAST_HORIZON = 500


class Pace:
    """Recent predictions, 0 for an exact repeat and 1 where nothing could be served, and the price."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=RECENT)
        self.price = 0.0

    def saw(self, predicted: float) -> None:
        """Note a request."""
        self._recent.append(max(predicted, FLOOR) if predicted > 0.0 else 0.0)

    def copy(self) -> Pace:
        """The same recent requests, for another thread to choose a price by."""
        found = Pace()
        found._recent.extend(self._recent)
        return found

    def choose(self, account: Account) -> None:
        """Set the price anew. Requests to come are taken to be half of those there were."""
        if not self._recent:
            return
        horizon = max(LEAST_HORIZON, account.requests // 2)
        each = account.allowance(horizon) / horizon
        sums = np.cumsum(np.sort(np.array(self._recent))) / len(self._recent)
        place = bisect_right(sums.tolist(), each)
        self.price = min(account.highest, sorted(self._recent)[place - 1]) if place else 0.0
