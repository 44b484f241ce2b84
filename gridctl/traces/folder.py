"""TraceFolder: a trace on disk as columns, read part by part: what tens of millions of requests are replayed from.

    NAME.columns/trace.json         the header: names, sizes, which columns there are
    NAME.columns/COLUMN.npy         NumPy arrays; arrival_ns, input_tokens and output_tokens always, and of origin,
                                    workload, tenant, model and session those that some request says
    NAME.columns/span_offsets.npy   request i has the spans offsets[i] … offsets[i + 1] − 1 of prefix blocks,
    NAME.columns/span_first.npy     span s the consecutive block ids from first[s] on,
    NAME.columns/span_blocks.npy    so many of them

A request takes 36 bytes with origin, workload, tenant and session, 8 more where the trace has prefix blocks, and 12 for
each span. Nothing read from a file is trusted: whatever a replay indexes with is checked as it is read.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from gridctl.errors import InputError
from gridctl.traces.columns import MAX_TOKENS
from gridctl.traces.trace import UNSAID, BlockFacts, Spans, Trace

HEADER = "trace.json"
SUFFIX = ".columns"
VERSION = "columns-v1"
COLUMN_TYPES: dict[str, str] = {
    "arrival_ns": "<i8",
    "input_tokens": "<i4",
    "output_tokens": "<i4",
    "origin": "<i4",
    "workload": "<i4",
    "tenant": "<i4",
    "model": "<i4",
    "session": "<i8",
    "span_offsets": "<i8",
    "span_first": "<i8",
    "span_blocks": "<i4",
}
NAMED = ("origin", "workload", "tenant", "model")
OPTIONAL = (*NAMED, "session")
_SPANS = ("span_offsets", "span_first", "span_blocks")
_LARGEST_ID = 1 << 62

Ints = NDArray[np.int64]
Count = Annotated[int, msgspec.Meta(ge=0)]


class FolderHeader(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`trace.json`. `columns` are those that have a file; the others are unsaid throughout."""

    gridctl_trace: str
    requests: Annotated[int, msgspec.Meta(ge=1)]
    columns: tuple[str, ...]
    name: str = ""
    block_tokens: Annotated[int, msgspec.Meta(ge=0, le=1 << 20)] = 0
    last_ns: Count = 0
    spans: Count = 0
    blocks: Count = 0
    lowest_block: int = 0
    highest_block: int = -1
    origins: tuple[str, ...] = ()
    workloads: tuple[str, ...] = ()
    tenants: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def is_folder(path: str | Path) -> bool:
    """Whether there is a trace of columns."""
    return (Path(path) / HEADER).is_file()


