"""Step-time profiles: how long one engine step takes, as integer tables the twin can add up in closed form.

A step of `n` decodes that read `K` KV tokens in all, and of `C` prefill tokens that attend `P` token pairs, takes

    dense[n + C] + sample[S] + attention(n, K, C, P)        picoseconds

    attention = decode[n](K)                                              without prefill
              = mixed[n](K) + cross · n · C + chunk[C] + chunk_kv[C] · p   with it; p = (P − C(C + 1)/2) / C

where `S` sequences are sampled and `p` is the mean number of KV tokens that lie before the prefill. `dense`, `sample`
and `chunk` are tables over every count up to the engine's limits, so any measured shape fits. `decode` and `mixed`
are piecewise linear in `K` for every `n`, which keeps the sum over a run of decode steps a polynomial. Kernels that
hold a prefill read the decodes' KV without splitting it, hence `mixed`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gridctl.resources import DecodeRow, ProfileSpec
from gridctl.units import PS_PER_US

if TYPE_CHECKING:
    from gridctl.kernels import Records

FAR = np.int64(1) << 50
"""A KV-token count no engine reaches: the end of the last segment."""

KV_SEGMENT = np.dtype([("knot", np.int64), ("base_ps", np.int64), ("slope_ps", np.int64)])

KvRow = tuple[tuple[int, int, int], ...]
"""`(knot_tokens, base_ps, slope_ps_per_token)` per segment, by rising knot, the first at 0."""


@dataclass(frozen=True, slots=True)
class StepProfile:
    """One engine's step times. `dense_ps`, `chunk_ps` and `chunk_kv_ps` have max_num_batched_tokens + 1 entries,
    `sample_ps` max_num_seqs + 1. `decode` and `mixed` hold a row per number of decodes; the last serves all above it.

    `source` says where the numbers come from, `sigma` what share (standard deviation) a step time may be off by,
    `longest_kv` how many KV tokens of a sequence were measured; 0 where nothing was.
    """

    dense_ps: NDArray[np.int64]
    sample_ps: NDArray[np.int64]
    decode: tuple[KvRow, ...]
    mixed: tuple[KvRow, ...]
    cross_ps: int
    chunk_ps: NDArray[np.int64]
    chunk_kv_ps: NDArray[np.int64]
    source: str
    sigma: float = 0.05
    longest_kv: int = 0


class ProfileTables(NamedTuple):
    """All profiles of a fleet, stacked: `(n_profiles, …)` int64, padded with their last entry. `decode` and `mixed`
    are records by profile, decodes and segment, each row ended by one whose knot no engine reaches. `pair_fs`,
    femtoseconds per prefill token pair in full chunks, is for forecasts."""

    dense_ps: NDArray[np.int64]
    sample_ps: NDArray[np.int64]
    decode: Records
    mixed: Records
    cross_ps: NDArray[np.int64]
    chunk_ps: NDArray[np.int64]
    chunk_kv_ps: NDArray[np.int64]
    pair_fs: NDArray[np.int64]


def picoseconds(microseconds: NDArray[np.float64]) -> NDArray[np.int64]:
    """Rounded to whole picoseconds."""
    return np.rint(microseconds * PS_PER_US).astype(np.int64)


def extended(at: NDArray[np.float64], knots: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Linear interpolation between knots; beyond the last one the last segment goes on, before the first it is flat."""
    inside = np.interp(at, knots, values)
    if len(knots) < 2:
        return inside
    slope = max(0.0, (values[-1] - values[-2]) / (knots[-1] - knots[-2]))
    return np.where(at > knots[-1], values[-1] + slope * (at - knots[-1]), inside)


def _row(decodes: int, knots: NDArray[np.float64], microseconds: NDArray[np.float64]) -> KvRow:
    """Segments over the KV tokens of all `decodes` together, from a curve over the tokens of each."""
    times = picoseconds(microseconds).tolist()
    totals = np.rint(knots * decodes).astype(np.int64).tolist()
    if len(totals) == 1:
        return ((0, times[0], 0),)
    slopes = [
        max(0, round((times[right] - times[right - 1]) / (totals[right] - totals[right - 1])))
        for right in range(1, len(totals))
    ]
    return tuple(zip(totals, times, slopes, strict=False))


