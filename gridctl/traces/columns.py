"""Columns: rows of any format gathered block by block into the arrays of one Trace.

Decides what a valid row is (token counts, order of arrival, prefix blocks that fit the prompt) and says where a row is
not. Must not parse. Invariant: what `build` returns satisfies every promise in Trace's docstring.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from gridctl.errors import InputError
from gridctl.traces.blocksize import BlockSize
from gridctl.traces.trace import UNSAID, Trace

MAX_TOKENS = 10_000_000
NAME_COLUMNS = ("origin", "workload", "tenant", "model")

Ints = NDArray[np.int64]
Indices = NDArray[np.int32]
Kind = TypeVar("Kind", np.int32, np.int64)


@dataclass(slots=True)
class Rows:
    """Parsed rows of one block. Columns the format lacks stay None; `line_of(row)` finds a row's line."""

    arrival_ns: Ints
    input_tokens: Ints
    output_tokens: Ints
    line_of: Callable[[int], int]
    names: dict[str, Indices] = field(default_factory=dict)
    session: Ints | None = None
    block_counts: Ints | None = None
    block_ids: Ints | None = None
    prompts: list[str] | None = None
    answers: Ints | None = None

    def __len__(self) -> int:
        return len(self.arrival_ns)

    def first(self, count: int) -> Rows:
        """The first `count` rows."""
        counts = None if self.block_counts is None else self.block_counts[:count]
        owned = 0 if counts is None else int(counts.sum())
        return Rows(
            self.arrival_ns[:count],
            self.input_tokens[:count],
            self.output_tokens[:count],
            self.line_of,
            {name: column[:count] for name, column in self.names.items()},
            None if self.session is None else self.session[:count],
            counts,
            None if self.block_ids is None else self.block_ids[:owned],
            None if self.prompts is None else self.prompts[:count],
            None if self.answers is None else self.answers[:count],
        )


class Names:
    """Interned names of one column: the index of a name is the order of its first use."""

    def __init__(self, known: Sequence[str] = ()) -> None:
        self.index: dict[str, int] = {name: number for number, name in enumerate(known)}

    def number(self, name: str | None) -> int:
        """The name's index; `UNSAID` for None or an empty name."""
        if not name:
            return UNSAID
        return self.index.setdefault(name, len(self.index))

    @property
    def known(self) -> tuple[str, ...]:
        return tuple(self.index)


class Sessions:
    """Session keys as integers: integer keys stay as they are, text keys are numbered above the largest of them."""

    def __init__(self) -> None:
        self._text: dict[str, int] = {}

    def number(self, key: int | str | None) -> int:
        """The key's number; text keys get −2, −3, … until `settle`."""
        if key is None or key == "":
            return UNSAID
        if isinstance(key, int):
            return key
        return -2 - self._text.setdefault(key, len(self._text))

    def settle(self, column: Ints) -> Ints:
        """The column with text keys numbered after the integer ones."""
        text = column < UNSAID
        if not text.any():
            return column
        first = int(column.max()) + 1 if (column >= 0).any() else 0
        settled: Ints = np.where(text, first + (-2 - column), column)
        return settled


