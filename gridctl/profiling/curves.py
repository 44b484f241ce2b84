"""Curves: measured points turned into few knots of a piecewise linear function, with a bound on what that loses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def rising(values: Floats) -> Floats:
    """The nearest curve that never falls, in least squares (pool adjacent violators): more work never takes less
    time, so a fall is noise."""
    blocks: list[list[float]] = []
    for value in values:
        blocks.append([float(value), 1.0])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            mean, weight = blocks.pop()
            total = blocks[-1][1] + weight
            blocks[-1] = [(blocks[-1][0] * blocks[-1][1] + mean * weight) / total, total]
    return np.concatenate([np.full(int(weight), mean) for mean, weight in blocks])


def few_knots(at: Floats, curves: Sequence[Floats], tolerance: float, floor: float = 0.0) -> list[int]:
    """Indices into `at` between which every curve is linear up to the relative `tolerance`, ends included;
    values below `floor` are allowed the tolerance of the floor.

    Ramer–Douglas–Peucker with the vertical, relative distance; all curves share the knots. O(n²) at worst.
    """
    kept = {0, len(at) - 1}
    open_spans = [(0, len(at) - 1)]
    while open_spans:
        left, right = open_spans.pop()
        if right - left < 2:
            continue
        inside = slice(left + 1, right)
        worst, place = 0.0, 0
        for curve in curves:
            line = np.interp(at[inside], [at[left], at[right]], [curve[left], curve[right]])
            error = np.abs(line - curve[inside]) / np.maximum(np.abs(curve[inside]), max(floor, 1e-9))
            most = int(np.argmax(error))
            if error[most] > worst:
                worst, place = float(error[most]), left + 1 + most
        if worst > tolerance:
            kept.add(place)
            open_spans += [(left, place), (place, right)]
    return sorted(kept)


def relative_errors(fitted: Floats, measured: Floats) -> tuple[float, float]:
    """Median and 95th percentile of |fitted / measured − 1|, percent."""
    errors = np.abs(fitted / measured - 1.0) * 100.0
    return float(np.percentile(errors, 50)), float(np.percentile(errors, 95))
