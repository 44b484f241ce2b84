"""Writer: a Trace as JSON lines, in gridctl's own format (exact round trip) or as Mooncake rows.

The native file's first line is a header object, the rest one request per line: Mooncake's fields plus origin,
workload, tenant, model, session and prompt where the trace says them. Times are decimal milliseconds, exact to the
nanosecond. Invariant: the same Trace gives the same bytes, gzip included, and a file is there whole or not at all.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from itertools import chain, pairwise
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from gridctl.errors import InputError, StoreError
from gridctl.traces.folder import SUFFIX
from gridctl.traces.folderwriter import write_columns
from gridctl.traces.lines import STDIN
from gridctl.traces.trace import UNSAID, Trace
from gridctl.units import NS_PER_MS

ROWS_AT_ONCE = 16_384
GZIP_LEVEL = 6


class Header(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """First line of a native trace. The tables fix the numbering of names; rows may use names beyond them."""

    gridctl_trace: str
    name: str = ""
    block_tokens: Annotated[int, msgspec.Meta(ge=0, le=1 << 20)] = 0
    requests: int | None = None
    origins: tuple[str, ...] = ()
    workloads: tuple[str, ...] = ()
    tenants: tuple[str, ...] = ()
    models: tuple[str, ...] = ()


def write_trace(trace: Trace, path: str | Path, *, to: Literal["native", "mooncake"] = "native") -> None:
    """Write a trace to a file (gzip when its name ends in `.gz`, a folder of columns when it ends in `.columns`), or to
    standard output for `-`.

    `mooncake` keeps arrival, lengths and hash_ids only. Raises `InputError` when the place cannot be written and
    `StoreError` when the disk is full; an existing file is then left as it was.
    """
    if to == "native" and Path(path).suffix == SUFFIX:
        write_columns([trace], path)
        return
    _write(_pieces(trace, to), path)


def write_stream(header: Header, parts: Iterable[Trace], path: str | Path) -> None:
    """Write a trace that comes in parts, in order of arrival and with one numbering of names, in the native format.

    Only one part is in memory at a time. Places and errors as in `write_trace`.
    """
    if Path(path).suffix == SUFFIX:
        write_columns(parts, path)
        return
    encoded = (piece for part in parts for piece in encoded_rows(part))
    _write(chain([_header_line(header)], encoded), path)


def _write(pieces: Iterable[bytes], path: str | Path) -> None:
    if str(path) == STDIN:
        for piece in pieces:
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
        return
    target, is_gzip = Path(os.path.realpath(path)), Path(path).suffix == ".gz"
    if target.is_dir():
        raise InputError("a folder, not a file", where=str(target), fix="name the file to write")
    if target.exists() and not target.is_file():
        _write_into(pieces, target, compress=is_gzip)
        return
    try:
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    except OSError as error:
        raise InputError(
            f"cannot write here: {error.strerror}", where=str(target), fix="choose a folder you can write to"
        ) from None
    try:
        with os.fdopen(handle, "wb") as raw:
            _write_all(pieces, raw, compress=is_gzip)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
    except OSError as error:
        raise StoreError(
            f"the trace was not written: {error.strerror}", where=str(target), fix="free some space"
        ) from None
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def _write_into(pieces: Iterable[bytes], device: Path, *, compress: bool) -> None:
    """Write to a pipe or a device, which must not be replaced by a file of its name."""
    try:
        with device.open("wb") as raw:
            _write_all(pieces, raw, compress=compress)
    except OSError as error:
        raise StoreError(
            f"the trace was not written: {error.strerror}", where=str(device), fix="write to a file"
        ) from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _write_all(pieces: Iterable[bytes], raw: BinaryIO, *, compress: bool) -> None:
    if not compress:
        raw.writelines(pieces)
        return
    with gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=GZIP_LEVEL, mtime=0) as packed:
        for piece in pieces:
            packed.write(piece)


def _pieces(trace: Trace, to: str) -> Iterator[bytes]:
    if to == "native":
        yield _header_line(
            Header(
                gridctl_trace="v1",
                name=trace.name,
                block_tokens=trace.block_tokens,
                requests=len(trace),
                origins=trace.origins,
                workloads=trace.workloads,
                tenants=trace.tenants,
                models=trace.models,
            )
        )
    yield from encoded_rows(trace, native=to == "native")


def _header_line(header: Header) -> bytes:
    return msgspec.json.encode(header) + b"\n"


def encoded_rows(trace: Trace, *, native: bool = True) -> Iterator[bytes]:
    """A trace's requests as lines, without a header, some at a time."""
    for first in range(0, len(trace), ROWS_AT_ONCE):
        yield _rows(trace, first, min(first + ROWS_AT_ONCE, len(trace)), native=native).encode()


def _rows(trace: Trace, first: int, last: int, *, native: bool) -> str:
    fields = [
        _milliseconds(trace.arrival_ns[first:last]),
        [f',"input_length":{count}' for count in trace.input_tokens[first:last].tolist()],
        [f',"output_length":{count}' for count in trace.output_tokens[first:last].tolist()],
    ]
    if len(trace.block_ids) or not native:
        fields.append(_hash_ids(trace, first, last))
    if native:
        for column in ("origin", "workload", "tenant", "model"):
            fields += _named(column, getattr(trace, column)[first:last], getattr(trace, f"{column}s"))
        sessions = trace.session[first:last]
        if np.any(sessions != UNSAID):
            fields.append([f',"session":{number}' if number >= 0 else "" for number in sessions.tolist()])
        if trace.prompts is not None:
            fields.append([f',"prompt":{_json_text(text)}' if text else "" for text in trace.prompts[first:last]])
    return "".join("".join(row) + "}\n" for row in zip(*fields, strict=True))


def _milliseconds(arrivals: NDArray[np.int64]) -> list[str]:
    whole, rest = np.divmod(arrivals, NS_PER_MS)
    return [
        f'{{"timestamp":{ms}.{ns:06d}'.rstrip("0") if ns else f'{{"timestamp":{ms}'
        for ms, ns in zip(whole.tolist(), rest.tolist(), strict=True)
    ]


def _hash_ids(trace: Trace, first: int, last: int) -> list[str]:
    offsets = trace.block_offsets[first : last + 1]
    ids = list(map(str, trace.block_ids[offsets[0] : offsets[-1]].tolist()))
    bounds = (offsets - offsets[0]).tolist()
    return [f',"hash_ids":[{",".join(ids[a:b])}]' for a, b in pairwise(bounds)]


def _named(column: str, numbers: NDArray[np.int32], names: tuple[str, ...]) -> list[list[str]]:
    if not np.any(numbers != UNSAID):
        return []
    texts = [f',"{column}":{_json_text(name)}' for name in names] + [""]  # UNSAID (−1) finds the last entry
    return [[texts[number] for number in numbers.tolist()]]


def _json_text(text: str) -> str:
    return msgspec.json.encode(text).decode()
