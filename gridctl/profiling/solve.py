"""Solve: the step-time coefficients that explain what a load on a live engine measured.

The model of a step: dense(T tokens) + kv · (KV tokens its decodes read) + pair · (token pairs its prefill attends),
with dense rising and linear between knots; of a lone request's time to first token: the steps of its prompt's chunks,
plus one time per request. A decode row is one step with T = its sequences. All coefficients are fitted together, none
negative, minimising absolute relative deviations.

What identifies what: batches tell dense at small T and, by their contexts, kv; lone prompts tell dense at large T. The
time per request is told from dense because no knot stands between the largest batch and the second prompt length. The
pairs are told from dense because, beyond `KNEE_TOKENS`, where weights are read no slower than multiplied (roofline:
some 300 tokens on current accelerators), dense is one line.

Standard errors: wild cluster bootstrap (Cameron, Gelbach & Miller 2008): the deviations of each round, whose requests
shared their steps, change sign together; of made-up engines they were the errors made within a factor of two, the pair
term's the least sure. Rounds held out of the fit give its error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gridctl.errors import InputError, UnreachableError
from gridctl.profiling.calibration import Calibration, DenseKnot, Deviations, Estimate
from gridctl.profiling.nonnegative import nonnegative_least_deviations
from gridctl.profiling.observation import DecodeRow, Observations, PrefillRow, decode_rows, prefill_rows
from gridctl.resources.profile import ProfileRange

Floats = NDArray[np.float64]

KNEE_TOKENS = 512
BOOTSTRAPS = 60
LEAST_LENGTHS = 3
LEAST_ROWS_PER_COEFFICIENT = 2
CHUNK_CANDIDATES = (16384, 8192, 4096, 2048, 1024, 512)
CHUNK_GAIN = 0.9
"""A smaller prefill chunk is believed in when it leaves less than this share of the deviation of a larger one."""
FLAT_GROWTH = 1.05
"""A time to first token that grows less than this from the shortest to a prompt 16 times as long is suspicious."""
POOR_FIT = 0.15
"""A median deviation on held-out requests above this is said aloud."""
US_PER_S = 1e6


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows of a fit."""

    prefills: tuple[PrefillRow, ...]
    decodes: tuple[DecodeRow, ...]

    @property
    def seconds(self) -> Floats:
        return np.array([*(row.seconds for row in self.prefills), *(row.seconds for row in self.decodes)])

    @property
    def rounds(self) -> NDArray[np.int64]:
        return np.array([*(row.round for row in self.prefills), *(row.round for row in self.decodes)], np.int64)

    def select(self, held_out: bool) -> _Rows:
        """The rows that are, or are not, held out of the fit."""
        return _Rows(
            tuple(row for row in self.prefills if row.held_out == held_out),
            tuple(row for row in self.decodes if row.held_out == held_out),
        )


def solve(observations: Observations, chunk_tokens: int | None = None, seed: int = 0) -> Calibration:
    """Fit the coefficients. `chunk_tokens` is the engine's token budget a step; without it, the likeliest is taken.

    Raises UnreachableError when the peer died before enough was measured, InputError when what came cannot be fitted.
    """
    rows = _Rows(tuple(prefill_rows(observations)), tuple(decode_rows(observations)))
    fitted, held_out = rows.select(False), rows.select(True)
    _require_enough(observations, fitted)
    chunk, is_inferred = (chunk_tokens, False) if chunk_tokens else (_likely_chunk(fitted), True)
    knots = _knots(fitted, chunk)
    solution = _fit(fitted, knots, chunk)
    errors = _standard_errors(fitted, knots, chunk, solution, seed)
    dense = _cumulated(knots) @ solution[: len(knots)]
    dense_errors = errors[: len(knots)]
    kv, pair, request = (
        Estimate(float(value) * US_PER_S, float(error) * US_PER_S)
        for value, error in zip(solution[len(knots) :], errors[len(knots) :], strict=True)
    )
    itl = _deviations(_Rows((), held_out.decodes), knots, chunk, solution)
    ttft = _deviations(_Rows(held_out.prefills, ()), knots, chunk, solution)
    return Calibration(
        dense=tuple(
            DenseKnot(knot, Estimate(float(value) * US_PER_S, float(error) * US_PER_S))
            for knot, value, error in zip(knots, dense, dense_errors, strict=True)
        ),
        kv_us_per_token=kv,
        pair_us=pair,
        request_us=request,
        chunk_tokens=chunk,
        is_chunk_inferred=is_inferred,
        valid=_valid_range(rows, chunk),
        itl=itl,
        ttft=ttft,
        requests=observations.requests,
        rounds_fitted=len(set(fitted.rounds.tolist())),
        notes=(*observations.notes, *_doubts(observations, rows, kv), *_misses(itl, ttft)),
    )


