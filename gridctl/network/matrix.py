"""Matrix: round trips from many origins to many sites in one compiled loop.

The arithmetic of `sphere.arcs_km` and `curve.evaluate_each`, operation for operation, so that every entry is the
same to the last bit; only the arrays between the operations are saved.
"""

from __future__ import annotations

from math import floor, pi, sqrt

import numpy as np
from numpy.typing import NDArray

from gridctl.geography.sphere import ARCSINE, EARTH_RADIUS_KM
from gridctl.kernels import compiled
from gridctl.network.curve import FIBRE_MS_PER_KM, KNOTS_KM, REACH_KM, SAME_METRO_MS

Floats = NDArray[np.float64]

COEFFICIENTS = np.array(ARCSINE[::-1])
KNOTS = np.array(KNOTS_KM)


@compiled
def fill_matrix(
    origins: Floats,
    origin_area: NDArray[np.int64],
    origin_share: Floats,
    origin_floor: Floats,
    sites: Floats,
    site_area: NDArray[np.int64],
    site_share: Floats,
    site_floor: Floats,
    curves: Floats,
    slopes: Floats,
    knots: Floats,
    coefficients: Floats,
    scratch: Floats,
    out: NDArray[np.int64],
) -> None:
    """Whole microseconds into `out`, shape (origins, sites). `origins` and `sites` are unit vectors, shapes (n, 3) and
    (3, n); `curves[a, b]` are the milliseconds at the knots from area a to area b, `slopes[a, b]` those per km beyond.
    `scratch` has the shape (4, sites): each stage is a loop over sites, which processors take several at a time."""
    sine, square, arc, far = scratch[0], scratch[1], scratch[2], scratch[3]
    for row in range(len(origins)):
        a, b, c = origins[row, 0], origins[row, 1], origins[row, 2]
        for column in range(len(sine)):
            x, y, z = a - sites[0, column], b - sites[1, column], c - sites[2, column]
            half_chord = min(1.0, sqrt(x * x + y * y + z * z) / 2)
            is_far = half_chord > 0.5
            far[column] = 1.0 if is_far else 0.0
            sine[column] = sqrt((1 - half_chord) / 2) if is_far else half_chord
            square[column] = sine[column] * sine[column]
            arc[column] = 0.0
        for coefficient in coefficients:
            for column in range(len(sine)):
                arc[column] = arc[column] * square[column] + coefficient
        area = origin_area[row]
        for column in range(len(sine)):
            angle = arc[column] * sine[column]
            if far[column] > 0.0:
                angle = pi / 2 + -2.0 * angle
            km = 2 * EARTH_RADIUS_KM * angle
            share = origin_share[row] + site_share[column]
            curve = curves[area, site_area[column]]
            before = SAME_METRO_MS
            time = before
            for knot in range(1, len(knots)):
                low, high = knots[knot - 1], knots[knot]
                at = max(before, curve[knot] + share * (min(high, REACH_KM) / REACH_KM))
                time = time + (at - before) * min(max((km - low) / (high - low), 0.0), 1.0)
                before = at
            time = time + slopes[area, site_area[column]] * max(km - knots[len(knots) - 1], 0.0)
            time = max(time, FIBRE_MS_PER_KM * km)
            time = max(time, max(origin_floor[row], site_floor[column]))
            out[row, column] = floor(time * 1000 + 0.5)
