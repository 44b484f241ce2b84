"""Sphere: great-circle distance in additions, multiplications, divisions and square roots alone.

IEEE 754 fixes those to the last bit, and leaves sine and arcsine to each machine's library. A replay promises equal
bytes on every machine, so the few functions needed are summed here, to within 10⁻¹⁵. The same arithmetic takes floats
and arrays. The sphere has the mean radius of the Earth (IUGG R1), so distances are within 0.6 % of the ellipsoid's.

Source: the chord between unit vectors (haversine in vector form), R. W. Sinnott, "Virtues of the Haversine", Sky and
Telescope 68(2), 1984; Taylor series.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EARTH_RADIUS_KM = 6371.0088
_RADIANS_PER_DEGREE = math.pi / 180
_TERMS = 12
# Coefficients of arcsin z = Σ cₖ z^(2k+1): cₖ = (2k)! / (4^k k!² (2k+1)).
ARCSINE = tuple(math.factorial(2 * k) / (4**k * math.factorial(k) ** 2 * (2 * k + 1)) for k in range(25))

Number = TypeVar("Number", "float", "NDArray[np.float64]")
UnitVector = tuple[float, float, float]


def unit_vector(lat: float, lon: float) -> UnitVector:
    """The point at `lat`, `lon` degrees on the unit sphere."""
    sin_lat, cos_lat = _sine_cosine(lat)
    sin_lon, cos_lon = _sine_cosine(lon)
    return cos_lat * cos_lon, cos_lat * sin_lon, sin_lat


def arc_km(a: UnitVector, b: UnitVector) -> float:
    """Distance along the surface.

    >>> round(arc_km(unit_vector(0, 179), unit_vector(0, -179)), 1)
    222.4
    """
    x, y, z = a[0] - b[0], a[1] - b[1], a[2] - b[2]
    half_chord = min(1.0, math.sqrt(x * x + y * y + z * z) / 2)
    if half_chord > 0.5:
        return 2 * EARTH_RADIUS_KM * (math.pi / 2 - 2 * _arcsine(math.sqrt((1 - half_chord) / 2)))
    return 2 * EARTH_RADIUS_KM * _arcsine(half_chord)


def arcs_km(a: UnitVector, b: NDArray[np.float64]) -> NDArray[np.float64]:
    """`arc_km` from one point to many; `b` has shape (3, n), the result (n,)."""
    import numpy as np

    x, y, z = a[0] - b[0], a[1] - b[1], a[2] - b[2]
    half_chord = np.minimum(1.0, np.sqrt(x * x + y * y + z * z) / 2)
    is_far = half_chord > 0.5
    arc: NDArray[np.float64] = np.array(_arcsine(np.where(is_far, np.sqrt((1 - half_chord) / 2), half_chord)))
    angle = np.where(is_far, math.pi / 2, 0.0) + np.where(is_far, -2.0, 1.0) * arc
    return 2 * EARTH_RADIUS_KM * angle


def _sine_cosine(degrees: float) -> tuple[float, float]:
    """Sine and cosine of −360…360 degrees; exact at multiples of 90."""
    quarter = math.floor(degrees / 90 + 0.5)
    x = (degrees - 90 * quarter) * _RADIANS_PER_DEGREE  # within ±π/4
    square = x * x
    sine, cosine = 0.0, 0.0
    for k in range(_TERMS - 1, -1, -1):
        sine = 1 - sine * square / ((2 * k + 2) * (2 * k + 3))
        cosine = 1 - cosine * square / ((2 * k + 1) * (2 * k + 2))
    sine *= x
    return ((sine, cosine), (cosine, -sine), (-sine, -cosine), (-cosine, sine))[quarter % 4]


def _arcsine(z: Number) -> Number:
    """arcsin of 0…0.5."""
    square = z * z
    total = 0 * z
    for coefficient in reversed(ARCSINE):
        total = total * square + coefficient
    return total * z