def _require_enough(observations: Observations, fitted: _Rows) -> None:
    """Refuse a fit that would be mostly guesswork."""
    lengths = len(_spread([row.tokens for row in fitted.prefills]))
    if lengths >= LEAST_LENGTHS and fitted.decodes:
        coefficients = len(_knots(fitted, max(row.tokens for row in fitted.prefills))) + 3
        if len(fitted.seconds) >= LEAST_ROWS_PER_COEFFICIENT * coefficients:
            return
    measured = (
        f"{observations.requests} requests answered, {len(fitted.prefills)} prefills of {lengths} lengths and "
        f"{len(fitted.decodes)} decode batches to fit"
    )
    if observations.stopped is not None:
        raise UnreachableError(
            f"the endpoint died before enough was measured: {observations.stopped} ({measured})",
            where=observations.endpoint,
            fix="start the engine again and calibrate anew",
        )
    fix = "raise --duration and --requests"
    if observations.requests and not fitted.decodes:
        fix = "measure the engine itself: what answers here sends tokens in one burst, or one token only"
    raise InputError(f"too little was measured for a fit: {measured}", where=observations.endpoint, fix=fix)


def _knots(fitted: _Rows, chunk: int) -> tuple[int, ...]:
    """Where dense may bend: batch sizes seen, prompt lengths up to the knee but the shortest, and the longest step."""
    batches = [row.sequences for row in fitted.decodes]
    lengths = _spread([min(row.tokens, chunk) for row in fitted.prefills if row.tokens > max(batches)])
    inner = [length for length in lengths[1:-1] if length <= KNEE_TOKENS]
    return tuple(sorted({*_spread(batches), max(batches), *inner, *lengths[-1:]}))


def _spread(counts: Sequence[int]) -> list[int]:
    """The counts, less those within a quarter of a smaller one: prompts of as many words differ a little in tokens,
    and batches pass through every size as their requests end."""
    spread: list[int] = []
    for count in sorted(set(counts)):
        if not spread or count > spread[-1] * 1.25:
            spread.append(count)
    return spread


def _hats(knots: tuple[int, ...], tokens: Floats) -> Floats:
    """`(steps, knots)`: the share of dense at the first knot (1), and of each rise between knots, in a step of
    `tokens`. Below the first knot dense is flat, beyond the last it goes on rising."""
    edges = np.array(knots, np.float64)
    rises = (tokens[:, None] - edges[:-1]) / np.diff(edges)
    rises[:, :-1] = np.minimum(rises[:, :-1], 1.0)
    return np.hstack([np.ones((len(tokens), 1)), np.maximum(rises, 0.0)])


def _cumulated(knots: tuple[int, ...]) -> Floats:
    """From first value and rises to values at the knots."""
    return np.tril(np.ones((len(knots), len(knots))))


def _matrix(rows: _Rows, knots: tuple[int, ...], chunk: int) -> Floats:
    """`(rows, knots + 3)`: what each row holds of dense, KV tokens, token pairs and requests."""
    matrix = np.zeros((len(rows.prefills) + len(rows.decodes), len(knots) + 3))
    for line, row in zip(matrix, rows.prefills, strict=False):
        whole, rest = divmod(row.tokens, chunk)
        steps = np.array([float(chunk)] * whole + ([float(rest)] if rest else []))
        line[: len(knots)] = _hats(knots, steps).sum(axis=0)
        line[-2] = row.tokens * row.cached + row.tokens * (row.tokens + 1) / 2
        line[-1] = 1.0
    decodes = matrix[len(rows.prefills) :]
    if rows.decodes:
        decodes[:, : len(knots)] = _hats(knots, np.array([float(row.sequences) for row in rows.decodes]))
        decodes[:, -3] = [row.kv_tokens for row in rows.decodes]
    return matrix


def _fit(rows: _Rows, knots: tuple[int, ...], chunk: int) -> Floats:
    """The coefficients, seconds: dense at the first knot, its rises, then per KV token, per pair and per request."""
    measured = rows.seconds
    return nonnegative_least_deviations(_matrix(rows, knots, chunk) / measured[:, None], np.ones(len(measured)))


def _relative(rows: _Rows, knots: tuple[int, ...], chunk: int, solution: Floats) -> Floats:
    """Predicted over measured, less one."""
    deviations: Floats = _matrix(rows, knots, chunk) @ solution / rows.seconds - 1.0
    return deviations


