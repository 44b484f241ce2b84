"""Kernels that turn rows of weights into quantised ones, prune them and merge adapters into them.

Rows are float32 that hold values of the source's own precision exactly, and every intermediate is rounded to that
precision, because the reference computes in it (compressed-tensors 0.19, `calculate_qparams` and `quantize`):

    scale = round(max|w| / limit), or the precision's epsilon where that is 0
    code  = nearest even of round(w / scale), clipped

with limit 448 (E4M3), 127.5 (8 bit) or 7.5 (4 bit, stored as value + 8, low nibble first). Each row is worked on by
itself in a fixed order, so neither the size of a block nor the number of threads changes a bit.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gridctl.kernels import compiled, fused

F32, BF16, F16 = range(3)
"""Precisions of the source."""
FP8, INT8, INT4 = range(3)
"""Codes: one byte, one byte, half a byte."""

Floats = npt.NDArray[np.float32]
Words = npt.NDArray[np.uint32]
Halves = npt.NDArray[np.uint16]
Octets = npt.NDArray[np.uint8]
Sums = npt.NDArray[np.float64]

_MAGNITUDE = np.uint32(0x7FFFFFFF)
_U16 = np.uint32(16)
_ONE = np.uint32(1)
_BF16_HALF = np.uint32(0x7FFF)
_BF16_MASK = np.uint32(0xFFFF0000)
_F16_HALF = np.uint32(0xFFF)
_F16_SHIFT = np.uint32(13)
_F16_MASK = np.uint32(0xFFFFE000)
_F16_NORMAL = np.float32(2.0**-14)
_F16_SUBNORMAL = np.float32(0.5)  # its unit in the last place is 2**-24, the step of float16's subnormals
_F16_OVERFLOW = np.float32(65520.0)
_E4M3_HALF = np.uint32(0x7FFFF)
_E4M3_SHIFT = np.uint32(20)
_E4M3_MASK = np.uint32(0xFFF00000)
_E4M3_BIAS = np.uint32(120 << 3)  # float32 has exponent bias 127, E4M3 has 7
_E4M3_NORMAL = np.float32(2.0**-6)
_E4M3_SUBNORMAL = np.float32(2.0**14)  # its unit in the last place is 2**-9, the step of E4M3's subnormals
_E4M3_SUBNORMAL_BITS = np.uint32(0x46800000)
_E4M3_LARGEST = np.float32(448.0)
_SIGN_SHIFT = np.uint32(24)
_SIGN = np.uint32(0x80)
_NEAREST = np.float32(12_582_912.0)  # 1.5 · 2**23: adding and subtracting it rounds to the nearest even integer
_ZERO = np.float32(0.0)


@fused
def _bits(value: np.float32) -> np.uint32:
    return np.float32(value).view(np.uint32)


@fused
def _value(bits: np.uint32) -> np.float32:
    return np.uint32(bits).view(np.float32)


@fused
def _rounded(value: np.float32, precision: int) -> np.float32:
    """`value` to the nearest even of the precision. Values are finite or infinite, never NaN."""
    bits = np.uint32(_bits(value))
    if precision == BF16:
        return _value(np.uint32((bits + _BF16_HALF + ((bits >> _U16) & _ONE)) & _BF16_MASK))
    if precision == F16:
        size = np.float32(abs(np.float32(value)))
        wide = np.float32(_value(np.uint32((bits + _F16_HALF + ((bits >> _F16_SHIFT) & _ONE)) & _F16_MASK)))
        small = np.float32(np.float32(size + _F16_SUBNORMAL) - _F16_SUBNORMAL)
        signed = np.float32(np.copysign(small, np.float32(value)))
        if size >= _F16_OVERFLOW:
            return np.float32(np.copysign(np.float32(np.inf), np.float32(value)))
        return wide if size >= _F16_NORMAL else signed
    return value


@compiled
def widen_bf16(source: Halves, words: Words) -> None:
    """bfloat16 as float32: `words` is the float32 rows' memory."""
    for index in range(source.size):
        words[index] = np.uint32(np.uint32(source[index]) << _U16)


@compiled
def narrow_bf16(words: Words, out: Halves) -> None:
    """float32 rows that hold bfloat16 values exactly, as bfloat16."""
    for index in range(words.size):
        out[index] = np.uint16(words[index] >> _U16)


