"""Counting: one finished request into a worker's share of the board. The meter's kernel: numbers in, increments out.

`known` is this worker's own memory: the REQUEST being counted, the bounds of all histograms, then for every workload
row what its clients wait unseen and its objectives. `words` is the worker's share, laid out by `layout`. Every index
is checked here or comes from `meter`, every number is brought into range: a broken clock may spoil a sum, never a row.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gridctl.kernels import compiled, fused
from gridctl.signals.buckets import CELLS, COARSE_OVER, EDGES, OVER, STEP
from gridctl.signals.finished import CANCELLED, COMPLETED, METRICS
from gridctl.signals.layout import (
    BAD_AT,
    DECISION,
    E2E,
    ENGINE_WORDS,
    GENAI,
    GENAI_EDGES,
    GENAI_HISTOGRAM_WORDS,
    GENAI_SUM_AT,
    GOOD_AT,
    HISTOGRAM_WORDS,
    MODEL_WORDS,
    MOST_OBJECTIVES,
    PLACE_HISTOGRAM_WORDS,
    PLACE_SUM_AT,
    PLACE_WORDS,
    REASON_WORDS,
    SUM_AT,
    TOTAL_AT,
    TPOT,
    TTFT,
    WITHIN_AT,
    WORKLOAD_WORDS,
)

Words = NDArray[np.int64]

REQUEST = (
    "workload",
    "backend",
    "outcome",
    "verdict",  # GOOD, BAD, else 0
    "misses",  # a bit for each of METRICS
    "reason",
    "phase",
    "endpoint",
    "attempts",
    "is_stream",
    "is_estimated",
    "model",
    "operation",
    "prompt_tokens",
    "cached_tokens",
    "output_tokens",
    "nano_usd",
    "arrival_ns",
    "decided_ns",
    "first_token_ns",
    "last_token_ns",
    "end_ns",
    "predicted_ttft_ns",
    "predicted_tpot_ns",
    "engines_at",
    "backends",
    "reasons_at",
    "phases_at",
    "endpoints_at",
    "models_at",
    "places_at",
)
"""Words of the request, then where the layout begins its parts."""
(
    WORKLOAD,
    BACKEND,
    OUTCOME,
    VERDICT,
    MISSES,
    REASON,
    PHASE,
    ENDPOINT,
    ATTEMPTS,
    IS_STREAM,
    IS_ESTIMATED,
    MODEL,
    OPERATION,
    PROMPT,
    CACHED,
    OUTPUT,
    NANO_USD,
    ARRIVAL,
    DECIDED,
    FIRST_TOKEN,
    LAST_TOKEN,
    END,
    PREDICTED_TTFT,
    PREDICTED_TPOT,
    ENGINES_AT,
    BACKENDS,
    REASONS_AT,
    PHASES_AT,
    ENDPOINTS_AT,
    MODELS_AT,
    PLACES_AT,
) = range(len(REQUEST))
GOOD, BAD = 1, 2

EDGES_AT = 32
GENAI_AT = EDGES_AT + len(EDGES)
GENAI_TABLE = 16
"""Bounds there is room for in each of GENAI's histograms; unused ones are higher than any number."""
ROWS_AT = GENAI_AT + len(GENAI) * GENAI_TABLE
OBJECTIVE_KINDS = 3
ROW_WORDS = 1 + OBJECTIVE_KINDS * MOST_OBJECTIVES
"""Of each workload: unseen_ns, then thresholds in nanoseconds of TTFT, TPOT, E2E; −1 where there is none."""
NO_THRESHOLD = -1

LONGEST_NS = 1 << 52
"""52 days: a duration over that is a broken clock's."""
LATEST_NS = 1 << 61
MOST_TOKENS = 1 << 40
NS_PER_US = 1000
DURATIONS, FAILED_DURATIONS, TTFTS, TPOTS, INPUTS, OUTPUTS = range(len(GENAI))

