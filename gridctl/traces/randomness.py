"""Randomness: uniforms, normals, gammas and choices that are the same bits on every machine and NumPy version.

Every draw is a function of (seed, stream, index), so nothing depends on chunking or order. Integers come from
SplitMix64 (Steele, Lea & Flood 2014); logarithm, exponential and cosine use only +, −, ×, ÷ and √, which IEEE 754
rounds exactly, because libraries' own versions differ in the last bit between processors.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Words = NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_LN2_HIGH = 0.693147180369123816490  # its low 32 bits are zero, so n·LN2_HIGH is exact
_LN2_LOW = 1.90821492927058770002e-10
_TAU = 6.283185307179586
_REJECTION_ROUNDS = 64  # Marsaglia–Tsang accepts over 95 % a round


def words(seed: int, stream: str, index: NDArray[np.integer] | int, attempt: int = 0) -> Words:
    """64 random bits for each index of a named stream: the index-th output of that stream's SplitMix64."""
    digest = hashlib.blake2b(f"{seed}/{stream}/{attempt}".encode(), digest_size=8).digest()
    start = np.uint64(int.from_bytes(digest, "little"))
    with np.errstate(over="ignore"):
        state = start + (np.asarray(index, np.int64).astype(np.uint64) + np.uint64(1)) * _GOLDEN
        state = (state ^ (state >> np.uint64(30))) * _MIX_1
        state = (state ^ (state >> np.uint64(27))) * _MIX_2
        mixed: Words = state ^ (state >> np.uint64(31))
    return mixed


def uniforms(seed: int, stream: str, index: NDArray[np.integer] | int, attempt: int = 0) -> Floats:
    """Uniform in the open interval (0, 1): 52 bits and a half, so that 0 and 1 never come."""
    high = (words(seed, stream, index, attempt) >> np.uint64(12)).astype(np.float64)
    drawn: Floats = (high + 0.5) * 2.0**-52
    return drawn


def exponentials(seed: int, stream: str, index: NDArray[np.integer]) -> Floats:
    """Exponential of mean 1."""
    return -log(uniforms(seed, stream, index))


def normals(seed: int, stream: str, index: NDArray[np.integer], attempt: int = 0) -> Floats:
    """Standard normal, by Box and Muller."""
    radius = np.sqrt(-2.0 * log(uniforms(seed, f"{stream}/radius", index, attempt)))
    drawn: Floats = radius * cos_turn(uniforms(seed, f"{stream}/angle", index, attempt))
    return drawn


def gammas(seed: int, stream: str, index: NDArray[np.integer], shape: float | Floats) -> Floats:
    """Gamma of the given shape (one for all, or one each) and mean 1. Source: Marsaglia & Tsang 2000, with their boost
    for shapes below 1."""
    shapes = np.broadcast_to(np.asarray(shape, np.float64), index.shape)
    boosted = np.where(shapes < 1.0, shapes + 1.0, shapes)
    d = boosted - 1.0 / 3.0
    c = 1.0 / np.sqrt(9.0 * d)
    drawn = d.copy()
    pending = np.arange(len(index))
    for attempt in range(_REJECTION_ROUNDS):
        if not len(pending):
            break
        d_left, c_left = d[pending], c[pending]
        x = normals(seed, f"{stream}/normal", index[pending], attempt)
        v = (1.0 + c_left * x) * (1.0 + c_left * x) * (1.0 + c_left * x)
        u = uniforms(seed, f"{stream}/accept", index[pending], attempt)
        safe = np.maximum(v, 1e-300)
        accepted = (v > 0) & (log(u) < 0.5 * x * x + d_left - d_left * v + d_left * log(safe))
        drawn[pending[accepted]] = (d_left * v)[accepted]
        pending = pending[~accepted]
    small = np.flatnonzero(shapes < 1.0)
    if len(small):
        drawn[small] *= exp(log(uniforms(seed, f"{stream}/boost", index[small])) / shapes[small])
    return drawn / shapes


def choices(weights: Floats, uniform: Floats) -> NDArray[np.int64]:
    """An index for each uniform, with probability in proportion to the weights."""
    total = np.cumsum(weights)
    chosen = np.searchsorted(total, uniform * total[-1], side="right")
    last = int(np.flatnonzero(weights > 0)[-1])  # rounding must not pick a weight of 0 behind the last
    capped: NDArray[np.int64] = np.minimum(chosen, last).astype(np.int64)
    return capped


def log(x: Floats) -> Floats:
    """Natural logarithm of positive doubles, within 2 ulp: m·2^e with m in [√½, √2), then 2·artanh((m−1)/(m+1))."""
    mantissa, exponent = np.frexp(x)
    low = mantissa < 0.7071067811865476
    mantissa = np.where(low, 2.0 * mantissa, mantissa)
    power = np.where(low, exponent - 1, exponent).astype(np.float64)
    s = (mantissa - 1.0) / (mantissa + 1.0)
    square = s * s
    series = np.zeros_like(s)
    for odd in range(23, 1, -2):  # |s| ≤ 0.172: the next term is below 2⁻⁶⁰ of the first
        series = (series + 1.0 / odd) * square
    value: Floats = power * _LN2_HIGH + (power * _LN2_LOW + 2.0 * s * series + 2.0 * s)
    return value


def exp(x: Floats) -> Floats:
    """Exponential of doubles within ±700: 2^n · e^r with |r| ≤ ½·ln 2, by its Taylor series."""
    x = np.clip(x, -700.0, 700.0)
    n = np.rint(x / (_LN2_HIGH + _LN2_LOW))
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    series = np.ones_like(r)
    for k in range(14, 0, -1):  # 0.347¹⁵/15! is below 2⁻⁶⁰
        series = 1.0 + series * r / k
    value: Floats = np.ldexp(series, n.astype(np.int32))
    return value


def cos_turn(turns: Floats) -> Floats:
    """cos(2π·turns), folded to an eighth of a turn and summed as a Taylor series."""
    folded = np.abs(turns - np.rint(turns))  # [0, ½]
    flipped = folded > 0.25
    folded = np.where(flipped, 0.5 - folded, folded)  # [0, ¼]
    as_sine = folded > 0.125
    angle = _TAU * np.where(as_sine, 0.25 - folded, folded)  # [0, π/4]
    square = angle * angle
    cosine, sine = np.ones_like(angle), np.ones_like(angle)
    for k in range(18, 0, -2):
        cosine = 1.0 - cosine * square / (k * (k - 1))
        sine = 1.0 - sine * square / (k * (k + 1))
    value = np.where(as_sine, angle * sine, cosine)
    result: Floats = np.where(flipped, -value, value)
    return result


def sin_turn(turns: Floats) -> Floats:
    """sin(2π·turns)."""
    return cos_turn(turns - 0.25)
