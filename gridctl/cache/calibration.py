"""What a workload's own record says of the model's numbers: a prediction, put right by the labels that came after it.

Decides a number, never a verdict. The map is ln(q / (1 − q)) = a + b · (ln(p / (1 − p)) − c), fitted by Newton's method
to predictions that were made before their labels, so that a model that is too sure of what it learnt, or too timid, is
found out (Platt 1999, on predictions out of sample). A label stands for 1 / (probability that it was looked at)
requests, within `HEAVIEST`. Without labels the map changes nothing; b stays above `LEAST_SLOPE`, so that it never turns
the order round. Only predictions up to `HIGHEST` count: nothing near them is ever served.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

HIGHEST = 0.5
KEPT = 4_000
HEAVIEST = 20.0
CENTRE = -2.0
"""Log odds about which the map turns: a prediction of 0.12, in the middle of those that matter."""
SHIFT_PENALTY, SLOPE_PENALTY = 1.0, 4.0
LEAST_SLOPE = 0.2
REFIT_GROWTH, LEAST_NEW = 0.05, 20
NEWTON_STEPS = 20
_FURTHEST = 30.0


def log_odds(chance: float) -> float:
    """ln(p / (1 − p)), finite for any chance in [0, 1]."""
    bounded = min(max(chance, 1e-12), 1.0 - 1e-12)
    return math.log(bounded / (1.0 - bounded))


class Calibration:
    """Predictions with their labels, the newest `KEPT`, and the map fitted to them."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, float, float]] = deque(maxlen=KEPT)
        self._map = np.array([CENTRE, 1.0])
        self._unlearnt = 0

    def of(self, chance: float) -> float:
        """The prediction put right, in (0, 1)."""
        value = float(self._map[0] + self._map[1] * (log_odds(chance) - CENTRE))
        return 1.0 / (1.0 + math.exp(-min(_FURTHEST, max(-_FURTHEST, value))))

    def learn(self, chance: float, is_wrong: bool, weight: float = 1.0) -> None:
        """Take a prediction whose label has come; now and then fit again."""
        if not chance <= HIGHEST:
            return
        self._seen.append((log_odds(chance) - CENTRE, float(is_wrong), min(weight, HEAVIEST)))
        self._unlearnt += 1
        if self._unlearnt >= max(LEAST_NEW, REFIT_GROWTH * len(self._seen)):
            self._fit()
            self._unlearnt = 0

    def _fit(self) -> None:
        places, wrong, weights = np.array(self._seen).T
        rows = np.stack([np.ones_like(places), places], 1)
        start, pull = np.array([CENTRE, 1.0]), np.array([SHIFT_PENALTY, SLOPE_PENALTY])
        now = start.copy()
        for _ in range(NEWTON_STEPS):
            chance = 1.0 / (1.0 + np.exp(-np.clip(rows @ now, -_FURTHEST, _FURTHEST)))
            slope = rows.T @ (weights * (chance - wrong)) + pull * (now - start)
            bend = (rows * (weights * chance * (1.0 - chance))[:, None]).T @ rows + np.diag(pull)
            step = np.linalg.solve(bend, slope)
            largest = float(np.abs(step).max())
            now = now - step * min(1.0, 2.0 / max(largest, 1e-12))
            if largest < 1e-8:
                break
        self._map: NDArray[np.float64] = np.array([now[0], max(LEAST_SLOPE, float(now[1]))])
