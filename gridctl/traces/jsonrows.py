"""JSON rows: blocks of JSON lines turned into columns, whichever field names their writer used.

Decides how lengths, sessions, names and prefix blocks become columns; `jsonfields` decides what the fields are called.
Must not interpret routing. Invariant: one line is one request, and an error names the line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from gridctl.errors import InputError
from gridctl.traces.arrivals import SessionClock, arrivals_ns
from gridctl.traces.columns import MAX_TOKENS, NAME_COLUMNS, Columns, Rows
from gridctl.traces.jsonfields import (
    ANSWER,
    DELAY,
    INPUT,
    OUTPUT,
    PROMPT,
    SESSION,
    Row,
    decode_rows,
    first_values,
    mentions,
    present,
)
from gridctl.traces.lines import Block

Ints = NDArray[np.int64]
BYTES_PER_TOKEN = 4
"""The usual rule of four characters of English text to a token."""


def read_jsonl(blocks: Iterator[Block], where: str, columns: Columns) -> None:
    """Add every line to `columns`. Rows timed by session (an offset or a delay) are merged by arrival."""
    clock = SessionClock()
    merged = False
    for block in blocks:
        rows = decode_rows(block, where)
        if not rows:
            continue
        if not merged and mentions(block, ("session_offset_ms", *DELAY)):
            merged = columns.sort = True
        columns.add(_rows(rows, block, where, columns, clock))
        if columns.is_full:
            break
    if clock.delays:
        columns.notes.append(f"{clock.delays:,} delays counted from the arrival of the session's previous request")


def _rows(rows: list[Row], block: Block, where: str, columns: Columns, clock: SessionClock) -> Rows:
    line_of = block.line_of
    session = _session_column(rows, block, where, columns)
    result = Rows(
        arrival_ns=arrivals_ns(rows, block, where, clock, session),
        input_tokens=_input_lengths(rows, block, where, columns),
        output_tokens=_lengths(rows, block, OUTPUT, where),
        line_of=line_of,
        session=session,
    )
    for name in present(block, NAME_COLUMNS):
        number = columns.names[name].number
        result.names[name] = np.fromiter((number(getattr(row, name)) for row in rows), np.int32, len(rows))
    if b'"hash_ids"' in block.data:
        result.block_counts, result.block_ids = _hash_ids(rows, where, line_of, columns)
    texts = present(block, PROMPT)
    if texts:
        result.prompts = [text or "" for text in first_values(rows, texts)]
    answers = present(block, ANSWER)
    if answers:
        number = columns.answers.number
        named = ("" if one is None else str(one) for one in first_values(rows, answers))
        result.answers = np.fromiter((number(name) for name in named), np.int64, len(rows))
    return result


def _input_lengths(rows: list[Row], block: Block, where: str, columns: Columns) -> Ints:
    """Lengths of prompts. A trace that says which requests want one answer was made for a cache: there, where only the
    text is given, its length is taken to be a token for every four bytes."""
    if present(block, INPUT) or not present(block, ANSWER) or not present(block, PROMPT):
        return _lengths(rows, block, INPUT, where)
    columns.has_estimated_lengths = True
    texts = first_values(rows, present(block, PROMPT))
    return np.fromiter(
        (max(1, -(-len((text or "").encode()) // BYTES_PER_TOKEN)) for text in texts), np.int64, len(rows)
    )


def _lengths(rows: list[Row], block: Block, names: Sequence[str], where: str) -> Ints:
    values = first_values(rows, present(block, names))
    try:
        return np.array(values, np.int64)
    except (TypeError, OverflowError):
        row = next(i for i, value in enumerate(values) if value is None or abs(value) > MAX_TOKENS)
    place = f"{where}:{block.line_of(row)}"
    if values[row] is not None:
        raise InputError(
            f"{values[row]:,} tokens: expected at most {MAX_TOKENS:,}", where=place, fix="correct or remove the line"
        )
    fix = f"add {names[0]!r}; gridctl does not tokenise text" if names is INPUT else f"add {names[0]!r}"
    raise InputError(f"no {' or '.join(names)} in this row", where=place, fix=fix)


def _hash_ids(rows: list[Row], where: str, line_of: Callable[[int], int], columns: Columns) -> tuple[Ints, Ints]:
    lists = [row.hash_ids or () for row in rows]
    counts = np.fromiter(map(len, lists), np.int64, len(rows))
    total = int(counts.sum())
    try:
        ids = np.fromiter(chain.from_iterable(lists), np.int64, total)
        wrong = ids < 0
    except OverflowError:
        if all(0 <= number < 1 << 64 for number in chain.from_iterable(lists)):
            columns.huge_ids = True
            return counts, np.fromiter(chain.from_iterable(lists), np.uint64, total).view(np.int64)
        wrong = np.fromiter((not 0 <= number < 1 << 64 for number in chain.from_iterable(lists)), bool, total)
        ids = np.zeros(total, np.int64)
    if wrong.any():
        row = int(np.searchsorted(np.cumsum(counts), int(np.argmax(wrong)), side="right"))
        raise InputError(
            "hash_ids must be whole numbers from 0 to 2**64 − 1",
            where=f"{where}:{line_of(row)}",
            fix="correct the line",
        )
    return counts, ids


def _session_column(rows: list[Row], block: Block, where: str, columns: Columns) -> Ints | None:
    names = present(block, SESSION)
    if not names:
        return None
    values = first_values(rows, names)
    for row, value in enumerate(values):
        if isinstance(value, int) and not 0 <= value < 1 << 62:
            raise InputError(
                f"session {value}: expected 0 or more, or text",
                where=f"{where}:{block.line_of(row)}",
                fix="write the session as text",
            )
    number = columns.sessions.number
    return np.fromiter((number(value) for value in values), np.int64, len(rows))
