"""Tabular: the published CSV formats, Azure LLM inference traces 2023 and 2024 and BurstGPT, as rows.

Decides which header is which format and what its columns mean. Sources: Azure/AzurePublicDataset
(`TIMESTAMP,ContextTokens,GeneratedTokens`, UTC, 100 ns); HPMLL/BurstGPT (`Timestamp` in seconds, `Request tokens`,
`Response tokens`, `Model`; 0 response tokens is a request that failed; later releases add `Session ID`).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from gridctl.errors import InputError
from gridctl.traces.cells import Cells, date_times_as_ns, integers, seconds_as_ns, split_cells
from gridctl.traces.columns import Columns, Rows
from gridctl.traces.lines import Block

AZURE = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
BURSTGPT = ("Timestamp", "Model", "Request tokens", "Response tokens")
KNOWN_HEADERS = (
    "TIMESTAMP,ContextTokens,GeneratedTokens (azure) and Timestamp,Model,Request tokens,Response tokens,… (burstgpt)"
)


def csv_format(header: bytes) -> str | None:
    """`azure` or `burstgpt` for a header line of theirs, else None."""
    names = header_names(header)
    if all(name in names for name in AZURE):
        return "azure"
    if all(name in names for name in BURSTGPT):
        return "burstgpt"
    return None


def header_names(header: bytes) -> list[str]:
    """The column names of a header line."""
    return [name.strip().strip('"') for name in header.decode("utf-8", errors="replace").strip().split(",")]


def read_csv(blocks: Iterator[Block], format_name: str, where: str, columns: Columns) -> None:
    """Add every row of a CSV, whose first line is its header, to `columns`."""
    failed = 0
    names: list[str] = []
    for block in blocks:
        if not names:
            header_line, header = next(block.lines())
            names = header_names(header)
            _refuse_repeated(names, f"{where}:{header_line}")
            block = _after(block, header_line)
        cells = split_cells(block, len(names), where)
        if not len(cells):
            continue
        if format_name == "azure":
            columns.add(_azure_rows(cells, names))
        else:
            rows, skipped = _burstgpt_rows(cells, names, columns)
            failed += skipped
            columns.add(rows)
        if columns.is_full:
            break
    if failed:
        columns.notes.append(f"{failed:,} failed requests (0 response tokens) left out")


def _after(block: Block, line: int) -> Block:
    data = block.data
    for _ in range(block.first_line, line + 1):
        data = data.partition(b"\n")[2]
    return Block(data, line + 1)


def _refuse_repeated(names: list[str], where: str) -> None:
    for name in (*AZURE, *BURSTGPT):
        if names.count(name) > 1:
            raise InputError(f"the column {name!r} appears twice", where=where, fix="keep one of them")


def _azure_rows(cells: Cells, names: list[str]) -> Rows:
    return Rows(
        arrival_ns=date_times_as_ns(cells, names.index("TIMESTAMP"), "TIMESTAMP"),
        input_tokens=integers(cells, names.index("ContextTokens"), "ContextTokens"),
        output_tokens=integers(cells, names.index("GeneratedTokens"), "GeneratedTokens"),
        line_of=cells.block.line_of,
    )


def _burstgpt_rows(cells: Cells, names: list[str], columns: Columns) -> tuple[Rows, int]:
    output = integers(cells, names.index("Response tokens"), "Response tokens")
    kept = np.flatnonzero(output != 0)
    models = columns.names["model"]
    model = np.array([models.number(text) for text in cells.strings(names.index("Model"))], np.int32)
    session = _sessions(cells, names, columns)
    rows = Rows(
        arrival_ns=seconds_as_ns(cells, names.index("Timestamp"), "Timestamp")[kept],
        input_tokens=integers(cells, names.index("Request tokens"), "Request tokens")[kept],
        output_tokens=output[kept],
        line_of=lambda row: cells.block.line_of(int(kept[row])),
        names={"model": model[kept]},
        session=None if session is None else session[kept],
    )
    return rows, len(output) - len(kept)


def _sessions(cells: Cells, names: list[str], columns: Columns) -> NDArray[np.int64] | None:
    if "Session ID" not in names:
        return None
    numbers = (
        columns.sessions.number(int(text) if text.isascii() and text.isdigit() and len(text) < 19 else text)
        for text in cells.strings(names.index("Session ID"))
    )
    return np.fromiter(numbers, np.int64, len(cells))
