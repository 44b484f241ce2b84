"""Attention: one layer's measured kernel times by batch → curves for decodes, prefills and batches of both.

Three kinds of batch are told apart because the kernels do: decodes alone (KV split over the GPU), a prefill alone,
and both together, where the decodes' KV is read without splitting and rows of both are scheduled side by side:

    time(c, p, n, k) ≈ alone(c) + per_kv(c) · p + mixed(n, k) + cross · n · c

`c` prefill tokens after `p` KV tokens, `n` decodes of `k` KV tokens each. Fits are by relative error and robust
(medians), because a few kernels of any table are outliers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from gridctl.profiling.curves import Floats, few_knots, relative_errors, rising
from gridctl.profiling.tables import Batch

BESIDE_US = 50.0
"""A layer's other kernels take several times this, so less attention than this need not be told apart finely."""

FEW_DECODES = 8
"""Below this many decodes the cross term drowns in the noise of the difference."""


@dataclass(frozen=True, slots=True)
class AttentionFit:
    """Microseconds of one layer. `decode` is `(counts, kv)`, `mixed` `(counts, mixed_kv)`, `alone` and `per_kv`
    `(chunks,)`."""

    counts: Floats
    kv: Floats
    decode: Floats
    mixed_kv: Floats
    mixed: Floats
    cross: float
    chunks: Floats
    alone: Floats
    per_kv: Floats
    longest: int
    error_p50: float
    error_p95: float

    @property
    def most_decodes(self) -> int:
        return int(self.counts[-1])


def fit_attention(batches: dict[Batch, float], tolerance: float) -> AttentionFit:
    """The curves; their knots lose at most `tolerance` of the measured decode times."""
    counts = np.array(sorted({decodes for chunk, _, decodes, _ in batches if chunk == 0}), np.float64)
    lengths = np.array(sorted({kv for chunk, _, _, kv in batches if chunk == 0}), np.float64)
    decode = np.array([_alone_over_kv(batches, int(count), lengths) for count in counts])
    chunks, alone, per_kv = _prefills(batches)
    excess = _excess(batches, chunks, alone, per_kv)
    cross = _cross(excess)
    mixed = _mixed(excess, cross, counts, lengths, decode)
    knots = few_knots(lengths, list(decode), tolerance, BESIDE_US)
    mixed_knots = few_knots(lengths, list(mixed), tolerance, BESIDE_US)
    fit = AttentionFit(
        counts=counts,
        kv=lengths[knots],
        decode=decode[:, knots],
        mixed_kv=lengths[mixed_knots],
        mixed=mixed[:, mixed_knots],
        cross=cross,
        chunks=chunks,
        alone=alone,
        per_kv=per_kv,
        longest=int(lengths[-1]),
        error_p50=0.0,
        error_p95=0.0,
    )
    keys = list(batches)
    fitted = np.array([predict(fit, batch) for batch in keys])
    p50, p95 = relative_errors(fitted, np.array([batches[batch] for batch in keys]))
    return replace(fit, error_p50=p50, error_p95=p95)


def predict(fit: AttentionFit, batch: Batch) -> float:
    """Microseconds of one layer for a batch, as the profile will interpolate it."""
    chunk, before, decodes, kv = batch
    time = 0.0
    if chunk > 0:
        time += float(np.interp(chunk, fit.chunks, fit.alone) + np.interp(chunk, fit.chunks, fit.per_kv) * before)
    if decodes > 0:
        at, curves = (fit.mixed_kv, fit.mixed) if chunk > 0 else (fit.kv, fit.decode)
        by_count = [np.interp(kv, at, curve) for curve in curves]
        time += float(np.interp(decodes, fit.counts, by_count)) + fit.cross * decodes * chunk
    return time


