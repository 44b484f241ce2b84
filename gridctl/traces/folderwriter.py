"""FolderWriter: a trace written as a folder of columns, part by part; `folder` says what is in it.

Decides which columns get a file: the optional ones only once some request says them. Invariant: the folder is there
whole or not at all; what stood there before, if it was a trace, goes only when the new one is complete.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np
from numpy.typing import NDArray

from gridctl.errors import InputError, StoreError
from gridctl.traces.folder import COLUMN_TYPES, HEADER, NAMED, OPTIONAL, SUFFIX, VERSION, FolderHeader, is_folder
from gridctl.traces.trace import UNSAID, Spans, Trace

ROWS_AT_ONCE = 65_536


def write_columns(parts: Iterable[Trace], path: str | Path, *, name: str | None = None) -> int:
    """Write a trace that comes in parts, in order of arrival, as a folder; returns how many requests it has.

    Each part's names continue those of the part before; the last part's block size and notes are the trace's. Arrival
    times count from the first request. Prompt texts are not kept. Raises InputError when the place cannot be written
    or holds something else, StoreError when the disk is full: what was there is then left as it was.
    """
    last: Trace | None = None
    with writing(path) as folder:
        for part in parts:
            for start in range(0, len(part), ROWS_AT_ONCE):
                stop = min(len(part), start + ROWS_AT_ONCE)
                folder.append(part.rows(start, stop), part.spans(start, stop))
            last = part
        if last is None or not folder.requests:
            raise InputError("the trace is empty: no request in it", where=str(path), fix="check where it comes from")
        notes = last.notes if folder.keeps_all(last) else (*last.notes, "prompt texts are not kept in columns")
        folder.finish(name or last.name, last, notes)
        return folder.requests


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[FolderWriter]:
    """A folder to be written at `path`; it appears there when `finish` was called."""
    target = Path(os.path.realpath(path))
    if target.exists() and not is_folder(target):
        raise InputError("something else is there", where=str(target), fix=f"name a folder to make, NAME{SUFFIX}")
    try:
        aside = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    except OSError as error:
        raise InputError(
            f"cannot write here: {error.strerror}", where=str(target), fix="choose a folder you can write to"
        ) from None
    try:
        with contextlib.closing(FolderWriter(aside)) as writer:
            yield writer
        if writer.is_finished:
            _put_in_place(aside, target)
    except OSError as error:
        raise StoreError(
            f"the trace was not written: {error.strerror}", where=str(target), fix="free some space"
        ) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _put_in_place(aside: Path, target: Path) -> None:
    aside.chmod(0o755)
    if target.exists():
        old = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
        target.rename(old)
        aside.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    else:
        aside.rename(target)


class FolderWriter:
    """The files of a folder being written."""

    def __init__(self, folder: Path) -> None:
        self.requests = 0
        self.is_finished = False
        self._folder = folder
        self._files: dict[str, _ColumnFile] = {}
        self._first_ns = self._last_ns = 0
        self._spans = self._blocks = 0
        self._lowest, self._highest = 1 << 62, -1

    def append(self, rows: Trace, spans: Spans) -> None:
        """Write the next requests."""
        if not self.requests:
            self._first_ns = int(rows.arrival_ns[0])
        arrival = rows.arrival_ns - self._first_ns
        assert arrival[0] >= self._last_ns, "parts come in order of arrival"
        self._last_ns = int(arrival[-1])
        self._write("arrival_ns", arrival)
        self._write("input_tokens", rows.input_tokens)
        self._write("output_tokens", rows.output_tokens)
        for name in OPTIONAL:
            column = getattr(rows, name)
            if name in self._files or np.any(column != UNSAID):
                self._write(name, column)
        if len(spans.first) or "span_first" in self._files:
            self._write_spans(rows, spans)
        self.requests += len(rows)

    def _write_spans(self, rows: Trace, spans: Spans) -> None:
        if "span_offsets" not in self._files:
            self._file("span_offsets").fill(0, self.requests)
        self._file("span_offsets").write(spans.offsets[:-1] + self._spans)
        self._file("span_first").write(spans.first)
        self._file("span_blocks").write(spans.blocks)
        self._spans += len(spans.first)
        self._blocks += int(spans.blocks.sum())
        if len(spans.first):
            self._lowest = min(self._lowest, int(spans.first.min()))
            self._highest = max(self._highest, int((spans.first + spans.blocks).max()) - 1)

    def _write(self, name: str, column: NDArray[Any]) -> None:
        if name not in self._files and self.requests:
            self._file(name).fill(UNSAID, self.requests)
        self._file(name).write(column)

    def _file(self, name: str) -> _ColumnFile:
        if name not in self._files:
            self._files[name] = _ColumnFile(self._folder / f"{name}.npy", COLUMN_TYPES[name])
        return self._files[name]

    def keeps_all(self, part: Trace) -> bool:
        """Whether nothing of the part is lost."""
        return not part.prompts

    def finish(self, name: str, last: Trace, notes: tuple[str, ...]) -> None:
        """Write the header; names and block size are the last part's."""
        if self._spans:
            self._file("span_offsets").write(np.array([self._spans]))
        for file in self._files.values():
            file.finish()
        header = FolderHeader(
            gridctl_trace=VERSION,
            requests=self.requests,
            columns=tuple(column for column in COLUMN_TYPES if column in self._files),
            name=name,
            block_tokens=last.block_tokens,
            last_ns=self._last_ns,
            spans=self._spans,
            blocks=self._blocks,
            lowest_block=self._lowest if self._spans else 0,
            highest_block=self._highest,
            notes=notes,
            **{f"{column}s": getattr(last, f"{column}s") for column in NAMED},
        )
        (self._folder / HEADER).write_bytes(msgspec.json.encode(header) + b"\n")
        self.is_finished = True

    def close(self) -> None:
        """Let go of the files."""
        for file in self._files.values():
            file.close()


class _ColumnFile:
    """One `.npy` file whose length is written into its header at the end."""

    def __init__(self, path: Path, kind: str) -> None:
        self._file: BinaryIO = path.open("wb")
        self._type = np.dtype(kind)
        self._length = 0
        self._write_head()

    def _write_head(self) -> None:
        # NumPy pads this header for the largest shape, so it is as long at the end as at the beginning.
        description = {"descr": self._type.str, "fortran_order": False, "shape": (self._length,)}
        np.lib.format.write_array_header_1_0(self._file, description)

    def write(self, column: NDArray[Any]) -> None:
        content = np.ascontiguousarray(column, self._type)
        self._length += len(content)
        if len(content):
            self._file.write(content.view(np.uint8).data)

    def fill(self, value: int, count: int) -> None:
        for start in range(0, count, ROWS_AT_ONCE):
            self.write(np.full(min(ROWS_AT_ONCE, count - start), value))

    def finish(self) -> None:
        head = self._file.seek(0, os.SEEK_CUR) - self._length * self._type.itemsize
        self._file.seek(0)
        self._write_head()
        assert self._file.tell() == head, "the header keeps its length"

    def close(self) -> None:
        self._file.close()
