"""P(the stored answer is wrong | evidence), learnt from labels of all workloads together and then of each alone.

Decides a number, never a verdict; `bound` does not trust it. A logistic regression over standardised features with L2
penalty, fitted by Newton's method: deterministic, the same labels in the same order give the same coefficients bit for
bit on one machine. A workload's coefficients are pulled towards the pooled ones (a hierarchical prior), so a workload
begins with what the others know and leaves them as its own labels come. Labels with a large residual cost nothing
special: a few lies move a coefficient a little.

A prediction is the mean over what the labels leave open about the coefficients (their Laplace approximation, integrated
by MacKay 1992): far from what was labelled it goes towards one half instead of towards false certainty. Nothing
corrects
a prediction by the record of earlier ones: their labels are mostly of prompts that were not served, and a slope fitted
there made predictions of served ones too small (measured: 6.6 % wrong where 5 % were promised, in one order of nine).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
FIRST_FIT = 100
REFIT_GROWTH = 0.05
"""A new fit after this many labels more, as a share of those there are, and at least LEAST_NEW."""
LEAST_NEW = 25
POOL_PENALTY, OWN_PENALTY = 3.0, 10.0
MOST_LABELS = 20_000
"""Labels kept for each workload; older ones are forgotten, which follows drift and bounds time and memory."""
HEAVIEST = 5.0
"""Most requests one label stands for; a rare audit must not drown what was learnt."""
NEWTON_STEPS = 25
_CONVERGED = 1e-6


def fit(features: Floats, is_wrong: Floats, weights: Floats, towards: Floats, penalty: float) -> tuple[Floats, Floats]:
    """Coefficients of shape (d,) that maximise the weighted log-likelihood less penalty/2 · |b − towards|², and their
    covariance.

    The first feature is the constant and is not penalised. Cost O(n d²) a step.
    """
    pull = np.full(features.shape[1], penalty)
    pull[0] = 1e-6
    now = towards.copy()
    for _ in range(NEWTON_STEPS):
        chance = _logistic(features @ now)
        slope = features.T @ (weights * (chance - is_wrong)) + pull * (now - towards)
        bend = _curvature(features, weights * chance * (1.0 - chance), pull)
        step = np.linalg.solve(bend, slope)
        largest = float(np.abs(step).max())
        now = now - step * min(1.0, 5.0 / max(largest, 1e-12))
        if largest < _CONVERGED:
            break
    chance = _logistic(features @ now)
    bend = _curvature(features, weights * chance * (1.0 - chance), pull)
    return now, np.asarray(np.linalg.inv(bend), np.float64)


def _curvature(features: Floats, weights: Floats, pull: Floats) -> Floats:
    return np.asarray((features * weights[:, None]).T @ features + np.diag(pull), np.float64)


class WrongModel:
    """Labels by workload and the coefficients learnt from them."""

    def __init__(self) -> None:
        self._rows: dict[str, list[Floats]] = {}
        self._wrong: dict[str, list[float]] = {}
        self._mean: Floats | None = None
        self._scale: Floats = np.ones(0)
        self._weights: dict[str, list[float]] = {}
        self._pooled: tuple[Floats, Floats] = (np.ones(0), np.ones((0, 0)))
        self._own: dict[str, tuple[Floats, Floats]] = {}
        self._unlearnt = 0

    @property
    def labels(self) -> int:
        """Labels kept."""
        return sum(len(rows) for rows in self._rows.values())

    def learn(self, workload: str, features: Floats, is_wrong: bool, weight: float = 1.0) -> None:
        """Take a label, which stands for `weight` requests like it; now and then fit again."""
        rows, wrong = self._rows.setdefault(workload, []), self._wrong.setdefault(workload, [])
        weights = self._weights.setdefault(workload, [])
        rows.append(features)
        wrong.append(float(is_wrong))
        weights.append(min(weight, HEAVIEST))
        if len(rows) > MOST_LABELS:
            for kept in (rows, wrong, weights):
                del kept[: MOST_LABELS // 4]
        self._unlearnt += 1
        labels = self.labels
        if labels >= FIRST_FIT and (self._mean is None or self._unlearnt >= max(LEAST_NEW, REFIT_GROWTH * labels)):
            self._fit()
            self._unlearnt = 0

    def restore(self, lessons: Iterable[tuple[str, Floats, bool, float]]) -> None:
        """Take labels of an earlier model (workload, features, is_wrong, weight) and fit once."""
        for workload, features, is_wrong, weight in lessons:
            self._rows.setdefault(workload, []).append(features)
            self._wrong.setdefault(workload, []).append(float(is_wrong))
            self._weights.setdefault(workload, []).append(weight)
        for workload, rows in self._rows.items():
            del rows[:-MOST_LABELS], self._wrong[workload][:-MOST_LABELS], self._weights[workload][:-MOST_LABELS]
        if self.labels >= FIRST_FIT:
            self._fit()
            self._unlearnt = 0

    def chance(self, workload: str, features: Floats) -> float | None:
        """P(wrong) in (0, 1), None before there are labels enough to fit."""
        if self._mean is None:
            return None
        row = np.concatenate(([1.0], (features - self._mean) / self._scale))
        coefficients, covariance = self._own.get(workload, self._pooled)
        spread = float(row @ covariance @ row)
        moderated = float(row @ coefficients) / math.sqrt(1.0 + math.pi * spread / 8.0)
        return float(_logistic(np.array([moderated]))[0])

    def _fit(self) -> None:
        names = sorted(self._rows)
        everything = np.concatenate([np.array(self._rows[name]) for name in names])
        wrong = np.concatenate([np.array(self._wrong[name]) for name in names])
        self._mean, self._scale = everything.mean(0), everything.std(0)
        self._scale[self._scale < 1e-9] = 1.0
        rows = np.hstack([np.ones((len(everything), 1)), (everything - self._mean) / self._scale])
        weights = np.concatenate([np.array(self._weights[name]) for name in names])
        self._pooled = fit(rows, wrong, weights, np.zeros(rows.shape[1]), POOL_PENALTY)
        start = 0
        for name in names:
            stop = start + len(self._rows[name])
            own = slice(start, stop)
            self._own[name] = fit(rows[own], wrong[own], weights[own], self._pooled[0], OWN_PENALTY)
            start = stop


def _logistic(values: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(values, -30.0, 30.0))), np.float64)
