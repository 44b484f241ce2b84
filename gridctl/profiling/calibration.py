"""Calibration: step-time coefficients of a live engine, how well each is known, and what they were fitted on.

A client sees step times, not operators: `dense` holds a step's dense layers, sampling and host time together, and
attention is one slope per KV token of decodes and one per token pair of prefills. `request_us` is what a request costs
beyond its steps (HTTP, tokenizing, queueing), with the idle round trip already taken off; no step contains it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gridctl.resources.model import Architecture, Dtype
from gridctl.resources.profile import ChunkKnot, DecodeRow, FitError, ProfileRange, ProfileSpec

SIGMA_PER_MEDIAN = 1.4826
"""Standard deviation of a normal variable over the median of its absolute value."""
LEAST_STEP_PERCENT = 3.0
"""No profile is taken to be surer of a step than this: engines change from version to version."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A fitted value and the standard error of it."""

    value: float
    standard_error: float


@dataclass(frozen=True, slots=True)
class DenseKnot:
    """Time of a step of `tokens` tokens without attention, microseconds; linear between knots."""

    tokens: int
    us: Estimate


@dataclass(frozen=True, slots=True)
class Deviations:
    """Absolute relative deviations (1 = 100 %) of the fit on requests kept out of it; absent when there were none."""

    median: float
    p95: float
    count: int


@dataclass(frozen=True, slots=True)
class Calibration:
    """What one measurement says of an engine. Times are microseconds of one engine step unless named otherwise.

    `chunk_tokens` is the prefill chunk assumed in the fit; `valid` the largest step, batch and KV measured.
    """

    dense: tuple[DenseKnot, ...]
    kv_us_per_token: Estimate
    pair_us: Estimate
    request_us: Estimate
    chunk_tokens: int
    is_chunk_inferred: bool
    valid: ProfileRange
    itl: Deviations | None
    ttft: Deviations | None
    requests: int
    rounds_fitted: int
    notes: tuple[str, ...]

    def dense_knots(self) -> tuple[tuple[int, float], ...]:
        """`(tokens, µs)` by rising tokens."""
        return tuple((knot.tokens, round(knot.us.value, 3)) for knot in self.dense)

    def sample_knots(self) -> tuple[tuple[int, float], ...]:
        """Sampling cannot be told from the dense layers by a client: it is in `dense`."""
        return ((1, 0.0), (max(2, self.valid.sequences), 0.0))

    def decode_rows(self) -> tuple[DecodeRow, ...]:
        """Decode attention in proportion to the KV tokens read, for one sequence and for the largest batch."""
        longest = max(self.valid.kv_tokens, 2)
        return tuple(
            DecodeRow(
                sequences=count,
                kv=((1, round(self.kv_us_per_token.value * count, 6)),
                    (longest, round(self.kv_us_per_token.value * count * longest, 3))),
            )
            for count in sorted({1, self.valid.sequences})
        )  # fmt: skip

    def chunk_knots(self) -> tuple[ChunkKnot, ...]:
        """Prefill attention of a chunk: its own causal pairs, and a pair with each KV token before it.

        c tokens after k attend c·k + c(c + 1)/2 pairs; between knots a fourth of an octave apart
        a line is within 0.8 % of that square, ((r − 1)/(r + 1))² for a ratio r.
        """
        most = self.valid.tokens
        sizes = sorted({min(most, round(2 ** (step / 4))) for step in range(4 * most.bit_length() + 1)})
        pair = self.pair_us.value
        return tuple(
            ChunkKnot(tokens=c, us=round(pair * c * (c + 1) / 2, 3), us_per_kv_token=round(pair * c, 6)) for c in sizes
        )

    def fit_error(self) -> FitError:
        """Deviations of held-out requests, percent: time between tokens as `dense`, of the first token as `attention`,
        the larger median's standard deviation as `step`."""
        itl, ttft = self.itl or Deviations(0.0, 0.0, 0), self.ttft or Deviations(0.0, 0.0, 0)
        step = SIGMA_PER_MEDIAN * max(itl.median, ttft.median) * 100.0
        return FitError(
            dense_p50=_percent(itl.median),
            dense_p95=_percent(itl.p95),
            attention_p50=_percent(ttft.median),
            attention_p95=_percent(ttft.p95),
            step=min(1000.0, round(max(LEAST_STEP_PERCENT, step), 2)),
        )

    def profile(
        self,
        *,
        gpu: str,
        architecture: Architecture,
        source: str,
        dtype: Dtype = "bf16",
        kv_cache_dtype: Literal["auto", "fp8"] = "auto",
        tensor_parallel: int = 1,
        data_parallel: int = 1,
    ) -> ProfileSpec:
        """The profile of the engine, of which the operator says what a client cannot see. Times per request are in no
        step, so `source` should state `request_us`."""
        return ProfileSpec(
            gpu=gpu,
            architecture=architecture,
            dtype=dtype,
            kv_cache_dtype=kv_cache_dtype,
            tensor_parallel=tensor_parallel,
            data_parallel=data_parallel,
            method="endpoint",
            source=source,
            valid=self.valid,
            error=self.fit_error(),
            dense=self.dense_knots(),
            sample=self.sample_knots(),
            decode=self.decode_rows(),
            chunk=self.chunk_knots(),
        )


def _percent(share: float) -> float:
    return min(1000.0, round(share * 100.0, 2))
