"""A workload's promise and its account: wrong answers served ≤ δ · requests, at every moment, with the confidence.

Decides whether one more answer may be served at a given prediction. The guarantee: in every epoch, with probability at
least 1 − α_k, at all times at once, wrong answers served ≤ δ · requests of the epoch; the α_k sum to 1 − confidence, so
all epochs hold together. It is `bound.most_spendable` that is never overspent.

Assumed: (a) within an epoch the factor by which the model errs is no larger for answers served than for labelled ones.
Which of the answers with one prediction are labelled is decided by a secret coin, and each label is used by a model
only after its prediction was made, so only a model whose error differs *between* predictions, or that turns worse the
moment a label is not looked at, can break this; `certificate` bounds the damage without it. (b) Labels are right or err
towards "wrong". (c) An exact repeat within its time to live has the same right answer. Not assumed: that prompts are
independent or alike over time, that labels come soon or at all, that the model is any good (a bad one serves little).

Drift: an epoch ends after `REQUESTS_PER_EPOCH`; the next begins with the labels of the last one's second half only.
"""

from __future__ import annotations

import math

from gridctl.cache.bound import FLOOR, between_zero_and_one, most_spendable, most_wrong

LEAST_HIGHEST, MOST_HIGHEST, HIGHEST_PER_RATE = 0.25, 0.5, 10.0
"""No answer is served at a prediction above ten times the error rate, within these limits; labels of higher predictions
say nothing of answers that might be served and are not counted."""
REQUESTS_PER_EPOCH = 50_000
FIRST_EPOCH = 0.75
"""Share of 1 − confidence that the first epoch gets: a young workload has the least to spend."""
LIMITS_AHEAD = 2
"""Wrong labels whose coming another thread works the limit out for, so that a look need not."""
LIMIT_EVERY = 25
"""Requests after which the limit is computed anew though no wrong label came; a limit that is older is lower."""


class Account:
    """Requests, labels and what was served of one workload."""

    def __init__(self, error_rate: float, confidence: float = 0.95) -> None:
        self.error_rate = between_zero_and_one(error_rate, "cache.error_rate")
        self.highest = min(MOST_HIGHEST, max(LEAST_HIGHEST, HIGHEST_PER_RATE * error_rate))
        self._alpha = 1.0 - between_zero_and_one(confidence, "cache.confidence")
        self._epoch = 1
        self.requests = 0
        self.served = 0
        self.spent = 0.0
        self._wrong, self._predicted = 0.0, 0.0
        self._next_wrong, self._next_predicted = 0.0, 0.0
        self._limits = [0.0]
        """The limit; and what it will be after one more wrong label, after two, …"""
        self._is_stale = True
        self.refreshes_itself = True

    @property
    def epoch(self) -> int:
        """The number of this epoch, from 1."""
        return self._epoch

    @property
    def record(self) -> tuple[float, float, float, float]:
        """Wrong labels and the sum of the predictions of all labels that count: so far, and for the next epoch."""
        return self._wrong, self._predicted, self._next_wrong, self._next_predicted

    def resume(
        self, epoch: int, requests: int, served: int, spent: float, record: tuple[float, float, float, float]
    ) -> None:
        """Go on from where an earlier account stood."""
        self._epoch, self.requests, self.served, self.spent = epoch, requests, served, spent
        self._wrong, self._predicted, self._next_wrong, self._next_predicted = record
        self._limits, self._is_stale = [0.0], True

    @property
    def alpha(self) -> float:
        """This epoch's share of 1 − confidence: FIRST_EPOCH of it for the first, 6 / (π² k²) of the rest for the k-th
        after it."""
        if self._epoch == 1:
            return self._alpha * FIRST_EPOCH
        return self._alpha * (1.0 - FIRST_EPOCH) * 6.0 / (math.pi * (self._epoch - 1)) ** 2

    @property
    def bound(self) -> float:
        """Wrong answers served over requests of this epoch, at most, with the confidence. Infinite without labels."""
        most = most_wrong(self.spent, self._wrong, self._predicted, self.alpha)
        return most / self.requests if most else 0.0

    @property
    def factor(self) -> float:
        """Wrong labels over predicted ones, the plain estimate of κ; 1 without labels."""
        return (self._wrong + 1.0) / (self._predicted + 1.0)

    def arrived(self) -> None:
        """Count a request of the workload, whatever becomes of it."""
        if self.requests >= REQUESTS_PER_EPOCH:
            self._turn()
        self.requests += 1
        if self.refreshes_itself and self.requests % LIMIT_EVERY == 0:
            self._is_stale = True

    def copy(self) -> Account:
        """The same record, for another thread to work out its limits."""
        found = Account(self.error_rate, 1.0 - self._alpha)
        found.resume(self._epoch, self.requests, self.served, self.spent, self.record)
        found._limits = self._limits[:1]
        return found

    def work_out(self, ahead: int = 0) -> None:
        """Compute the limit now, and what it will be after up to `ahead` more wrong labels; a fourth of a millisecond
        each."""
        limits = [self._spendable(self.requests)]
        for more in range(1, ahead + 1):
            limits.append(self._spendable(self.requests, more, limits[-1]))
        self._limits, self._is_stale = limits, False

    def adopt(self, copy: Account) -> bool:
        """Take the limits a copy worked out; False when more wrong labels came meanwhile than they reach to. One that
        is merely older is lower."""
        came = int(self._wrong - copy._wrong)
        if copy._epoch != self._epoch or not 0 <= came < len(copy._limits):
            return False
        self._limits, self._is_stale = copy._limits[came:], False
        return True

    def learn(self, predicted: float, is_wrong: bool) -> None:
        """Count a label whose prediction was made before it was known. Predictions of labels are taken as they are, of
        served answers as FLOOR at least: rounding both up would flatter the record."""
        if not predicted <= self.highest:
            return
        self._wrong += is_wrong
        self._predicted += predicted
        if self.requests > REQUESTS_PER_EPOCH // 2:
            self._next_wrong += is_wrong
            self._next_predicted += predicted
        if is_wrong:
            if len(self._limits) > 1:
                del self._limits[0]
            else:
                self._is_stale = True

    def affords(self, predicted: float) -> bool:
        """Whether an answer of this prediction can be served within the promise. False for NaN."""
        if not predicted <= self.highest:
            return False
        if self._is_stale:
            self.work_out()
        return self.spent + max(predicted, FLOOR) <= self._limits[0]

    def serve(self, predicted: float) -> None:
        """Book an answer served without a label."""
        self.served += 1
        self.spent += max(predicted, FLOOR)

    def allowance(self, horizon: int) -> float:
        """Predictions that can still be served, summed, by the time `horizon` more requests have come."""
        return max(0.0, self._spendable(min(self.requests + horizon, REQUESTS_PER_EPOCH)) - self.spent)

    def _spendable(self, requests: int, more_wrong: int = 0, near: float = 0.0) -> float:
        limit, wrong = self.error_rate * requests, self._wrong + more_wrong
        return most_spendable(limit, wrong, self._predicted, self.alpha, near or self._limits[0])

    def _turn(self) -> None:
        self._epoch += 1
        self.requests, self.served, self.spent = 0, 0, 0.0
        self._wrong, self._predicted = self._next_wrong, self._next_predicted
        self._next_wrong = self._next_predicted = 0.0
        self._is_stale = True
