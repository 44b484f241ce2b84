"""Nearest stored vectors of one partition: every one compared up to 20,000 entries, a graph of them above that.

Decides which entries are looked at, never whether one is served. Vectors are unit rows of one dimension without NaN;
similarity is the cosine. The graph (usearch, half precision, optional) proposes candidates that are compared again in
full precision, so a cosine this module returns is exact whichever way it was found. Removing swaps the last row in;
entry numbers are the caller's and never change.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gridctl.errors import InputError

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]
GRAPH_FROM = 20_000
"""Entries above which a graph pays: the comparison of all takes about 0.8 ms there."""
GRAPH_CANDIDATES = 2
"""Candidates the graph proposes for each one wanted: they are compared in full precision."""
CONNECTIVITY, BREADTH_ADDING, BREADTH_SEARCHING = 16, 128, 96
FIRST_ROWS = 4
"""Room of an empty index. There is one for each partition, and many partitions hold one answer."""
_LENGTH_TOLERANCE = 1e-3


def unit_rows(vectors: object, dimension: int) -> Floats:
    """`vectors` as float32 rows of length 1, shape (n, dimension). Raises InputError for NaN, zeros, another shape."""
    rows = np.atleast_2d(np.asarray(vectors, np.float32))
    if rows.ndim != 2 or rows.shape[1] != dimension:
        raise InputError(
            f"embeddings have shape {rows.shape}, expected {dimension} numbers each",
            fix="use the embedder this cache was filled with, or purge the cache",
        )
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        raise InputError("an embedding holds NaN, infinity or only zeros", fix="check the embedder")
    if (np.abs(lengths - 1.0) > _LENGTH_TOLERANCE).any():
        rows = (rows / lengths[:, None]).astype(np.float32)
    return np.ascontiguousarray(rows)


class Index:
    """Vectors under entry numbers. `graph_from=None` never builds a graph."""

    def __init__(self, dimension: int, graph_from: int | None = GRAPH_FROM) -> None:
        if dimension < 1:
            raise InputError(f"an index of dimension {dimension} holds nothing")
        self.dimension = dimension
        self._rows: Floats = np.empty((FIRST_ROWS, dimension), np.float32)
        self._ids: Ids = np.empty(FIRST_ROWS, np.int64)
        self._row_of: dict[int, int] = {}
        self._graph_from = graph_from
        self._graph: Any = None

    def __len__(self) -> int:
        return len(self._row_of)

    def __contains__(self, entry: object) -> bool:
        return entry in self._row_of

    @property
    def has_graph(self) -> bool:
        """Whether candidates come from the graph."""
        return self._graph is not None

    def add(self, entry: int, vector: object) -> None:
        """Store one vector, O(1) amortised without a graph; replaces an entry of the same number."""
        row = unit_rows(vector, self.dimension)[0]
        if entry in self._row_of:
            self.remove(entry)
        count = len(self._row_of)
        if count == len(self._rows):
            self._grow(2 * count)
        self._rows[count], self._ids[count] = row, entry
        self._row_of[entry] = count
        if self._graph is not None:
            self._graph.add(entry, row)
        elif self._graph_from is not None and count + 1 > self._graph_from:
            self._build()

    def add_many(self, entries: Sequence[int], vectors: object) -> None:
        """Store many new entries; the graph is built once at the end."""
        rows = unit_rows(vectors, self.dimension)
        count, total = len(self._row_of), len(self._row_of) + len(entries)
        if len(rows) != len(entries) or len(set(entries)) != len(entries) or any(e in self._row_of for e in entries):
            raise InputError("entries to add need one vector and one new number each")
        if total > len(self._rows):
            self._grow(max(total, 2 * count))
        self._rows[count:total], self._ids[count:total] = rows, entries
        self._row_of.update(zip(entries, range(count, total), strict=True))
        if self._graph is not None:
            self._graph.add(np.asarray(entries), rows, threads=1)
        elif self._graph_from is not None and total > self._graph_from:
            self._build()

    def remove(self, entry: int) -> bool:
        """Forget an entry; False when it was not there."""
        row = self._row_of.pop(entry, None)
        if row is None:
            return False
        last = len(self._row_of)
        if row != last:
            self._rows[row], self._ids[row] = self._rows[last], self._ids[last]
            self._row_of[int(self._ids[row])] = row
        if self._graph is not None:
            self._graph.remove(entry)
        return True

    def vector(self, entry: int) -> Floats:
        """The stored unit vector."""
        return np.array(self._rows[self._row_of[entry]])

    def nearest(self, vector: object, count: int) -> tuple[Ids, Floats]:
        """Entries and cosines of the `count` most similar, best first; equal cosines by entry number."""
        query = self._unit(vector)
        size = len(self._row_of)
        if size == 0 or count < 1:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        rows = self._proposed(query, count) if self._graph is not None else np.arange(size)
        cosines = self._rows[:size] @ query if len(rows) == size else self._rows[rows] @ query
        if len(rows) > 4 * count:
            best = np.argpartition(-cosines, count - 1)[:count]
            rows, cosines = rows[best], cosines[best]
        order = np.lexsort((self._ids[rows], -cosines))[:count]
        return self._ids[rows[order]], np.clip(cosines[order], -1.0, 1.0)

    def _unit(self, vector: object) -> Floats:
        """The query as a unit row; one that is a unit row already, as most are, is checked in a microsecond or two."""
        row: Floats = np.asarray(vector, np.float32)
        if row.shape == (self.dimension,) and abs(float(row @ row) - 1.0) < _LENGTH_TOLERANCE:
            return row
        found: Floats = unit_rows(vector, self.dimension)[0]
        return found

    def _proposed(self, query: Floats, count: int) -> NDArray[np.intp]:
        found = self._graph.search(query, GRAPH_CANDIDATES * count).keys
        return np.array([self._row_of[int(entry)] for entry in found if int(entry) in self._row_of], np.intp)

    def _grow(self, size: int) -> None:
        rows, ids = self._rows, self._ids
        self._rows, self._ids = np.empty((size, self.dimension), np.float32), np.empty(size, np.int64)
        self._rows[: len(rows)], self._ids[: len(ids)] = rows, ids

    def _build(self) -> None:
        """Build the graph, or stay with comparing everything where usearch is not installed."""
        try:
            from usearch.index import Index as Graph
        except ImportError:
            self._graph_from = None
            return
        graph = Graph(
            ndim=self.dimension,
            metric="cos",
            dtype="f16",
            connectivity=CONNECTIVITY,
            expansion_add=BREADTH_ADDING,
            expansion_search=BREADTH_SEARCHING,
        )
        size = len(self._row_of)
        graph.add(self._ids[:size], self._rows[:size], threads=1)
        self._graph = graph
