"""Totals: what all workers have counted, put together; and what was counted between two readings.

Sums of whole numbers over workers: the order does not matter and nothing is estimated. A workload that changed its
objectives has several rows under one name; they are put together here, so readers see names only.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gridctl.signals import buckets
from gridctl.signals.board import Board
from gridctl.signals.directory import BackendRow, Directory
from gridctl.signals.finished import ENDPOINTS, OTHER, OUTCOMES, PHASES, REASONS
from gridctl.signals.layout import (
    BAD_AT,
    ENGINE_WORDS,
    GENAI,
    GENAI_EDGES,
    GENAI_HISTOGRAM_WORDS,
    GENAI_SUM_AT,
    GOOD_AT,
    HISTOGRAM_WORDS,
    KINDS,
    MODEL_WORDS,
    OPERATIONS,
    PLACE_HISTOGRAM_WORDS,
    PLACE_KINDS,
    PLACE_SUM_AT,
    PLACE_WORDS,
    REASON_WORDS,
    SUM_AT,
    TOTAL_AT,
    WITHIN_AT,
    WORKLOAD_WORDS,
    Layout,
)

NANO = 1e-9


class Histogram(NamedTuple):
    """Durations of one kind. `counts` has shape (buckets.CELLS,); `within` holds, for each objective in nanoseconds,
    how many were at or under it, exactly for all that was counted since it was set."""

    counts: NDArray[np.int64]
    sum_us: int
    within: dict[int, int]

    @property
    def requests(self) -> int:
        return int(self.counts.sum())

    def quantile_ms(self, share: float) -> float | None:
        """The duration of nearest rank, to 1 %; None of nothing, infinite over 600 s."""
        found = buckets.quantile_ns(self.counts, share)
        return None if found is None else found / 1e6

    def mean_ms(self) -> float | None:
        requests = self.requests
        return self.sum_us / requests / 1e3 if requests else None


class PlaceHistogram(NamedTuple):
    """TTFTs or TPOTs of some engines. `counts` has shape (buckets.COARSE_CELLS,)."""

    counts: NDArray[np.int64]
    sum_us: int

    @property
    def requests(self) -> int:
        return int(self.counts.sum())

    def quantile_ms(self, share: float) -> float | None:
        """The time of nearest rank, to 5 %; None of nothing, infinite over 600 s."""
        found = buckets.coarse_quantile_ns(self.counts, share)
        return None if found is None else found / 1e6


class Counted(NamedTuple):
    """Requests by how they ended, in the order of OUTCOMES, and by whether they were good."""

    outcomes: tuple[int, ...]
    good: int
    bad: int

    @property
    def requests(self) -> int:
        return sum(self.outcomes)

    @property
    def excluded(self) -> int:
        return self.requests - self.good - self.bad


class GenaiHistogram(NamedTuple):
    """One of GENAI's histograms: counts per bound and over them all; the sum in the unit of the bounds."""

    edges: tuple[int, ...]
    counts: tuple[int, ...]
    sum: int


