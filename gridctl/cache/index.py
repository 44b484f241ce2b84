"""Nearest stored vectors of one partition: every one compared up to 20,000 entries, a graph of them above that.

Decides which entries are looked at, never whether one is served. Vectors are unit rows of one dimension without NaN;
similarity is the cosine. The graph (usearch, optional) holds their codes, a bit for each sign (`codes`), and proposes
candidates, which are compared again with the rows; beside a graph a row is 16-bit fractions of 1, so its cosine is
within √dimension / 65,534 of the exact one. The graph grows a few rows with each new entry, so no entry waits for all
of them. Without a graph removing swaps the last row in; beside one a row keeps its place, which is its key there, and
the next new entry takes the place of one removed. Entry numbers are the caller's and never change.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gridctl.cache.codes import BITS, Coder
from gridctl.errors import InputError

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]
Rows = NDArray[np.float32] | NDArray[np.int16]
GRAPH_FROM = 20_000
"""Entries above which a graph pays wherever it is: the comparison of all takes about 0.8 ms there."""
PROPOSED = 64
"""Candidates the graph proposes, and more where more are wanted: codes blur what is near, the rows put it right."""
CONNECTIVITY, BREADTH_ADDING, BREADTH_SEARCHING = 16, 128, 64
"""Measured: of 300,000 MiniLM vectors 96 % of the nearest 20 and 99 % of the nearest 5 are found, in 0.12 ms; of a
million hashed ones 98 % and 97 %, in 0.15 ms. A graph of bytes instead of bits takes three times as long and twice the
memory."""
MOVED_AT_ONCE = 4
"""Rows that go into a growing graph with each new entry: less than a millisecond."""
ROOM = 1.1
"""Factor by which the rows beside a graph grow; those without one double."""
FIRST_ROWS = 4
"""Room of an empty index. There is one for each partition, and many partitions hold one answer."""
NOBODY = -1
"""Entry number of a place that is free."""
_FRACTION = 32_767.0
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
    """Vectors under entry numbers from 0. `graph_from=None` never builds a graph."""

    def __init__(self, dimension: int, graph_from: int | None = GRAPH_FROM) -> None:
        if dimension < 1:
            raise InputError(f"an index of dimension {dimension} holds nothing")
        self.dimension = dimension
        self._rows: Rows = np.empty((FIRST_ROWS, dimension), np.float32)
        self._ids: Ids = np.empty(FIRST_ROWS, np.int64)
        self._place_of: dict[int, int] = {}
        self._used = 0
        """Places from the first up to the last that was ever taken; without a graph none of them is free."""
        self._free: list[int] = []
        self._graph_from = graph_from
        self._graph: Any = None
        self._coder: Coder | None = None
        self._unmoved = 0
        """Rows before this place are not all in the graph yet."""

    def __len__(self) -> int:
        return len(self._place_of)

    def __contains__(self, entry: object) -> bool:
        return entry in self._place_of

    @property
    def has_graph(self) -> bool:
        """Whether candidates come from the graph."""
        return self._graph is not None and not self._unmoved

    def add(self, entry: int, vector: object) -> None:
        """Store one vector, O(1) amortised without a graph; replaces an entry of the same number."""
        row = unit_rows(vector, self.dimension)[0]
        if entry in self._place_of:
            self.remove(entry)
        place = self._free.pop() if self._free else self._used
        if place == len(self._rows):
            self._grow(place + 1)
        self._used = max(self._used, place + 1)
        self._rows[place], self._ids[place] = self._stored(row), entry
        self._place_of[entry] = place
        if self._graph is not None:
            if place >= self._unmoved:
                self._enter(np.array([place]), row[None])
            self._move(MOVED_AT_ONCE)
        elif self._graph_from is not None and self._used > self._graph_from:
            self._begin_graph()

    def add_many(self, entries: Sequence[int], vectors: object) -> None:
        """Store many new entries; a graph that is due is whole at the end."""
        rows = unit_rows(vectors, self.dimension)
        start, stop = self._used, self._used + len(entries)
        if len(rows) != len(entries) or len(set(entries)) != len(entries) or any(e in self._place_of for e in entries):
            raise InputError("entries to add need one vector and one new number each")
        if stop > len(self._rows):
            self._grow(stop)
        self._rows[start:stop], self._ids[start:stop] = self._stored(rows), entries
        self._place_of.update(zip(entries, range(start, stop), strict=True))
        self._used = stop
        if self._graph is not None:
            self._enter(np.arange(start, stop), rows)
        elif self._graph_from is not None and stop > self._graph_from:
            self._begin_graph()
        self._move(stop)

    def remove(self, entry: int) -> bool:
        """Forget an entry; False when it was not there."""
        place = self._place_of.pop(entry, None)
        if place is None:
            return False
        if self._graph is not None:
            self._ids[place] = NOBODY
            self._free.append(place)
            if place >= self._unmoved:
                self._graph.remove(place)
            return True
        self._used -= 1
        if place != self._used:
            self._rows[place], self._ids[place] = self._rows[self._used], self._ids[self._used]
            self._place_of[int(self._ids[place])] = place
        return True

    def vector(self, entry: int) -> Floats:
        """The stored unit vector."""
        return self._floats(self._rows[self._place_of[entry]])

    def nearest(self, vector: object, count: int) -> tuple[Ids, Floats]:
        """Entries and cosines of the `count` most similar, best first; equal cosines by entry number."""
        query = self._unit(vector)
        if not self._place_of or count < 1:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        if self.has_graph:
            places = self._proposed(query, count)
            ids, cosines = self._ids[places], self._floats(self._rows[places]) @ query
        else:
            ids, cosines = self._ids[: self._used], self._floats(self._rows[: self._used]) @ query
            if self._free:
                taken = ids != NOBODY
                ids, cosines = ids[taken], cosines[taken]
        if len(ids) > 4 * count:
            best = np.argpartition(-cosines, count - 1)[:count]
            ids, cosines = ids[best], cosines[best]
        order = np.lexsort((ids, -cosines))[:count]
        return ids[order], np.clip(cosines[order], -1.0, 1.0)

    def _unit(self, vector: object) -> Floats:
        """The query as a unit row; one that is a unit row already, as most are, is checked in a microsecond or two."""
        row: Floats = np.asarray(vector, np.float32)
        if row.shape == (self.dimension,) and abs(float(row @ row) - 1.0) < _LENGTH_TOLERANCE:
            return row
        found: Floats = unit_rows(vector, self.dimension)[0]
        return found

    def _proposed(self, query: Floats, count: int) -> Ids:
        """Places of the candidates."""
        assert self._coder is not None
        wanted = max(PROPOSED, 2 * count)
        found: Ids = self._graph.search(self._coder.code(query), wanted, threads=1).keys.astype(np.int64)
        return found

    def _stored(self, rows: Floats) -> Rows:
        """Rows as they are kept: as they are, or beside a graph as fractions."""
        if self._rows.dtype == np.float32:
            return rows
        return _fractions(rows)

    def _floats(self, rows: Rows) -> Floats:
        if rows.dtype == np.int16:
            return rows.astype(np.float32) * np.float32(1.0 / _FRACTION)
        return rows.astype(np.float32, copy=False)

    def _grow(self, least: int) -> None:
        rows, ids, size = self._rows, self._ids, self._used
        if rows.dtype == np.int16:  # large: grown where they lie, for there may not be room for them twice
            room = max(least, int(size * ROOM))
            rows.resize((room, self.dimension), refcheck=False)
            ids.resize(room, refcheck=False)
            return
        room = max(least, 2 * size)
        self._rows, self._ids = np.empty((room, self.dimension), np.float32), np.empty(room, np.int64)
        self._rows[:size], self._ids[:size] = rows[:size], ids[:size]

    def _begin_graph(self) -> None:
        """Begin a graph, or stay with comparing everything where usearch is not installed."""
        try:
            from usearch.index import Index as Graph
        except ImportError:
            self._graph_from = None
            return
        self._graph = Graph(
            ndim=BITS,
            metric="hamming",
            dtype="b1",
            connectivity=CONNECTIVITY,
            expansion_add=BREADTH_ADDING,
            expansion_search=BREADTH_SEARCHING,
        )
        self._coder = Coder(self.dimension)
        self._unmoved = self._used

    def _enter(self, places: Ids, rows: Floats) -> None:
        assert self._coder is not None
        self._graph.add(places, self._coder.codes(rows), threads=1)

    def _move(self, most: int) -> None:
        """Put so many of the rows into the growing graph, the last of them first."""
        if self._graph is None or not self._unmoved:
            return
        first = max(0, self._unmoved - most)
        places = np.arange(first, self._unmoved)
        places = places[self._ids[first : self._unmoved] != NOBODY]
        if len(places):
            self._enter(places, self._floats(self._rows[places]))
        self._unmoved = first
        if not first:
            self._rows = self._halved()

    def _halved(self) -> Rows:
        rows = self._rows[: self._used]
        found = np.empty(rows.shape, np.int16)
        for start in range(0, len(rows), 4_096):
            found[start : start + 4_096] = _fractions(self._floats(rows[start : start + 4_096]))
        return found


def _fractions(rows: Floats) -> NDArray[np.int16]:
    """Rows in 32,767ths of 1; what is a little longer than 1 must not turn negative."""
    found: NDArray[np.int16] = np.clip(np.rint(rows * _FRACTION), -_FRACTION, _FRACTION).astype(np.int16)
    return found
