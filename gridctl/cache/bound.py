"""How many wrong answers a record makes credible, at every moment at once.

Mathematics only. Labels with predictions q of being wrong: W of them were wrong, and their predictions sum to Q.
Answers served without a label: their predictions sum to S, and L of them were wrong, which nobody saw. Let κ be the
factor by which the model errs: labelled ones are wrong at least κq of the time, served ones at most κq, given the past.
For any η, ζ > 0 the process

    exp(ηL − κ(e^η − 1)S) · exp(κ(1 − e^−ζ)Q − ζW)

is a non-negative supermartingale that begins at 1 (each step's mean is at most 1, since 1 + x ≤ e^x), and so is its
mixture over a fixed set of (η, ζ). By Ville's inequality it ever reaches 1/α with probability at most α. So with
probability 1 − α, at all times, L is below the value at which the mixture reaches 1/α for the κ that allows the most:
`most_wrong`. Read the other way it is the largest S that keeps L below a limit: `most_spendable`. Looking often,
stopping at will and choosing again after every look cost nothing. Sources: Ville 1939; Robbins 1970 (mixtures);
Howard, Ramdas, McAuliffe and Sekhon 2021 (time-uniform bounds). The pairing of labels with what was served, which
never estimates κ, is ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gridctl.errors import InputError

Floats = NDArray[np.float64]
FLOOR = 1e-3
"""The smallest prediction believed of an answer served; smaller ones count as this."""
_ZETA_PER_ETA = (0.006, 0.02, 0.06, 0.2, 0.6, 1.8)
_ETA: Floats = np.repeat([0.06, 0.16, 0.4, 0.8, 1.3, 2.3], len(_ZETA_PER_ETA))
_ZETA: Floats = _ETA * np.tile(_ZETA_PER_ETA, 6)
"""Weights of a served answer and of a label. What is best for a limit of ℓ wrong answers falls from about 2 at ℓ = 5 to
0.15 at ℓ = 500. A label's must fall with the labels there are for each answer served: e^(ηL) has to outweigh e^(−ζW)
even for κ near 0, or many labels would forbid every answer."""
_LOG_PRIOR: Floats = np.log(np.repeat([0.05, 0.12, 0.25, 0.28, 0.18, 0.12], len(_ZETA_PER_ETA)) / len(_ZETA_PER_ETA))
"""The mixture's weights: most where a few thousand requests are."""
_SERVED: Floats = np.expm1(_ETA)
_LABELLED: Floats = -np.expm1(-_ZETA)
_FACTORS: Floats = np.concatenate(([0.0], np.geomspace(0.02, 1.0 / FLOOR, 48)))
_FINE = 24
_NEARLY = 1.05
"""A limit seldom changes by more from one time it is worked out to the next."""
_CLOSE, _STEPS, _NO_END = 1e-6, 60, 1e9


def between_zero_and_one(value: float, what: str) -> float:
    """`value` itself; an InputError unless 0 < value < 1."""
    if not 0.0 < value < 1.0:
        raise InputError(f"{what} of {value} cannot be kept", where=what, fix="choose it between 0 and 1, as 0.01")
    return value


def log_evidence(wrong_served: float, served: float, wrong: float, predicted: float) -> float:
    """ln of the mixture at L = `wrong_served`, S = `served`, W = `wrong`, Q = `predicted`, for the κ that explains the
    record best. It is convex in κ, so a coarse search and a fine one around its least value find it."""
    constant = (_LOG_PRIOR + _ETA * wrong_served - _ZETA * wrong)[:, None]
    slope = (_LABELLED * predicted - _SERVED * served)[:, None]

    def at(factors: Floats) -> Floats:
        values = constant + slope * factors
        top = values.max(axis=0)
        return np.asarray(top + np.log(np.exp(values - top).sum(axis=0)), np.float64)

    coarse = at(_FACTORS)
    least = int(coarse.argmin())
    low, high = _FACTORS[max(least - 1, 0)], _FACTORS[min(least + 1, len(_FACTORS) - 1)]
    return float(min(coarse[least], at(np.linspace(low, high, _FINE)).min()))


def most_wrong(served: float, wrong: float, predicted: float, alpha: float) -> float:
    """The most wrong answers among those served that are credible at level `alpha`; infinity without labels enough."""
    if served <= 0.0:
        return 0.0
    target = -math.log(alpha)
    low, high = 0.0, 1.0
    while log_evidence(high, served, wrong, predicted) < target:
        low, high = high, high * 2.0
        if high > served / FLOOR + 1.0:
            return math.inf

    def left(place: float) -> float:
        return target - log_evidence(place, served, wrong, predicted)

    return _root(left, (low, high), (left(low), left(high)))[1]


def most_spendable(limit: float, wrong: float, predicted: float, alpha: float, near: float = 0.0) -> float:
    """The largest S for which more than `limit` wrong answers are not credible at level `alpha`, from below; 0 when
    none is. `near` is a guess, which saves time and changes nothing else."""
    target = -math.log(alpha)

    def beyond(served: float) -> float:
        return log_evidence(limit, served, wrong, predicted) - target

    low, low_value = 0.0, beyond(0.0) if limit > 0.0 else -1.0
    if low_value < 0.0:
        return 0.0
    step = _NEARLY if near > 0.0 else 2.0
    high = near if near > 0.0 else 1.0
    high_value = beyond(high)
    if high_value < 0.0 and step < 2.0 and (value := beyond(high / step)) >= 0.0:
        low, low_value = high / step, value
    while high_value >= 0.0:
        low, low_value, high, step = high, high_value, high * step, 2.0
        if high > _NO_END:
            return low
        high_value = beyond(high)
    return _root(beyond, (low, high), (low_value, high_value))[0]


def _root(
    beyond: Callable[[float], float], ends: tuple[float, float], values: tuple[float, float]
) -> tuple[float, float]:
    """Places close together between which `beyond` turns negative, from `ends` where it has: false position, the value
    that stays counted half (the Illinois rule, Dowell and Jarratt 1971), which here wants a fourth of bisection's
    steps."""
    (low, high), (low_value, high_value) = ends, values
    last = 0
    for _ in range(_STEPS):
        if high - low <= _CLOSE * high:
            break
        middle = low + (high - low) * low_value / (low_value - high_value)
        if not low < middle < high:
            middle = 0.5 * (low + high)
        value = beyond(middle)
        if value >= 0.0:
            low, low_value = middle, value
            high_value *= 0.5 if last > 0 else 1.0
            last = 1
        else:
            high, high_value = middle, value
            low_value *= 0.5 if last < 0 else 1.0
            last = -1
    return low, high