class TraceFolder:
    """A trace in a folder. It is read with plain reads, so that no page of it counts as this program's memory."""

    def __init__(self, path: str | Path, *, limit: int | None = None) -> None:
        """Open it; `limit` keeps the first requests. Raises InputError when files are missing or of a wrong size."""
        self.path = Path(path)
        self.header = _header(self.path / HEADER)
        self._files = {name: _Column(self.path, name) for name in self.header.columns}
        lengths = dict.fromkeys(self.header.columns, self.header.requests)
        lengths |= {"span_offsets": self.header.requests + 1}
        lengths |= dict.fromkeys(_SPANS[1:], self.header.spans)
        for name, file in self._files.items():
            if file.length != lengths[name]:
                raise self._damaged(f"{name}.npy has {file.length:,} entries, {lengths[name]:,} are announced")
        missing = [name for name in ("arrival_ns", "input_tokens", "output_tokens") if name not in self._files]
        if self.header.spans:
            missing += [name for name in _SPANS if name not in self._files]
        if missing:
            raise self._damaged(f"the header names no column {missing[0]}")
        self._length = min(self.header.requests, limit or self.header.requests)

    def __len__(self) -> int:
        return self._length

    @property
    def name(self) -> str:
        return self.header.name or self.path.name.removesuffix(SUFFIX)

    @property
    def block_tokens(self) -> int:
        return self.header.block_tokens

    @property
    def origins(self) -> tuple[str, ...]:
        return self.header.origins

    @property
    def workloads(self) -> tuple[str, ...]:
        return self.header.workloads

    @property
    def tenants(self) -> tuple[str, ...]:
        return self.header.tenants

    @property
    def models(self) -> tuple[str, ...]:
        return self.header.models

    @property
    def notes(self) -> tuple[str, ...]:
        return self.header.notes

    @property
    def duration_ns(self) -> int:
        """From the first arrival to the last."""
        if self._length == self.header.requests:
            return self.header.last_ns
        return int(self._files["arrival_ns"].read(self._length - 1, self._length)[0])

    @property
    def blocks(self) -> BlockFacts:
        """As the header says, of the whole trace."""
        header = self.header
        return BlockFacts(header.blocks, header.lowest_block, header.highest_block) if header.blocks else BlockFacts()

    def rows(self, start: int, stop: int) -> Trace:
        """The requests `start … stop − 1` without prefix blocks."""
        arrival = self._read("arrival_ns", start, stop)
        tokens = {name: self._read(name, start, stop).astype(np.int64) for name in ("input_tokens", "output_tokens")}
        if np.any(np.diff(arrival) < 0) or arrival[0] < 0 or arrival[-1] > self.header.last_ns:
            raise self._damaged(f"arrivals of requests {start:,} to {stop:,} are not in order")
        for name, column in tokens.items():
            if column.min() < 1 or column.max() > MAX_TOKENS:
                raise self._damaged(f"{name} outside 1 to {MAX_TOKENS:,} in requests {start:,} to {stop:,}")
        return Trace(
            name=self.name,
            arrival_ns=arrival,
            input_tokens=tokens["input_tokens"],
            output_tokens=tokens["output_tokens"],
            origin=self._named("origin", start, stop),
            workload=self._named("workload", start, stop),
            tenant=self._named("tenant", start, stop),
            model=self._named("model", start, stop),
            session=self._read("session", start, stop),
            block_offsets=np.zeros(stop - start + 1, np.int64),
            block_ids=np.zeros(0, np.int64),
            block_tokens=self.block_tokens,
            origins=self.origins,
            workloads=self.workloads,
            tenants=self.tenants,
            models=self.models,
            notes=self.notes,
        )

    def spans(self, start: int, stop: int) -> Spans:
        """The prefix blocks of the requests `start … stop − 1`."""
        if not self.header.spans:
            return Spans(np.zeros(stop - start + 1, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64))
        offsets = self._files["span_offsets"].read(start, stop + 1)
        if np.any(np.diff(offsets) < 0) or offsets[0] < 0 or offsets[-1] > self.header.spans:
            raise self._damaged(f"span_offsets of requests {start:,} to {stop:,} are out of range")
        first = self._files["span_first"].read(int(offsets[0]), int(offsets[-1]))
        blocks = self._files["span_blocks"].read(int(offsets[0]), int(offsets[-1])).astype(np.int64)
        if len(first) and (
            blocks.min() < 1
            or first.min() < self.header.lowest_block
            or first.max() > _LARGEST_ID
            or (first + blocks).max() > self.header.highest_block + 1
        ):
            raise self._damaged(f"prefix blocks of requests {start:,} to {stop:,} are out of range")
        return Spans(offsets - offsets[0], first, blocks)

    def whole(self) -> Trace:
        """All of it, in memory."""
        from dataclasses import replace

        from gridctl.traces.spans import ids_of

        offsets, ids = ids_of(self.spans(0, len(self)))
        return replace(self.rows(0, len(self)), block_offsets=offsets, block_ids=ids)

    def _read(self, name: str, start: int, stop: int) -> NDArray[Any]:
        if name in self._files:
            return self._files[name].read(start, stop)
        return np.full(stop - start, UNSAID, COLUMN_TYPES[name])

    def _named(self, name: str, start: int, stop: int) -> NDArray[np.int32]:
        column = self._read(name, start, stop)
        if column.min() < UNSAID or column.max() >= len(getattr(self.header, f"{name}s")):
            raise self._damaged(f"{name} of requests {start:,} to {stop:,} names nothing")
        return column

    def _damaged(self, why: str) -> InputError:
        return _damaged(self.path, why)


class _Column:
    """One file, read at any place."""

    def __init__(self, folder: Path, name: str) -> None:
        if name not in COLUMN_TYPES:
            raise _damaged(folder, f"the header names a column {name!r}")
        self._path = folder / f"{name}.npy"
        self._type = np.dtype(COLUMN_TYPES[name])
        try:
            with self._path.open("rb") as file:
                version = np.lib.format.read_magic(file)
                shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
                self._head = file.tell()
                size = os.fstat(file.fileno()).st_size
        except (OSError, ValueError) as error:
            raise _damaged(folder, f"{name}.npy cannot be read: {error}") from None
        if version != (1, 0) or dtype != self._type or is_fortran or len(shape) != 1:
            raise _damaged(folder, f"{name}.npy is not a column of {self._type.str}")
        self.length = int(shape[0])
        if size != self._head + self.length * self._type.itemsize:
            raise _damaged(folder, f"{name}.npy has {size:,} bytes: it was cut short or added to")

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """The entries `start … stop − 1`."""
        return np.fromfile(self._path, self._type, count=stop - start, offset=self._head + start * self._type.itemsize)


def _header(path: Path) -> FolderHeader:
    try:
        header = msgspec.json.decode(path.read_bytes(), type=FolderHeader)
    except OSError as error:
        raise _damaged(path.parent, f"{HEADER} cannot be read: {error.strerror}") from None
    except msgspec.MsgspecError as error:
        raise _damaged(path.parent, f"{HEADER} is wrong: {error}") from None
    if header.gridctl_trace != VERSION:
        raise InputError(
            f"a trace of version {header.gridctl_trace!r}: this gridctl reads {VERSION}",
            where=str(path),
            fix="install a newer gridctl",
        )
    return header


def _damaged(folder: Path, why: str) -> InputError:
    return InputError(
        f"the trace is damaged: {why}", where=str(folder), fix="write it again: gridctl trace convert IN OUT.columns"
    )