@dataclass(frozen=True, slots=True)
class Totals:
    """One reading of all meters. `words` has shape (layout.words,)."""

    directory: Directory
    layout: Layout
    words: NDArray[np.int64]

    def since(self, earlier: Totals) -> Totals:
        """What was counted after an earlier reading of the same board."""
        return Totals(self.directory, self.layout, self.words - earlier.words)

    def workloads(self) -> tuple[str, ...]:
        """Names in the order of their first rows; the first stands for all that are not enrolled."""
        return tuple(dict.fromkeys(workload.name for workload in self.directory.workloads))

    def sites(self) -> tuple[str, ...]:
        """Names of the sites that engines are at."""
        return tuple(dict.fromkeys(backend.site for backend in self.directory.backends if backend.site))

    def _rows(self, workload: str | None) -> list[int]:
        return [row for row, known in enumerate(self.directory.workloads) if workload in (None, known.name)]

    def total(self, name: str, workload: str | None = None) -> int:
        """One of layout.TOTALS, of a workload or of all."""
        at = TOTAL_AT[name]
        return sum(int(self.words[row * WORKLOAD_WORDS + at]) for row in self._rows(workload))

    def usd(self, workload: str | None = None) -> float:
        return self.total("nano_usd", workload) * NANO

    def histogram(self, kind: str, workload: str | None = None) -> Histogram:
        """Durations of one of layout.KINDS, of a workload or of all."""
        counts, sum_us = np.zeros(buckets.CELLS, np.int64), 0
        rows = self._rows(workload)
        parts = {}
        for row in rows:
            at = row * WORKLOAD_WORDS + KINDS.index(kind) * HISTOGRAM_WORDS
            parts[row] = self.words[at : at + HISTOGRAM_WORDS]
            counts += parts[row][: buckets.CELLS]
            sum_us += int(parts[row][SUM_AT])
        within: dict[int, int] = {}
        if workload is not None and rows:
            for most_ns in self._thresholds(rows[-1], kind):
                within[most_ns] = sum(self._at_most(row, part, kind, most_ns) for row, part in parts.items())
        return Histogram(counts, sum_us, within)

    def _thresholds(self, row: int, kind: str) -> list[int]:
        objectives = self.directory.workloads[row].objectives
        return [objective.most_ns for objective in objectives if objective.metric == f"{kind}_ms"]

    def _at_most(self, row: int, part: NDArray[np.int64], kind: str, most_ns: int) -> int:
        """How many of a row were at or under a threshold: exactly if it is the row's, else to the cell."""
        thresholds = self._thresholds(row, kind)
        if most_ns not in thresholds:
            return buckets.at_most(part[: buckets.CELLS], most_ns)
        cell = buckets.cell_of(most_ns)
        return int(part[:cell].sum() + part[WITHIN_AT + thresholds.index(most_ns)])

    def engine_counts(self) -> NDArray[np.int64]:
        """Shape (workload rows, engines + 1, words): the OUTCOMES, good, bad; the last engine stands for none."""
        part = self.words[self.layout.engines_at : self.layout.reasons_at]
        return part.reshape(self.layout.workloads, self.layout.backends + 1, ENGINE_WORDS)

    def place_ttft(self, engines: Iterable[int]) -> PlaceHistogram:
        """TTFTs of the answers that came from these rows of the board, of all workloads together."""
        return self._place(engines, "ttft")

    def place_tpot(self, engines: Iterable[int]) -> PlaceHistogram:
        """TPOTs of the answers of two tokens or more that came from these rows, of all workloads together."""
        return self._place(engines, "tpot")

    def _place(self, engines: Iterable[int], kind: str) -> PlaceHistogram:
        at, backends = self.layout.places_at, self.layout.backends
        parts = self.words[at : at + backends * PLACE_WORDS].reshape(backends, len(PLACE_KINDS), PLACE_HISTOGRAM_WORDS)
        summed = parts[[row for row in engines if 0 <= row < backends], PLACE_KINDS.index(kind)].sum(axis=0)
        return PlaceHistogram(summed[: buckets.COARSE_CELLS], int(summed[PLACE_SUM_AT]))

    def counted(self, workload: str | None = None, site: str | None = None) -> Counted:
        """Requests of a workload or of all, that went to a site or anywhere and nowhere."""
        counts = self.engine_counts()[self._rows(workload)]
        if site is not None:
            places = [row for row, backend in enumerate(self.directory.backends) if backend.site == site]
            counts = counts[:, places]
        summed = counts.sum(axis=(0, 1)).tolist()
        return Counted(tuple(summed[: len(OUTCOMES)]), summed[GOOD_AT], summed[BAD_AT])

    def by_site(self) -> dict[tuple[str, str], Counted]:
        """Requests by workload and site (the empty site stands for no engine), where there were any."""
        counts = self.engine_counts()
        summed: dict[tuple[str, str], NDArray[np.int64]] = {}
        for row, engine in np.argwhere(counts[: len(self.directory.workloads)].any(axis=2)).tolist():
            key = self.directory.workloads[row].name, self.backend(engine).site
            summed[key] = summed.get(key, np.zeros(ENGINE_WORDS, np.int64)) + counts[row, engine]
        return {
            key: Counted(tuple(words[: len(OUTCOMES)].tolist()), int(words[GOOD_AT]), int(words[BAD_AT]))
            for key, words in summed.items()
        }

    def backend(self, row: int) -> BackendRow:
        """The labels of an engine's row; empty ones for a row that has none."""
        return self.directory.backends[row] if 0 <= row < len(self.directory.backends) else BackendRow()

    def reasons(self, outcome: str) -> dict[str, int]:
        """Requests that ended so, by reason, where there were any."""
        at = self.layout.reasons_at + OUTCOMES.index(outcome) * REASON_WORDS
        counts = self.words[at : at + len(REASONS)].tolist()
        return {reason: count for reason, count in zip(REASONS, counts, strict=True) if count}

    def cancelled_in(self) -> dict[str, int]:
        """Cancelled requests by phase."""
        at = self.layout.phases_at
        return dict(zip(PHASES, self.words[at : at + len(PHASES)].tolist(), strict=True))

    def endpoints(self) -> dict[str, int]:
        """Requests by endpoint."""
        names = (*ENDPOINTS, OTHER)
        at = self.layout.endpoints_at
        return dict(zip(names, self.words[at : at + len(names)].tolist(), strict=True))

    def genai(self, model_row: int, operation: int, kind: int) -> GenaiHistogram:
        """One of GENAI's histograms, by places in directory.models, OPERATIONS and GENAI."""
        at = self.layout.models_at + model_row * MODEL_WORDS
        at += (operation * len(GENAI) + kind) * GENAI_HISTOGRAM_WORDS
        edges = GENAI_EDGES[kind]
        counts = self.words[at : at + len(edges)].tolist()
        # What is over every bound lies in the first place after the bounds there is room for.
        over = int(self.words[at + len(edges) : at + GENAI_SUM_AT].sum())
        return GenaiHistogram(edges, (*counts, over), int(self.words[at + GENAI_SUM_AT]))


def read_totals(board: Board) -> Totals:
    """Add up what the workers have counted. O(workers × layout.words)."""
    return Totals(board.directory(), board.layout, board.meters.sum(axis=0))


assert len(OPERATIONS) * len(GENAI) * GENAI_HISTOGRAM_WORDS == MODEL_WORDS