_CACHED_TOKENS, _PROMPT_TOKENS = TOTAL_AT["cached_tokens"], TOTAL_AT["prompt_tokens"]
_OUTPUT_TOKENS, _ESTIMATED = TOTAL_AT["output_tokens"], TOTAL_AT["estimated_tokens"]
_NANO_USD, _MISSED = TOTAL_AT["nano_usd"], TOTAL_AT[f"missed_{METRICS[0]}"]
_RETRIES, _STREAMS = TOTAL_AT["retries"], TOTAL_AT["streams"]
_TTFT_PREDICTIONS, _TPOT_PREDICTIONS = TOTAL_AT["ttft_predictions"], TOTAL_AT["tpot_predictions"]
_METRICS = len(METRICS)


def tables(workloads: int) -> Words:
    """A worker's own memory, its bounds filled in; no workload has an objective yet."""
    known = np.full(ROWS_AT + workloads * ROW_WORDS, NO_THRESHOLD, np.int64)
    known[EDGES_AT:GENAI_AT] = EDGES
    known[GENAI_AT:ROWS_AT] = np.iinfo(np.int64).max
    for kind, edges in enumerate(GENAI_EDGES):
        known[GENAI_AT + kind * GENAI_TABLE :][: len(edges)] = edges
    return known


@fused
def _bounded(ns: int) -> int:
    return min(max(ns, 0), LONGEST_NS)


@fused
def _between(start_ns: int, end_ns: int) -> int:
    """From one moment to another, whatever clocks say."""
    return _bounded(min(max(end_ns, 0), LATEST_NS) - min(max(start_ns, 0), LATEST_NS))


@fused
def _above(table: Words, start: int, count: int, value: int) -> int:
    """How many of the `count` rising bounds from `start` the value is over."""
    low, high = 0, count
    while low < high:
        middle = (low + high) >> 1
        if table[start + middle] < value:
            low = middle + 1
        else:
            high = middle
    return int(low)


