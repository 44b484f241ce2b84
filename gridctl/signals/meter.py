"""Meter: counts finished requests into a worker's share of the board. Two microseconds each, no lock, no allocation.

Only this worker writes its share, whole words at a time; a worker that takes a dead one's place goes on from its
counts. A name that the directory does not know is counted as `other`, an unknown outcome as `failed`; a number that
cannot be (negative, absurd, not a number) is brought into range: counting never fails a request.
Which word counts what: `layout`. Which request counts where: `counting`.
"""

from __future__ import annotations

import struct
from typing import Final

import numpy as np

from gridctl.errors import InputError
from gridctl.kernels import direct
from gridctl.signals.board import Board
from gridctl.signals.counting import (
    BAD,
    ENGINES_AT,
    GOOD,
    NO_THRESHOLD,
    OBJECTIVE_KINDS,
    REQUEST,
    ROW_WORDS,
    ROWS_AT,
    count,
    tables,
)
from gridctl.signals.directory import OTHER_ROW
from gridctl.signals.finished import ENDPOINTS, FAILED, METRICS, OTHER, OUTCOMES, PHASES, REASONS, Finished, verdict
from gridctl.signals.layout import MOST_MODELS, MOST_OBJECTIVES, OPERATION_OF, OPERATIONS, Layout

MOST_USD: Final = 1e6
NANO: Final = 1e9
MOST_US: Final = 1e12
_MOST_INT: Final = (1 << 63) - 1
SMALLEST: Final = Layout(backends=1, workloads=1)

_OUTCOME_AT: Final = {word: index for index, word in enumerate(OUTCOMES)}
_REASON_AT: Final = {word: index for index, word in enumerate(REASONS)}
_OTHER_REASON: Final = _REASON_AT[OTHER]
_PHASE_AT: Final = {word: index for index, word in enumerate(PHASES)}
_ENDPOINT_AT: Final = {word: index for index, word in enumerate(ENDPOINTS)}
_OTHER_ENDPOINT: Final = len(ENDPOINTS)
_LAST_OPERATION: Final = len(OPERATIONS) - 1
_MISS_BIT: Final = {metric: 1 << index for index, metric in enumerate(METRICS)}
_VERDICTS: Final = {"good": GOOD, "bad": BAD, "excluded": 0}
_PACKED: Final = struct.Struct(f"{ENGINES_AT}q")

assert METRICS == ("ttft_ms", "tpot_ms", "e2e_ms")


class Meter:
    """One worker's counts. `finished` once for each request; `refresh` after the directory has changed."""

    def __init__(self, board: Board, worker: int) -> None:
        if not 0 <= worker < board.workers:
            raise InputError(f"the board has no worker {worker}, only 0 to {board.workers - 1}", where="--worker")
        layout = board.layout
        self._board = board
        self._backends = layout.backends
        self._words = board.meters[worker]
        self._known = tables(layout.workloads)
        self._known[ENGINES_AT : len(REQUEST)] = (
            layout.engines_at,
            layout.backends,
            layout.reasons_at,
            layout.phases_at,
            layout.endpoints_at,
            layout.models_at,
            layout.places_at,
        )
        self._request = self._known.data.cast("B")
        self._workloads: dict[str, int] = {}
        self._models: dict[str, int] = {}
        self._count = direct(count, self._words, self._known)
        self.refresh()

    def refresh(self) -> None:
        """Learn the directory's names; counts so far stay with the rows they were counted in."""
        directory = self._board.directory()
        rows = self._known[ROWS_AT:].reshape(-1, ROW_WORDS)
        for row, workload in zip(rows, directory.workloads, strict=False):
            row[0] = workload.unseen_ns
            thresholds = row[1:].reshape(OBJECTIVE_KINDS, MOST_OBJECTIVES)
            thresholds[:] = NO_THRESHOLD
            for kind, metric in enumerate(METRICS):
                limits = [objective.most_ns for objective in workload.objectives if objective.metric == metric]
                thresholds[kind, : len(limits)] = limits[:MOST_OBJECTIVES]
        self._workloads = directory.workload_rows()
        self._models = {name: row for name, row in directory.model_rows().items() if row < MOST_MODELS}

    def finished(self, request: Finished) -> None:
        """Count a request that has ended. Never raises for what is in it."""
        outcome, misses, usd = request.outcome, request.objective_misses, request.usd
        predicted_ttft_us, predicted_tpot_us = request.predicted_ttft_us, request.predicted_tpot_us
        backend = request.backend
        numbers = (
            self._workloads.get(request.workload, OTHER_ROW),
            backend if 0 <= backend < self._backends else self._backends,
            _OUTCOME_AT.get(outcome, FAILED),
            _VERDICTS[verdict(outcome, request.status, misses)],
            _miss_bits(misses) if misses else 0,
            _REASON_AT.get(request.reason, _OTHER_REASON),
            _PHASE_AT.get(request.phase, 0),
            _ENDPOINT_AT.get(request.endpoint, _OTHER_ENDPOINT),
            request.attempts,
            request.stream,
            request.is_estimated,
            self._models.get(request.model, OTHER_ROW),
            OPERATION_OF.get(request.endpoint, _LAST_OPERATION),
            request.prompt_tokens,
            request.cached_tokens,
            request.output_tokens,
            # Comparisons with what is not a number are false.
            int(usd * NANO + 0.5) if 0.0 < usd < MOST_USD else 0,
            request.arrival_ns,
            request.decided_ns,
            request.first_token_ns,
            request.last_token_ns,
            request.end_ns,
            int(predicted_ttft_us * 1000.0) if 0.0 < predicted_ttft_us < MOST_US else 0,
            int(predicted_tpot_us * 1000.0) if 0.0 < predicted_tpot_us < MOST_US else 0,
        )
        try:
            _PACKED.pack_into(self._request, 0, *numbers)
        except struct.error:
            _PACKED.pack_into(self._request, 0, *map(_bounded, numbers))
        self._count(self._words, self._known)


def warm_up(layout: Layout = SMALLEST) -> None:
    """Have the counting compiled, or loaded: the first request does not wait for it."""
    known = tables(layout.workloads)
    known[: len(REQUEST)] = 0
    count(np.zeros(layout.words, np.int64), known)


def _bounded(number: object) -> int:
    """A number that fits; 0 in place of what is none, which an engine's report of its usage may hold."""
    return max(-_MOST_INT, min(number, _MOST_INT)) if isinstance(number, int) else 0


def _miss_bits(misses: tuple[str, ...]) -> int:
    bits = 0
    for metric in misses:
        bits |= _MISS_BIT.get(metric, 0)
    return bits
