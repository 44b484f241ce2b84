"""CSV text to items: a header of dotted field names, one resource in each row, for grids kept in a spreadsheet.

Columns are the fields of `spec` (`lat`, `serverless.concurrency`), `name`, `labels.KEY`, and `kind` where the file's
name does not say it (`sites.csv`, `links.csv`). An empty cell leaves the field at its default.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from functools import partial

from msgspec import inspect

from gridctl.errors import InputError, did_you_mean
from gridctl.manifest.cells import columns_of, read_cell, read_text, spec_of
from gridctl.manifest.document import MAX_LINE, Item, Path, Places, check_count, nul_error
from gridctl.manifest.json_reader import line_error
from gridctl.resources import KINDS, Metadata, Resource, kind_named

_Column = tuple[Path, inspect.Type]
_LONGEST_WORD = 64


def read_csv(text: str, name: str, problems: list[InputError]) -> Iterator[Item]:
    """The items of the rows. Bad rows go to `problems` and reading goes on; a bad header raises InputError."""
    longest = max(text.split("\n"), key=len)
    if len(longest) > MAX_LINE:
        raise line_error(f"{name}:{text.count(chr(10), 0, text.index(longest)) + 1}")
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    header = _header(rows, name)
    kind_column = header.index("kind") if "kind" in header else None
    file_kind = None if kind_column is not None else _kind_of_file(name)
    kinds = [file_kind] if file_kind is not None else list(KINDS.values())
    tables = {kind.__name__: _columns(kind, header, name) for kind in kinds}
    _check_header(header, kinds, tables, name)
    line = rows.line_num + 1
    while True:
        try:
            row = next(rows, None)
        except csv.Error as error:
            problems.append(_broken(error, f"{name}:{line}"))
            return
        if row is None:
            return
        check_count(problems, name)
        where, line = f"{name}:{line}", rows.line_num + 1
        if not any(cell.strip() for cell in row):
            continue
        try:
            if len(row) != len(header):
                raise InputError(
                    f"the row has {len(row)} cells, the header {len(header)}",
                    where=where,
                    fix="add or remove commas; put a cell that holds a comma in double quotes",
                )
            kind_name = file_kind.__name__ if file_kind is not None else row[kind_column or 0].strip()
            yield _item(row, header, kind_name, tables, where)
        except InputError as error:
            problems.append(error)


def _header(rows: Iterator[list[str]], name: str) -> list[str]:
    try:
        header = [cell.strip().removeprefix("metadata.").removeprefix("spec.") for cell in next(rows)]
    except csv.Error as error:
        raise _broken(error, f"{name}:1") from None
    if len(header) == 1:
        other = next((mark for mark in (";", "\t", "|") if mark in header[0]), None)
        if other is not None:
            words = {";": "semicolons", "\t": "tabs", "|": "bars"}[other]
            raise InputError(
                f"the columns are separated by {words}", where=f"{name}:1", fix="separate them with commas"
            )
    for position, column in enumerate(header):
        if not column:
            raise InputError(f"column {position + 1} has no name", where=f"{name}:1", fix="name it or remove it")
        if column in header[:position]:
            raise InputError(f"the column {column[:60]!r} is given twice", where=f"{name}:1", fix="remove one")
    return header


def _broken(error: csv.Error, where: str) -> InputError:
    words = str(error)
    if "unexpected end of data" in words:
        return InputError("a quoted cell is never closed", where=where, fix="add the closing double quote")
    if "field larger" in words:
        return InputError("a cell is larger than 128 KiB", where=where, fix="check for a missing double quote")
    return InputError(f"not valid CSV: {words}", where=where, fix="check the double quotes in this row")


def _kind_of_file(name: str) -> type[Resource]:
    stem = name.replace("\\", "/").rpartition("/")[2].rpartition(".")[0]
    for word in re.split(r"[^A-Za-z]+", stem):
        if word and (kind := kind_named(word)) is not None:
            return kind
    plurals = ", ".join(f"{kind.plural}.csv" for kind in KINDS.values())
    raise InputError(
        "neither the file's name nor a column says what kind the rows are",
        where=f"{name}:1",
        fix=f"add a 'kind' column, or name the file {plurals}",
    )


def _columns(kind: type[Resource], header: list[str], name: str) -> dict[str, _Column]:
    """What each column of the header means for a kind; columns it does not have are left out."""
    known: dict[str, _Column] = {}
    for top, struct in (("metadata", Metadata), ("spec", spec_of(kind))):
        known |= {column: ((top, *path), type_) for column, (path, type_) in columns_of(struct).items()}
    meanings: dict[str, _Column] = {}
    for column in header:
        if column in known and not column.endswith("."):
            meanings[column] = known[column]
            continue
        for prefix, (path, type_) in known.items():
            if prefix.endswith(".") and column.startswith(prefix) and len(column) > len(prefix):
                key = read_text(column[len(prefix) :], f"{name}:1")
                meanings[column] = (*path, key), type_
    return meanings


def _check_header(
    header: list[str], kinds: list[type[Resource]], tables: dict[str, dict[str, _Column]], name: str
) -> None:
    for column in header:
        if column in ("kind", "apiVersion") or any(column in meanings for meanings in tables.values()):
            continue
        known = {"name", "kind", *(one for kind in kinds for one in columns_of(spec_of(kind)))}
        close = did_you_mean(column, known) if len(column) <= _LONGEST_WORD else None
        if any(column.lower() in (kind.noun, "id") for kind in kinds):
            close = "name"
        of = f" of a {kinds[0].noun}" if len(kinds) == 1 else ""
        fix = f"did you mean {close}?" if close else "the columns are " + ", ".join(sorted(known))
        raise InputError(f"{column[:60]!r} is not a column{of}", where=f"{name}:1", fix=fix)
    if "name" not in header:
        raise InputError("there is no column 'name'", where=f"{name}:1", fix="add a column with each resource's name")


def _item(row: list[str], header: list[str], kind_name: str, tables: dict[str, dict[str, _Column]], where: str) -> Item:
    meanings = tables.get(kind_name)
    value: dict[str, object] = {"kind": kind_name, "metadata": {}, "spec": {}}
    labels: dict[Path, str] = {}
    for column, cell in zip(header, map(str.strip, row), strict=True):
        if not cell or column == "kind":
            continue
        if "\0" in cell:
            raise nul_error(where)
        if column == "apiVersion":
            value["apiVersion"] = cell
            continue
        if meanings is None:
            continue
        if column not in meanings:
            raise InputError(
                f"a {kind_name} has no column {column[:60]!r}", where=where, fix="leave the cell empty in this row"
            )
        path, type_ = meanings[column]
        inside = value
        for step in path[:-1]:
            inside = inside.setdefault(str(step), {})  # type: ignore[assignment]
        inside[str(path[-1])] = read_cell(cell, type_, where)
        labels[path] = column
    line = int(where.rpartition(":")[2])
    return Item(value, line, partial(_row_places, line), label=partial(_column_label, labels), column=False)


def _row_places(line: int) -> Places:
    return Places({(): (line, 1)})


def _column_label(labels: dict[Path, str], path: Path) -> str:
    """How a field path is called in a CSV: by its column."""
    for end in range(len(path), 0, -1):
        if path[:end] in labels:
            return f"column {labels[path[:end]]}"
    parts = path[1:] if path[:1] in (("spec",), ("metadata",)) else path
    return "column " + ".".join(map(str, parts))
