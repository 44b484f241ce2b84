"""Least squares and least absolute deviations over coefficients that cannot be negative.

A step takes no negative time, so no fitted coefficient may: an unconstrained fit trades one below zero against another.
Sources: Lawson & Hanson, Solving Least Squares Problems (1974), chapter 23, the active-set method; iteratively
reweighted least squares for absolute deviations (Schlossmacher 1973), which one wild measurement hardly moves.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
REWEIGHTINGS = 30
SMALLEST_DEVIATION = 1e-3
"""Deviations below this (relative: a tenth of a percent) weigh alike; it keeps the weights finite."""


def nonnegative_least_squares(matrix: Floats, target: Floats, start: Floats | None = None) -> Floats:
    """The x ≥ 0 that minimises |matrix · x − target|². Cost O(columns) small least-squares solves, a few of them when
    `start`, which is not negative, has nearly the right columns at zero."""
    scale = np.linalg.norm(matrix, axis=0)
    scale[scale == 0.0] = 1.0
    scaled = matrix / scale
    columns = matrix.shape[1]
    solution = np.zeros(columns) if start is None else start * scale
    free = solution > 0.0
    if free.any():
        solution = _walk_inside(scaled, target, solution, free)
    tolerance = 1e-10 * max(1.0, float(np.abs(scaled.T @ target).max(initial=0.0)))
    for _ in range(3 * columns):
        gradient = scaled.T @ (target - scaled @ solution)
        gradient[free] = -np.inf
        if gradient.max(initial=-np.inf) <= tolerance:
            break
        free[int(gradient.argmax())] = True
        solution = _walk_inside(scaled, target, solution, free)
    unscaled: Floats = solution / scale
    return unscaled


def _walk_inside(matrix: Floats, target: Floats, solution: Floats, free: NDArray[np.bool_]) -> Floats:
    """Walk towards the unconstrained solution over the `free` columns; those that hit zero leave `free`."""
    while True:
        proposal = np.zeros_like(solution)
        proposal[free] = np.linalg.lstsq(matrix[:, free], target, rcond=None)[0]
        blocked = free & (proposal <= 0.0)
        if not blocked.any():
            return proposal
        gap = np.maximum(solution[blocked] - proposal[blocked], np.finfo(float).tiny)
        share = float(np.min(solution[blocked] / gap))
        solution = solution + min(1.0, share) * (proposal - solution)
        dropped = blocked & (solution <= 1e-12 * max(1.0, float(solution.max())))
        # at least one column leaves, or rounding could keep the walk in place for ever
        if not dropped.any():
            dropped[np.flatnonzero(blocked)[int(np.argmin(solution[blocked]))]] = True
        free &= ~dropped
        solution[~free] = 0.0


def nonnegative_least_deviations(matrix: Floats, target: Floats, start: Floats | None = None) -> Floats:
    """The x ≥ 0 that (nearly) minimises Σ |matrix · x − target|; rows are expected scaled to relative deviations."""
    weights = np.ones(len(target))
    solution = np.zeros(matrix.shape[1]) if start is None else start
    for _ in range(REWEIGHTINGS):
        root = np.sqrt(weights)
        following = nonnegative_least_squares(matrix * root[:, None], target * root, solution)
        settled = np.allclose(following, solution, rtol=1e-6, atol=0.0)
        solution = following
        if settled:
            break
        weights = 1.0 / np.maximum(np.abs(matrix @ solution - target), SMALLEST_DEVIATION)
    return solution
