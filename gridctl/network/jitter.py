"""Jitter: how one round trip differs from its pair's average.

`JITTER_PPM` holds 65 knots, at u = 0, 1/64 … 1, of the quantile function of ping / average − 1 in parts per million:
variation over time within a measured pair, not the model's error. It was pooled over 28,125 measurements of
WonderNetwork (November 2018), each taken as three atoms at its minimum, average and maximum with the weights that
reproduce its reported average and deviation; tests/bench/fit_rtt.py does it. The mean is zero to within a millionth, so
jitter does not move the average. Nineteen pings in twenty are less than 1.1 % late; one in a hundred is late by 42 %
or more. A replay draws from the knots with integers hashed from its seed and the request's number.
"""

from __future__ import annotations

from gridctl.network.coefficients import JITTER_PPM

__all__ = ["JITTER_PPM", "jitter_quantile_ppm"]

_SEGMENTS = len(JITTER_PPM) - 1


def jitter_quantile_ppm(share: float) -> float:
    """The jitter that `share` of round trips stay below, straight between knots; `share` in 0…1.

    >>> jitter_quantile_ppm(1.0) == JITTER_PPM[-1]
    True
    """
    knot = min(int(share * _SEGMENTS), _SEGMENTS - 1)
    low, high = JITTER_PPM[knot], JITTER_PPM[knot + 1]
    return low + (high - low) * (share * _SEGMENTS - knot)