def _alone_over_kv(batches: dict[Batch, float], count: int, lengths: Floats) -> Floats:
    """Decodes alone at every length; lengths this count was not measured at lie on the line between neighbours."""
    points = sorted((kv, time) for (chunk, _, decodes, kv), time in batches.items() if chunk == 0 and decodes == count)
    at, times = (np.array(column, np.float64) for column in zip(*points, strict=True))
    inside = np.interp(lengths, at, times)
    slope = (times[-1] - times[-2]) / (at[-1] - at[-2])
    return rising(np.where(lengths > at[-1], times[-1] + slope * (lengths - at[-1]), inside))


def _prefills(batches: dict[Batch, float]) -> tuple[Floats, Floats, Floats]:
    """Per chunk, its time with no KV before it and what each KV token before it adds, least squares of the relative
    error through the former."""
    points: dict[int, dict[int, float]] = {}
    for (chunk, before, decodes, _), time in batches.items():
        if decodes == 0:
            points.setdefault(chunk, {})[before] = time
    chunks = sorted(points)
    alone, per_kv = [], []
    for chunk in chunks:
        curve = points[chunk]
        first = min(curve)
        further = np.array(sorted(curve), np.float64) - first
        times = np.array([curve[length] for length in sorted(curve)])
        slope = float(np.sum(further * (times - times[0]) / times**2) / np.sum((further / times) ** 2))
        alone.append(max(0.0, times[0] - max(0.0, slope) * first))
        per_kv.append(max(0.0, slope))
    return np.array(chunks, np.float64), rising(np.array(alone)), rising(np.array(per_kv))


def _excess(
    batches: dict[Batch, float], chunks: Floats, alone: Floats, per_kv: Floats
) -> dict[tuple[int, int], list[tuple[int, float]]]:
    """Per decodes and KV tokens: what mixed batches take beyond their prefill alone, with the prefill's tokens."""
    excess: dict[tuple[int, int], list[tuple[int, float]]] = {}
    for (chunk, before, decodes, kv), time in batches.items():
        if chunk > 0 and decodes > 0:
            own = batches.get((chunk, before, 0, 0))
            if own is None:
                own = float(np.interp(chunk, chunks, alone) + np.interp(chunk, chunks, per_kv) * before)
            excess.setdefault((decodes, kv), []).append((chunk, time - own))
    return excess


def _cross(excess: dict[tuple[int, int], list[tuple[int, float]]]) -> float:
    """Microseconds per decode and prefill token: the median over decodes and lengths of the rise from the smallest to
    the largest chunks (Theil 1950, on group medians)."""
    slopes = []
    for (decodes, _), points in excess.items():
        by_chunk: dict[int, list[float]] = {}
        for chunk, time in points:
            by_chunk.setdefault(chunk, []).append(time)
        if decodes >= FEW_DECODES and len(by_chunk) >= 3:
            at = sorted(by_chunk)
            medians = [float(np.median(by_chunk[chunk])) for chunk in at]
            rises = [
                (medians[right] - medians[left]) / (at[right] - at[left])
                for left in range(len(at))
                for right in range(left + 1, len(at))
            ]
            slopes.append(float(np.median(rises)) / decodes)
    return max(0.0, float(np.median(slopes))) if slopes else 0.0


def _mixed(
    excess: dict[tuple[int, int], list[tuple[int, float]]],
    cross: float,
    counts: Floats,
    lengths: Floats,
    decode: Floats,
) -> Floats:
    """Decode attention beside a prefill, `(counts, lengths)`. Lengths or counts not measured so take the ratio to
    decodes alone of the nearest that were; with no mixed batch at all, decodes alone."""
    ratio = np.full(decode.shape, np.nan)
    for row, count in enumerate(counts):
        for column, length in enumerate(lengths):
            points = excess.get((int(count), int(length)))
            if points:
                time = float(np.median([time - cross * count * chunk for chunk, time in points]))
                ratio[row, column] = max(0.0, time) / decode[row, column]
        known = ~np.isnan(ratio[row])
        if known.any():
            ratio[row] = np.interp(lengths, lengths[known], ratio[row, known])
        elif row > 0:
            ratio[row] = ratio[row - 1]
    ratio = np.where(np.isnan(ratio), 1.0, ratio)
    return np.array([rising(curve) for curve in ratio * decode])
