"""Operator tables: measured kernel times of one model on one accelerator, read and checked.

Three CSV files (`.gz` too): attention by `prefill_chunk, kv_prefill, n_decode, kv_decode` (KV tokens per sequence),
dense layers by `layer, tokens`, per-sequence layers by `layer, sequences`; all with `time_us`, microseconds of one
layer on one GPU. Decides whether a table can be used at all: holes in the grid, units off by a thousand and tables
of another model are refused here, because nothing later could tell.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gridctl.errors import InputError
from gridctl.profiling.csvfile import Row, csv_rows, described, number

LARGEST_TIME_US = 1e9

ATTENTION = ("prefill_chunk", "kv_prefill", "n_decode", "kv_decode")
DENSE = ("layer", "tokens")
PER_SEQUENCE = ("layer", "sequences")

Batch = tuple[int, int, int, int]
"""Prefill chunk, KV tokens before it, decodes, KV tokens of each decode."""

Curve = dict[int, float]
"""Microseconds by tokens or sequences."""


@dataclass(frozen=True, slots=True)
class OperatorTables:
    """What was measured: attention by batch, every layer's curve; microseconds of one layer on one GPU."""

    attention: dict[Batch, float]
    dense: dict[str, Curve]
    per_sequence: dict[str, Curve]
    source: str

    @property
    def tokens(self) -> list[int]:
        """Token counts every dense layer was measured at."""
        return sorted(set.intersection(*(set(curve) for curve in self.dense.values())))

    @property
    def sequences(self) -> list[int]:
        return sorted(set.intersection(*(set(curve) for curve in self.per_sequence.values())))


def read_tables(attention: Path, dense: Path, per_sequence: Path) -> OperatorTables:
    """Read and check the three tables.

    Raises NotFoundError and InputError with file and line.
    """
    batches = _read_attention(attention)
    tables = OperatorTables(
        attention=batches,
        dense=_read_layers(dense, DENSE),
        per_sequence=_read_layers(per_sequence, PER_SEQUENCE),
        source=", ".join(path.name for path in (attention, dense, per_sequence)),
    )
    for path, layers, count in (
        (dense, tables.dense, tables.tokens),
        (per_sequence, tables.per_sequence, tables.sequences),
    ):
        _check_holes(path, layers, count)
    return tables


def _count(where: str, row: Row, column: str) -> int:
    try:
        value = int(row[column])
    except (TypeError, ValueError):
        value = -1
    if not 0 <= value <= 100_000_000:
        raise InputError(f"{column} is {described(row[column])}", where=where, fix="give a whole number of at least 0")
    return value


def _time(where: str, row: Row) -> float:
    value = number(where, row, "time_us")
    if not 0 < value < LARGEST_TIME_US:
        raise InputError(f"time_us is {value:g}", where=where, fix="give microseconds above 0, or drop the row")
    return value


def _read_attention(path: Path) -> dict[Batch, float]:
    batches: dict[Batch, float] = {}
    for where, row in csv_rows(path, (*ATTENTION, "time_us")):
        chunk, before, decodes, kv = (_count(where, row, column) for column in ATTENTION)
        batch = (chunk, before, decodes, kv)
        if chunk == 0 and decodes == 0:
            raise InputError("the batch is empty: no prefill and no decode", where=where, fix="drop the row")
        if batch in batches:
            raise InputError("the batch was measured twice", where=where, fix="keep one row, say the median")
        batches[batch] = _time(where, row)
    _check_attention(path, batches)
    return batches


def _check_attention(path: Path, batches: dict[Batch, float]) -> None:
    """Every number of decodes and every chunk needs at least three KV lengths, or slopes would be guesses."""
    for what, groups in (
        ("decodes", _grouped((decodes, kv) for chunk, _, decodes, kv in batches if chunk == 0)),
        ("prefill tokens", _grouped((chunk, before) for chunk, before, decodes, _ in batches if decodes == 0)),
    ):
        if len(groups) < 3:
            raise InputError(
                f"only {len(groups)} different numbers of {what} were measured alone",
                where=str(path),
                fix="measure at least three, up to the engine's limits",
            )
        for count, lengths in groups.items():
            if len(lengths) < 3:
                raise InputError(
                    f"{count} {what} were measured at {len(lengths)} KV lengths only",
                    where=str(path),
                    fix="measure at least three KV lengths, or drop these rows",
                )


def _grouped(pairs: Iterable[tuple[int, int]]) -> dict[int, set[int]]:
    groups: dict[int, set[int]] = {}
    for key, value in pairs:
        groups.setdefault(key, set()).add(value)
    return groups


def _read_layers(path: Path, columns: tuple[str, ...]) -> dict[str, Curve]:
    layers: dict[str, Curve] = {}
    for where, row in csv_rows(path, (*columns, "time_us")):
        name, count = row[columns[0]].strip(), _count(where, row, columns[1])
        curve = layers.setdefault(name, {})
        if count in curve:
            raise InputError(f"{name} was measured twice at {count}", where=where, fix="keep one row, say the median")
        curve[count] = _time(where, row)
    if not layers:
        raise InputError(
            "the table has no rows", where=str(path), fix=f"give rows of {', '.join((*columns, 'time_us'))}"
        )
    return layers


def _check_holes(path: Path, layers: dict[str, Curve], common: list[int]) -> None:
    """All layers must be measured at the same counts: a sum over layers has no value where one is missing."""
    for name, curve in layers.items():
        extra = sorted(set(curve) - set(common))
        if extra:
            lacking = next(other for other, its in layers.items() if extra[0] not in its)
            raise InputError(
                f"the table has a hole: {name} was measured at {extra[0]}, {lacking} was not",
                where=str(path),
                fix=f"measure {lacking} at {extra[0]} too, or drop those rows of {name}",
            )
    if len(common) < 3:
        raise InputError(
            f"layers were measured at {len(common)} counts only", where=str(path), fix="measure at least three"
        )