class Columns:
    """Gathers rows into a Trace. With `sort` rows may come in any order of arrival, else their order is checked."""

    def __init__(self, where: str, *, sort: bool, limit: int | None, block_size: BlockSize) -> None:
        self.names = {column: Names() for column in NAME_COLUMNS}
        self.sessions = Sessions()
        self.answers = Sessions()
        self.has_estimated_lengths = False
        self.block_size = block_size
        self.notes: list[str] = []
        self.sort = sort
        self.huge_ids = False
        self._where = where
        self._limit = limit
        self._rows: list[Rows] = []
        self._count = 0
        self._clamped = 0
        self._last_ns: int | None = None

    @property
    def is_full(self) -> bool:
        """Whether `limit` rows are there and no later row can come before them."""
        return self._limit is not None and not self.sort and self._count >= self._limit

    def add(self, rows: Rows) -> None:
        """Check one block's rows and keep them."""
        if self._limit is not None and not self.sort:
            rows = rows.first(self._limit - self._count)
        if not len(rows):
            return
        self._check_tokens(rows.input_tokens, "input", 1, rows)
        self._check_tokens(rows.output_tokens, "output", 0, rows)
        empty = int(np.count_nonzero(rows.output_tokens == 0))
        if empty:
            self._clamped += empty
            rows.output_tokens = np.maximum(rows.output_tokens, 1)
        if rows.block_counts is not None:
            self.block_size.check(rows.block_counts, rows.input_tokens, self._where, rows.line_of)
        if not self.sort:
            self._check_order(rows)
        rows.line_of = _forgotten  # else every block's text stays in memory
        self._count += len(rows)
        self._keep(rows)

    def _keep(self, rows: Rows) -> None:
        """Take checked rows."""
        self._rows.append(rows)

    def _check_tokens(self, tokens: Ints, what: str, least: int, rows: Rows) -> None:
        wrong = (tokens < least) | (tokens > MAX_TOKENS)
        if not wrong.any():
            return
        row = int(np.argmax(wrong))
        raise InputError(
            f"{int(tokens[row]):,} {what} tokens: expected {least} to {MAX_TOKENS:,}",
            where=f"{self._where}:{rows.line_of(row)}",
            fix="correct or remove the row",
        )

    def _check_order(self, rows: Rows) -> None:
        before = rows.arrival_ns[0] if self._last_ns is None else self._last_ns
        backwards = np.diff(rows.arrival_ns, prepend=before) < 0
        if backwards.any():
            raise InputError(
                "non-monotonic: this request arrived before the one above it",
                where=f"{self._where}:{rows.line_of(int(np.argmax(backwards)))}",
                fix="sort while reading: --sort",
            )
        self._last_ns = int(rows.arrival_ns[-1])

    def build(self, name: str) -> Trace:
        """The Trace, its first arrival at 0."""
        self._settle()
        arrival = np.concatenate([rows.arrival_ns for rows in self._rows])
        counts, ids = self._blocks()
        session = self.sessions.settle(_joined(self._rows, lambda rows: rows.session, np.int64(UNSAID)))
        trace = Trace(
            name=name,
            arrival_ns=arrival,
            input_tokens=np.concatenate([rows.input_tokens for rows in self._rows]),
            output_tokens=np.concatenate([rows.output_tokens for rows in self._rows]),
            origin=self._named("origin"),
            workload=self._named("workload"),
            tenant=self._named("tenant"),
            model=self._named("model"),
            session=session,
            block_offsets=np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)]),
            block_ids=ids,
            block_tokens=self.block_size.settle(self._where, self.notes),
            origins=self.names["origin"].known,
            workloads=self.names["workload"].known,
            tenants=self.names["tenant"].known,
            models=self.names["model"].known,
            prompts=self._prompts(),
            answers=self._answers(),
            notes=tuple(self.notes),
        )
        self._rows.clear()
        return _in_order(trace, self._limit if self.sort else None)

    def _settle(self) -> None:
        """Check that there is something, and note what was changed."""
        if not self._count:
            raise InputError("the trace is empty: no request in it", where=self._where, fix="check how it was exported")
        if self._clamped:
            self.notes.append(f"{self._clamped:,} requests generated 0 tokens: counted as 1")
        if self.has_estimated_lengths:
            self.notes.append("no prompt lengths: a token is counted for every four bytes of text")

    def _named(self, column: str) -> Indices:
        return _joined(self._rows, lambda rows: rows.names.get(column), np.int32(UNSAID))

    def _blocks(self) -> tuple[Ints, Ints]:
        counts = _joined(self._rows, lambda rows: rows.block_counts, np.int64(0))
        parts = [rows.block_ids for rows in self._rows if rows.block_ids is not None]
        ids = np.concatenate(parts) if parts else np.zeros(0, np.int64)
        if self.huge_ids:
            # ids above 2**63 - 1 were read as their two's complement: number all ids afresh, so that none is negative
            ids = np.unique(ids.view(np.uint64), return_inverse=True)[1].astype(np.int64)
            self.notes.append("hash_ids above 2**63 - 1 were renumbered")
        return counts, ids

    def _answers(self) -> Ints | None:
        """Which requests have one right answer; −1 where a row does not say."""
        if all(rows.answers is None for rows in self._rows):
            return None
        return self.answers.settle(_joined(self._rows, lambda rows: rows.answers, np.int64(UNSAID)))

    def _prompts(self) -> tuple[str, ...] | None:
        if all(rows.prompts is None for rows in self._rows):
            return None
        return tuple(text for rows in self._rows for text in (rows.prompts or [""] * len(rows)))


def _joined(rows: Sequence[Rows], column: Callable[[Rows], NDArray[Kind] | None], missing: Kind) -> NDArray[Kind]:
    """A column over all blocks, `missing` where a block has none."""
    parts = []
    for block in rows:
        part = column(block)
        parts.append(np.full(len(block), missing, missing.dtype) if part is None else part)
    return np.concatenate(parts)


def _forgotten(row: int) -> int:
    raise AssertionError(f"row {row} was checked already")


def _in_order(trace: Trace, limit: int | None) -> Trace:
    from gridctl.traces.slicing import take

    order = np.argsort(trace.arrival_ns, kind="stable")
    if limit is not None or np.any(order[1:] < order[:-1]):
        trace = take(trace, order[:limit])
    trace.arrival_ns[:] -= trace.arrival_ns[0]
    return trace
