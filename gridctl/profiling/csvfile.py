"""CSV files of measurements, plain or .gz: read whole under a limit, header checked, every row with its place."""

from __future__ import annotations

import csv
import gzip
import io
import math
import zlib
from collections.abc import Iterator
from pathlib import Path

from gridctl.errors import InputError, NotFoundError

LARGEST_FILE = 256 << 20
"""Bytes, unpacked: a hundred times the largest seen."""

SHOWN_CELL = 40
"""Letters of a cell that a message quotes."""

Row = dict[str, str]


def csv_rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[str, Row]]:
    """`(file:line, cells)` of every row; the header must name `columns`, other columns are left alone.

    Raises NotFoundError when there is no such file, InputError when it cannot be read or lacks a column.
    """
    reader = csv.DictReader(_text(path))
    try:
        _check_header(path, list(reader.fieldnames or []), columns)
        for row in reader:
            where = f"{path}:{reader.line_num}"
            if None in row:
                raise InputError(
                    f"the row has more than the header's {len(reader.fieldnames or [])} cells",
                    where=where,
                    fix="write numbers with a decimal point and without separators",
                )
            yield where, row
    except csv.Error as error:
        raise InputError(
            f"the file is not CSV: {error}", where=f"{path}:{reader.line_num + 1}", fix="give a CSV file, plain or .gz"
        ) from error


def _check_header(path: Path, header: list[str], columns: tuple[str, ...]) -> None:
    missing = [name for name in columns if header.count(name) != 1]
    if missing:
        found = quoted(", ".join(header), 10 * SHOWN_CELL) if header else "nothing"
        problem = "missing" if missing[0] not in header else "there twice"
        raise InputError(
            f"column {missing[0]} is {problem}; the header has {found}",
            where=f"{path}:1",
            fix=f"the header must name {', '.join(columns)}",
        )


def quoted(cell: str, letters: int = SHOWN_CELL) -> str:
    """A cell as a message shows it: printable, and cut where it is long."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in cell[:letters])
    return f"{shown}…" if len(cell) > letters else shown


def number(where: str, row: Row, column: str) -> float:
    """A finite number. Raises InputError."""
    try:
        value = float(row[column])
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{column} is {described(row[column])}", where=where, fix="give a number")
    return value


def described(cell: str | None) -> str:
    """What a message says a cell is; a row that ends early has none."""
    return f"'{quoted(cell)}'" if cell else "empty"


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
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InputError(f"the file cannot be read: {error}", where=str(path), fix=fix) from error
