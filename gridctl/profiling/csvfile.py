"""CSV files of measurements, plain or .gz: read whole under a limit, header checked, every row with its place."""

from __future__ import annotations

import csv
import gzip
import io
import math
from collections.abc import Iterator
from pathlib import Path

from gridctl.errors import InputError, NotFoundError

LARGEST_FILE = 256 << 20
"""Bytes, unpacked: a hundred times the largest seen."""

Row = dict[str, str]


def csv_rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[str, Row]]:
    """`(file:line, cells)` of every row; the header must name `columns`, other columns are left alone.

    Raises NotFoundError when there is no such file, InputError when it cannot be read or lacks a column.
    """
    reader = csv.DictReader(_text(path))
    missing = [name for name in columns if name not in (reader.fieldnames or [])]
    if missing:
        found = ", ".join(reader.fieldnames or ["nothing"])
        raise InputError(
            f"column {missing[0]} is missing; the header has {found}",
            where=f"{path}:1",
            fix=f"the header must name {', '.join(columns)}",
        )
    for row in reader:
        yield f"{path}:{reader.line_num}", row


def number(where: str, row: Row, column: str) -> float:
    """A finite number. Raises InputError."""
    try:
        value = float(row[column])
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{column} is {row[column]!r}", where=where, fix="give a number")
    return value


def _text(path: Path) -> io.StringIO:
    fix = "give a CSV file, plain or .gz"
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as stream:
            data = stream.read(LARGEST_FILE + 1)
        if len(data) > LARGEST_FILE:
            raise InputError("the file is larger than 256 MiB", where=str(path), fix="give a part of it")
        return io.StringIO(data.decode("utf-8-sig"), newline="")
    except FileNotFoundError as error:
        raise NotFoundError("the file does not exist", where=str(path), fix="check the path") from error
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError(f"the file cannot be read: {error}", where=str(path), fix=fix) from error
