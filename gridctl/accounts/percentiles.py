"""Percentiles and shares of finite samples: exact on the sample, and honest about what the sample proves beyond it.

A percentile is a nearest rank on whole numbers, never interpolated and never averaged. Every bound here assumes
independent, identically distributed requests. Requests that share a queue are not: on the run they came from the
percentile is exact and needs no bound, so a caller must label a bound as one for i.i.d. requests.

Sources: nearest rank and distribution-free bounds from order statistics, David & Nagaraja, Order Statistics, 3rd ed.,
section 7.1; exact binomial interval, Clopper & Pearson, Biometrika 26 (1934); continued fraction of the incomplete
beta function, DLMF 8.17.22, evaluated by Lentz's method.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
_TINY = 1e-300
_EPSILON = 1e-15


class Interval(NamedTuple):
    """A two-sided interval of a share, both ends between 0 and 1."""

    low: float
    high: float


class Ranks(NamedTuple):
    """1-based ranks of the order statistics that bound a percentile; None where the sample is too small for one."""

    low: int | None
    high: int | None


def exact(share: float) -> Fraction:
    """The decimal number a person wrote, so that 0.01 of 300 is 3 and not 3.0000000000000004.

    >>> exact(0.99) * 300
    Fraction(297, 1)
    """
    return Fraction(repr(float(share)))


def nearest_rank(n: int, percentile: float) -> int:
    """⌈p/100 · n⌉, at least 1: the 1-based rank of the percentile among `n` sorted values.

    >>> nearest_rank(300, 99.0)
    297
    """
    return max(1, math.ceil(exact(percentile) * n / 100))


def percentiles(values: NDArray[np.int64], wanted: Sequence[float]) -> tuple[int | None, ...]:
    """The nearest-rank percentiles of `values`, shape `(n,)`; None for each when there are no values. O(n)."""
    n = len(values)
    if n == 0:
        return (None,) * len(wanted)
    positions = [nearest_rank(n, percentile) - 1 for percentile in wanted]
    parted = np.partition(values, sorted(set(positions)))
    return tuple(int(parted[position]) for position in positions)


def percentile_ranks(n: int, percentile: float, confidence: float = CONFIDENCE) -> Ranks:
    """Ranks between which the true percentile lies with at least `confidence`, for i.i.d. values of any distribution.

    The low rank is the binomial quantile at (1 − confidence)/2, the high one the quantile at (1 + confidence)/2,
    plus 1. A rank outside 1…n does not exist and is None.
    """
    if n == 0:
        return Ranks(None, None)
    share = float(exact(percentile) / 100)
    low = binomial_quantile((1 - confidence) / 2, n, share)
    high = binomial_quantile((1 + confidence) / 2, n, share) + 1
    return Ranks(low if low >= 1 else None, high if high <= n else None)


def requests_to_bound(percentile: float, confidence: float = CONFIDENCE) -> int:
    """How many requests it takes before the percentile has a finite two-sided upper bound.

    The largest of n values lies above the percentile with probability 1 − pⁿ, which must reach (1 + confidence)/2.

    >>> [requests_to_bound(percentile) for percentile in (95.0, 99.0, 99.9)]
    [72, 368, 3688]
    """
    return math.ceil(math.log((1 - confidence) / 2) / math.log(float(exact(percentile) / 100)))


def proves(n: int, misses: int, share: float, confidence: float = CONFIDENCE) -> bool:
    """Whether `misses` among `n` requests prove, one-sided, that at least `share` of all requests are good.

    They do when a system good in exactly `share` of its requests would miss so few of `n` with probability at most
    1 − confidence.
    """
    return n > 0 and binomial_cdf(misses, n, float(1 - exact(share))) <= 1 - confidence


@lru_cache(maxsize=4096)
def requests_to_prove(share: float, misses: int = 0, confidence: float = CONFIDENCE) -> int:
    """The smallest number of requests that, with `misses` among them, prove that at least `share` are good.

    >>> [requests_to_prove(0.99, misses) for misses in range(4)]
    [299, 473, 628, 773]
    """
    enough = misses + 1
    while not proves(enough, misses, share, confidence):
        enough *= 2
    too_few = enough // 2 if enough > misses + 1 else misses
    while enough - too_few > 1:
        middle = (enough + too_few) // 2
        if proves(middle, misses, share, confidence):
            enough = middle
        else:
            too_few = middle
    return enough


@lru_cache(maxsize=16384)
def clopper_pearson(good: int, n: int, confidence: float = CONFIDENCE) -> Interval:
    """The exact two-sided interval of a share of which `good` of `n` i.i.d. requests were seen.

    >>> interval = clopper_pearson(297, 300)
    >>> f"{interval.low:.3f} {interval.high:.3f}"
    '0.971 0.998'
    """
    tail = (1 - confidence) / 2
    low = beta_quantile(tail, good, n - good + 1) if good > 0 else 0.0
    high = beta_quantile(1 - tail, good + 1, n - good) if good < n else 1.0
    return Interval(low, high)


def binomial_cdf(k: int, n: int, share: float) -> float:
    """P(X ≤ k) of a binomial: the incomplete beta I(1 − share; n − k, k + 1)."""
    if k < 0:
        return 0.0
    if k >= n:
        return 1.0
    return incomplete_beta(n - k, k + 1, 1 - share)


def binomial_quantile(probability: float, n: int, share: float) -> int:
    """The smallest k with P(X ≤ k) ≥ probability, by bisection."""
    below, above = -1, n
    while above - below > 1:
        middle = (below + above) // 2
        if binomial_cdf(middle, n, share) >= probability:
            above = middle
        else:
            below = middle
    return above


def incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function I(x; a, b), for a, b > 0 and 0 ≤ x ≤ 1. O(√max(a, b)) steps."""
    if x <= 0.0:
        return 0.0
    if x >= 1.0:
        return 1.0
    if x > (a + 1) / (a + b + 2):  # the fraction converges fast only on the near side of the mean
        return 1.0 - incomplete_beta(b, a, 1.0 - x)
    return math.exp(_log_beta_power(a, b, x)) * _beta_fraction(a, b, x) / a


def beta_quantile(probability: float, a: float, b: float) -> float:
    """The x with I(x; a, b) = probability: Newton's steps, kept inside a bisected bracket."""
    low, high, x = 0.0, 1.0, a / (a + b)
    for _ in range(200):
        excess = incomplete_beta(a, b, x) - probability
        if excess > 0:
            high = x
        else:
            low = x
        density = math.exp(_log_beta_power(a, b, x)) / (x * (1 - x))
        guess = x - excess / density if density > _TINY else -1.0
        if not low < guess < high:
            guess = (low + high) / 2
        if abs(guess - x) <= 1e-14 or high - low <= 1e-14:
            return guess
        x = guess
    return x


def _log_beta_power(a: float, b: float, x: float) -> float:
    """log(xᵃ (1 − x)ᵇ / B(a, b))."""
    return math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)


def _beta_fraction(a: float, b: float, x: float) -> float:
    """The continued fraction 1/(1 + d₁/(1 + d₂/(1 + …))) of DLMF 8.17.22, by modified Lentz."""
    value, c, d = 1.0, 1.0, 0.0
    for step in range(1, 200 + 20 * math.isqrt(int(max(a, b)))):
        m = step // 2
        if step % 2 == 0:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        else:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        d = 1.0 + term * d
        d = 1.0 / (d if abs(d) > _TINY else _TINY)
        c = 1.0 + term / c
        c = c if abs(c) > _TINY else _TINY
        value *= c * d
        if abs(1.0 - c * d) < _EPSILON:
            break
    return 1.0 / value