def kv_rows(rows: tuple[DecodeRow, ...], sequences: int) -> tuple[KvRow, ...]:
    """A row for every number of decodes up to `sequences`, between measured ones at the same tokens per sequence."""
    knots = np.array(sorted({0} | {tokens for row in rows for tokens, _ in row.kv}), np.float64)
    counts = np.array([row.sequences for row in rows], np.float64)
    curves = np.array([_curve(row, knots) for row in rows])
    decodes = np.arange(1, sequences + 1)
    at = np.stack([extended(decodes.astype(np.float64), counts, curve) for curve in curves.T], axis=1)
    none: KvRow = ((0, 0, 0),)
    return (none, *(_row(count, knots, times) for count, times in zip(decodes.tolist(), at, strict=True)))


def _curve(row: DecodeRow, knots: NDArray[np.float64]) -> NDArray[np.float64]:
    tokens, times = (np.array(column, np.float64) for column in zip(*row.kv, strict=True))
    return extended(knots, tokens, times)


def profile_from(spec: ProfileSpec, *, tokens: int, sequences: int, source: str) -> StepProfile:
    """The tables of a measured profile for an engine of these limits; beyond its range its last slopes go on."""
    counts = np.arange(tokens + 1, dtype=np.float64)
    knots = np.array([knot.tokens for knot in spec.chunk], np.float64)
    chunk = extended(counts, knots, np.array([knot.us for knot in spec.chunk]))
    chunk_kv = extended(counts, knots, np.array([knot.us_per_kv_token for knot in spec.chunk]))
    chunk[0] = chunk_kv[0] = 0.0
    dense = extended(counts, *(np.array(column, np.float64) for column in zip(*spec.dense, strict=True)))
    sampled = np.arange(sequences + 1, dtype=np.float64)
    sample = extended(sampled, *(np.array(column, np.float64) for column in zip(*spec.sample, strict=True)))
    sample[0] = 0.0
    decode = kv_rows(spec.decode, sequences)
    return StepProfile(
        dense_ps=picoseconds(dense),
        sample_ps=picoseconds(sample),
        decode=decode,
        mixed=kv_rows(spec.mixed, sequences) if spec.mixed else decode,
        cross_ps=round(spec.cross_ns * 1000),
        chunk_ps=picoseconds(chunk),
        chunk_kv_ps=picoseconds(chunk_kv),
        source=source,
        sigma=spec.error.step / 100,
        longest_kv=spec.valid.kv_tokens,
    )


def _stack(arrays: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Rows of one length, each padded with its last entry."""
    width = max((len(array) for array in arrays), default=1)
    stacked = np.zeros((max(1, len(arrays)), width), np.int64)
    for row, array in enumerate(arrays):
        stacked[row, : len(array)] = array
        stacked[row, len(array) :] = array[-1]
    return stacked


def _stack_rows(profiles: list[tuple[KvRow, ...]], decodes: int) -> Records:
    segments = max((len(row) for rows in profiles for row in rows), default=1)
    stacked = np.zeros((max(1, len(profiles)), decodes, segments + 1), KV_SEGMENT).view(np.recarray)
    stacked.knot = FAR
    for number, rows in enumerate(profiles):
        for count in range(decodes):
            row = rows[min(count, len(rows) - 1)]
            stacked[number, count, : len(row)] = list(row)
    return stacked


def stack_profiles(profiles: list[StepProfile]) -> ProfileTables:
    """Pad and stack profiles into the arrays the kernels read."""
    for profile in profiles:
        assert profile.dense_ps[1:].min(initial=1) > 0, "a step that takes no time would never end"
    sample = _stack([profile.sample_ps for profile in profiles])
    decodes = max(2, sample.shape[1])
    chunk_kv = _stack([profile.chunk_kv_ps for profile in profiles])
    return ProfileTables(
        dense_ps=_stack([profile.dense_ps for profile in profiles]),
        sample_ps=sample,
        decode=_stack_rows([profile.decode for profile in profiles], decodes),
        mixed=_stack_rows([profile.mixed for profile in profiles], decodes),
        cross_ps=np.array([profile.cross_ps for profile in profiles] or [0], np.int64),
        chunk_ps=_stack([profile.chunk_ps for profile in profiles]),
        chunk_kv_ps=chunk_kv,
        pair_fs=chunk_kv[:, -1] * 1000 // max(1, chunk_kv.shape[1] - 1),
    )