def _likely_chunk(rows: _Rows) -> int:
    """The prefill chunk that explains the long prompts best; one step for all unless another is clearly better."""
    longest = max(row.tokens for row in rows.prefills)

    def loss(chunk: int) -> float:
        knots = _knots(rows, chunk)
        return float(np.abs(_relative(rows, knots, chunk, _fit(rows, knots, chunk))).sum())

    best, least = longest, loss(longest)
    for candidate in CHUNK_CANDIDATES:
        if candidate < longest and (left := loss(candidate)) < least * CHUNK_GAIN:
            best, least = candidate, left
    return best


def _standard_errors(rows: _Rows, knots: tuple[int, ...], chunk: int, solution: Floats, seed: int) -> Floats:
    """Standard errors of dense at the knots, and of the three other coefficients."""
    random = np.random.default_rng(seed)
    matrix = _matrix(rows, knots, chunk) / rows.seconds[:, None]
    predicted = matrix @ solution
    clusters, member = np.unique(rows.rounds, return_inverse=True)
    # deviations left by a fit are too small by the freedom it used up
    freedom = max(1, len(clusters) - int(np.count_nonzero(solution)))
    deviations = (1.0 - predicted) * np.sqrt(len(clusters) / freedom)
    cumulated = _cumulated(knots)
    draws = np.empty((BOOTSTRAPS, len(solution)))
    for draw in draws:
        signs = random.choice((-1.0, 1.0), len(clusters))[member]
        again = nonnegative_least_deviations(matrix, predicted + signs * deviations, solution)
        draw[: len(knots)] = cumulated @ again[: len(knots)]
        draw[len(knots) :] = again[len(knots) :]
    errors: Floats = draws.std(axis=0, ddof=1)
    return errors


def _deviations(rows: _Rows, knots: tuple[int, ...], chunk: int, solution: Floats) -> Deviations | None:
    """How far the fit is from rows it has not seen."""
    if not len(rows.seconds):
        return None
    off = np.abs(_relative(rows, knots, chunk, solution))
    return Deviations(float(np.median(off)), float(np.quantile(off, 0.95)), len(off))


def _valid_range(rows: _Rows, chunk: int) -> ProfileRange:
    """The largest step, batch and KV of one sequence that were measured."""
    prompts = [row.tokens + row.cached for row in rows.prefills]
    kv = [row.kv_tokens / row.sequences for row in rows.decodes]
    return ProfileRange(
        tokens=min(chunk, max(row.tokens for row in rows.prefills)),
        sequences=max(row.sequences for row in rows.decodes),
        kv_tokens=int(max([*prompts, *kv])),
    )


def _doubts(observations: Observations, rows: _Rows, kv: Estimate) -> list[str]:
    """What an operator should know before believing the fit."""
    doubts = []
    if observations.stopped is not None:
        doubts.append(f"the load ended early: {observations.stopped}")
    if observations.is_estimated:
        doubts.append("the engine states no usage in its stream: token counts are estimates")
    shortest = min(row.tokens for row in rows.prefills)
    longest = max(row.tokens for row in rows.prefills)
    short = np.median([row.seconds for row in rows.prefills if row.tokens <= 1.125 * shortest])
    long = np.median([row.seconds for row in rows.prefills if row.tokens >= longest / 1.125])
    if longest >= 16 * shortest and long < FLAT_GROWTH * short:
        doubts.append(
            f"the first token of {longest} prompt tokens comes as soon as that of {shortest}: "
            "this does not look like an engine but like a cache in front of one, or the model is tiny"
        )
    asked = max((one.plan.streams for one in observations.rounds), default=1)
    if asked > 1 and (largest := max(row.sequences for row in rows.decodes)) < asked:
        doubts.append(f"of {asked} requests at once the engine decoded {largest} together: it queues the others")
    if kv.value == 0.0:
        doubts.append("steps do not grow with KV tokens as far as measured: longer contexts would tell")
    return doubts


def _misses(itl: Deviations | None, ttft: Deviations | None) -> list[str]:
    """Notes on a fit that is poor, or that nothing was kept out of."""
    misses = []
    for name, found in (("times between tokens", itl), ("times to the first token", ttft)):
        if found is None:
            misses.append(f"no {name} were kept out of the fit: its error is unknown; raise --duration")
        elif found.median > POOR_FIT:
            misses.append(
                f"{name} it has not seen are {found.median:.0%} off (median): "
                "measure longer, and while nothing else uses the engine or this machine"
            )
    return misses