@fused
def _count_time(words: Words, known: Words, row: int, kind: int, ns: int) -> None:
    """A duration into the workload's histogram of that kind, and beside the objectives that share its cell."""
    at = row * WORKLOAD_WORDS + kind * HISTOGRAM_WORDS
    cell = _above(known, EDGES_AT, CELLS - 1, ns)
    words[at + cell] += 1
    words[at + SUM_AT] += (ns + NS_PER_US // 2) // NS_PER_US
    if kind >= OBJECTIVE_KINDS:
        return
    thresholds = ROWS_AT + row * ROW_WORDS + 1 + kind * MOST_OBJECTIVES
    for index in range(MOST_OBJECTIVES):
        threshold = known[thresholds + index]
        if ns <= threshold and _above(known, EDGES_AT, CELLS - 1, threshold) == cell:
            words[at + WITHIN_AT + index] += 1


@fused
def _count_place(words: Words, known: Words, kind: int, ns: int) -> None:
    """A TTFT or a TPOT into the coarse histogram of the engine that it came from."""
    if known[BACKEND] >= known[BACKENDS]:
        return
    at = known[PLACES_AT] + known[BACKEND] * PLACE_WORDS + kind * PLACE_HISTOGRAM_WORDS
    cell = _above(known, EDGES_AT, CELLS - 1, ns)
    words[at + (COARSE_OVER if cell >= OVER else (cell + STEP - 1) // STEP)] += 1
    words[at + PLACE_SUM_AT] += (ns + NS_PER_US // 2) // NS_PER_US


@fused
def _count_edges(words: Words, known: Words, model: int, kind: int, value: int) -> None:
    """A number into one of GENAI's histograms of a model and operation."""
    at = model + kind * GENAI_HISTOGRAM_WORDS
    words[at + _above(known, GENAI_AT + kind * GENAI_TABLE, GENAI_TABLE, value)] += 1
    words[at + GENAI_SUM_AT] += value


@fused
def _up_to_us(ns: int) -> int:
    """Upwards, so that what is over a bound by a nanosecond is over it."""
    return (ns + NS_PER_US - 1) // NS_PER_US


@fused
def _count_error(words: Words, at: int, predicted_ns: int, ns: int) -> None:
    """How far a prediction was off: how many there were, the sum, the sum of sizes."""
    if predicted_ns <= 0:
        return
    error = (_bounded(predicted_ns) - ns) // NS_PER_US
    words[at] += 1
    words[at + 1] += error
    words[at + 2] += abs(error)


@fused
def _count_words(words: Words, known: Words) -> None:
    """How it ended, by engine and by word."""
    row, outcome = known[WORKLOAD], known[OUTCOME]
    engine = known[ENGINES_AT] + (row * (known[BACKENDS] + 1) + known[BACKEND]) * ENGINE_WORDS
    words[engine + outcome] += 1
    if known[VERDICT] == GOOD:
        words[engine + GOOD_AT] += 1
    elif known[VERDICT] == BAD:
        words[engine + BAD_AT] += 1
    at = row * WORKLOAD_WORDS
    if known[MISSES] != 0:
        for metric in range(_METRICS):
            if known[MISSES] & (1 << metric):
                words[at + _MISSED + metric] += 1
    if outcome != COMPLETED:
        words[known[REASONS_AT] + outcome * REASON_WORDS + known[REASON]] += 1
        if outcome == CANCELLED:
            words[known[PHASES_AT] + known[PHASE]] += 1
    words[known[ENDPOINTS_AT] + known[ENDPOINT]] += 1
    words[at + _RETRIES] += min(max(known[ATTEMPTS] - 1, 0), MOST_TOKENS)
    words[at + _STREAMS] += known[IS_STREAM]


@fused
def _count_amounts(words: Words, known: Words, model: int) -> None:
    """Tokens and dollars."""
    at = known[WORKLOAD] * WORKLOAD_WORDS
    prompt, output = min(known[PROMPT], MOST_TOKENS), min(known[OUTPUT], MOST_TOKENS)
    if prompt > 0:
        words[at + _PROMPT_TOKENS] += prompt
        words[at + _CACHED_TOKENS] += min(max(known[CACHED], 0), prompt)
        _count_edges(words, known, model, INPUTS, prompt)
    if output > 0:
        words[at + _OUTPUT_TOKENS] += output
        words[at + _ESTIMATED] += output * known[IS_ESTIMATED]
        _count_edges(words, known, model, OUTPUTS, output)
    words[at + _NANO_USD] += known[NANO_USD]


@fused
def _count_tokens_times(words: Words, known: Words, model: int, unseen_ns: int) -> None:
    """TTFT and, of two tokens or more, TPOT."""
    row = known[WORKLOAD]
    at = row * WORKLOAD_WORDS
    first = _between(known[ARRIVAL], known[FIRST_TOKEN])
    _count_time(words, known, row, TTFT, first + unseen_ns)
    _count_place(words, known, TTFT, first + unseen_ns)
    _count_edges(words, known, model, TTFTS, _up_to_us(first))
    _count_error(words, at + _TTFT_PREDICTIONS, known[PREDICTED_TTFT], first + unseen_ns)
    if known[OUTPUT] >= 2 and known[LAST_TOKEN] >= known[FIRST_TOKEN]:
        gap = _between(known[FIRST_TOKEN], known[LAST_TOKEN]) // (known[OUTPUT] - 1)
        _count_time(words, known, row, TPOT, gap)
        _count_place(words, known, TPOT, gap)
        _count_edges(words, known, model, TPOTS, _up_to_us(gap))
        _count_error(words, at + _TPOT_PREDICTIONS, known[PREDICTED_TPOT], gap)


@compiled
def count(words: Any, known: Any) -> None:
    """Count the request in `known`. One that did not come to its end counts with the times that it reached."""
    row, arrival = known[WORKLOAD], known[ARRIVAL]
    model = known[MODELS_AT] + known[MODEL] * MODEL_WORDS
    model += known[OPERATION] * len(GENAI) * GENAI_HISTOGRAM_WORDS
    unseen_ns = _bounded(known[ROWS_AT + row * ROW_WORDS])
    _count_words(words, known)
    _count_amounts(words, known, model)
    if known[DECIDED] >= arrival:
        _count_time(words, known, row, DECISION, _between(arrival, known[DECIDED]))
    if known[FIRST_TOKEN] >= 0:
        _count_tokens_times(words, known, model, unseen_ns)
    if known[END] >= 0:
        whole = _between(arrival, known[END])
        if known[OUTCOME] == COMPLETED:
            _count_time(words, known, row, E2E, whole + unseen_ns)
            _count_edges(words, known, model, DURATIONS, _up_to_us(whole))
        else:
            _count_edges(words, known, model, FAILED_DURATIONS, _up_to_us(whole))