@compiled
def largest_bits(words: Words) -> int:
    """The largest magnitude's bits: at or above 0x7F800000 something is infinite or not a number."""
    largest = np.uint32(0)
    for index in range(words.size):
        largest = max(largest, np.uint32(words[index] & _MAGNITUDE))
    return int(largest)


@compiled
def energy(values: Floats, sums: Sums) -> None:
    """Σ w² of each row into column 0, in a fixed order."""
    rows, columns = values.shape
    for row in range(rows):
        sums[row, 0] = _squares(values, row, 0, columns)


@fused
def _squares(values: Floats, row: int, first: int, end: int) -> float:
    a = b = c = d = 0.0
    index = first
    while index + 4 <= end:
        a += np.float64(values[row, index]) * np.float64(values[row, index])
        b += np.float64(values[row, index + 1]) * np.float64(values[row, index + 1])
        c += np.float64(values[row, index + 2]) * np.float64(values[row, index + 2])
        d += np.float64(values[row, index + 3]) * np.float64(values[row, index + 3])
        index += 4
    while index < end:
        a += np.float64(values[row, index]) * np.float64(values[row, index])
        index += 1
    return (a + b) + (c + d)


@compiled
def quantize(
    values: Floats,
    group: int,
    code: int,
    precision: int,
    limit: np.float32,
    epsilon: np.float32,
    codes: Octets,
    scales: Floats,
    sums: Sums,
) -> None:
    """Codes and scales of finite rows; column 1 of `sums` grows by Σ (w − code · scale)².

    `values` (rows, columns) is left holding the errors; `group` divides columns; `codes` (rows, columns) or, for INT4,
    (rows, columns / 2); `scales` (rows, columns / group)."""
    rows, columns = values.shape
    for row in range(rows):
        for index in range(columns // group):
            first = index * group
            largest = np.uint32(0)
            for column in range(first, first + group):
                largest = max(largest, np.uint32(_bits(values[row, column]) & _MAGNITUDE))
            scale = np.float32(_rounded(np.float32(np.float32(_value(largest)) / np.float32(limit)), precision))
            if scale == _ZERO:
                scale = np.float32(epsilon)
            scales[row, index] = scale
            if code == FP8:
                _to_e4m3(values, row, first, group, scale, precision, codes)
            elif code == INT8:
                _to_int8(values, row, first, group, scale, precision, codes)
            else:
                _to_int4(values, row, first, group, scale, precision, codes)
        sums[row, 1] += _squares(values, row, 0, columns)


@fused
def _to_e4m3(
    values: Floats, row: int, first: int, group: int, scale: np.float32, precision: int, codes: Octets
) -> None:
    for column in range(first, first + group):
        weight = np.float32(values[row, column])
        ratio = np.float32(_rounded(np.float32(weight / np.float32(scale)), precision))
        size = np.float32(min(np.float32(abs(ratio)), _E4M3_LARGEST))
        bits = np.uint32(_bits(size))
        near = np.uint32(bits + _E4M3_HALF + ((bits >> _E4M3_SHIFT) & _ONE))
        shifted = np.float32(size + _E4M3_SUBNORMAL)
        is_normal = size >= _E4M3_NORMAL
        normal_code = np.uint32((near >> _E4M3_SHIFT) - _E4M3_BIAS)
        small_code = np.uint32(_bits(shifted) - _E4M3_SUBNORMAL_BITS)
        kept = np.float32(_value(np.uint32(near & _E4M3_MASK))) if is_normal else np.float32(shifted - _E4M3_SUBNORMAL)
        sign = np.uint32((_bits(ratio) >> _SIGN_SHIFT) & _SIGN)
        codes[row, column] = np.uint8((normal_code if is_normal else small_code) | sign)
        restored = np.float32(np.copysign(np.float32(kept * np.float32(scale)), ratio))
        values[row, column] = np.float32(weight - restored)


@fused
def _integer(weight: np.float32, scale: np.float32, precision: int, low: float, high: float) -> np.float32:
    ratio = np.float32(_rounded(np.float32(np.float32(weight) / np.float32(scale)), precision))
    clipped = np.float32(min(max(ratio, np.float32(low)), np.float32(high)))
    return np.float32(np.float32(clipped + _NEAREST) - _NEAREST)


@fused
def _to_int8(
    values: Floats, row: int, first: int, group: int, scale: np.float32, precision: int, codes: Octets
) -> None:
    for column in range(first, first + group):
        weight = np.float32(values[row, column])
        whole = np.float32(_integer(weight, scale, precision, -128.0, 127.0))
        codes[row, column] = np.uint8(np.int32(whole) & 0xFF)
        values[row, column] = np.float32(weight - np.float32(whole * np.float32(scale)))


@fused
def _to_int4(
    values: Floats, row: int, first: int, group: int, scale: np.float32, precision: int, codes: Octets
) -> None:
    for pair in range(first // 2, (first + group) // 2):
        low_weight, high_weight = np.float32(values[row, 2 * pair]), np.float32(values[row, 2 * pair + 1])
        low = np.float32(_integer(low_weight, scale, precision, -8.0, 7.0))
        high = np.float32(_integer(high_weight, scale, precision, -8.0, 7.0))
        codes[row, pair] = np.uint8((np.int32(low) + 8) | ((np.int32(high) + 8) << 4))
        values[row, 2 * pair] = np.float32(low_weight - np.float32(low * np.float32(scale)))
        values[row, 2 * pair + 1] = np.float32(high_weight - np.float32(high * np.float32(scale)))


@compiled
def add_low_rank(values: Floats, up: Floats, down: Floats, scaling: np.float32, change: Floats, precision: int) -> None:
    """w + scaling · (up @ down) in float32, rounded once to the precision.

    `up` (rows, rank), `down` (rank, columns), `change` (columns,) is scratch. Products are added in order of rank."""
    rows, columns = values.shape
    for row in range(rows):
        for column in range(columns):
            change[column] = _ZERO
        for rank in range(down.shape[0]):
            factor = np.float32(up[row, rank])
            for column in range(columns):
                change[column] = np.float32(change[column] + np.float32(factor * down[rank, column]))
        for column in range(columns):
            moved = np.float32(values[row, column] + np.float32(change[column] * np.float32(scaling)))
            values[row, column] = _rounded(moved, precision)


@compiled
def prune_share(values: Floats, norms: Floats, count: int, scores: Words, counts: Words, sums: Sums) -> None:
    """Set the `count` weights of each row with the least |w| · norm to 0; of equal ones the first go.

    `norms` (columns,) are the inputs' norms (Wanda, arXiv 2306.11695) or ones (magnitude); `scores` (columns,) and
    `counts` (256,) are scratch. Column 1 of `sums` grows by Σ w² of what went. Selection by radix: O(columns)."""
    rows, columns = values.shape
    for row in range(rows):
        for column in range(columns):
            scores[column] = np.uint32(_bits(np.float32(abs(values[row, column])) * norms[column]))
        prefix, known, wanted = np.uint32(0), np.uint32(0), count
        for shift in (24, 16, 8, 0):
            for digit in range(256):
                counts[digit] = 0
            for column in range(columns):
                if np.uint32(scores[column] & known) == prefix:
                    counts[np.int64((scores[column] >> np.uint32(shift)) & np.uint32(0xFF))] += 1
            digit = 0
            while wanted > counts[digit]:
                wanted -= int(counts[digit])
                digit += 1
            prefix = np.uint32(prefix | (np.uint32(digit) << np.uint32(shift)))
            known = np.uint32(known | (np.uint32(0xFF) << np.uint32(shift)))
        lost = 0.0
        for column in range(columns):
            goes = scores[column] < prefix
            if scores[column] == prefix and wanted > 0:
                goes = True
                wanted -= 1
            if goes:
                lost += np.float64(values[row, column]) * np.float64(values[row, column])
                values[row, column] = _ZERO
        sums[row, 1] += lost


@compiled
def prune_pairs(values: Floats, norms: Floats, sums: Sums) -> None:
    """Of each four neighbours keep the two with the largest |w| · norm (2:4); of equal ones the first stay.

    Columns after the last whole four stay as they are. Column 1 of `sums` grows by Σ w² of what went."""
    rows, columns = values.shape
    for row in range(rows):
        lost = 0.0
        for first in range(0, columns - 3, 4):
            kept_a = kept_b = -1
            for column in range(first, first + 4):
                score = np.float32(abs(values[row, column])) * norms[column]
                if kept_a < 0 or score > np.float32(abs(values[row, kept_a])) * norms[kept_a]:
                    kept_a, kept_b = column, kept_a
                elif kept_b < 0 or score > np.float32(abs(values[row, kept_b])) * norms[kept_b]:
                    kept_b = column
            for column in range(first, first + 4):
                if column not in (kept_a, kept_b):
                    lost += np.float64(values[row, column]) * np.float64(values[row, column])
                    values[row, column] = _ZERO
        sums[row, 1] += lost
