"""Reader: any known trace file into a Trace, its format recognised by its content and never by its name.

Decides which format a file is in, and says what it is instead when it is none (a manifest, a table of something else).
Parsing belongs to `tabular` and `jsonrows`. Invariant: a file is read whole and valid, or not at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import msgspec

from gridctl.errors import InputError, UsageError, did_you_mean
from gridctl.traces.blocksize import LARGEST, PUBLISHED, BlockSize
from gridctl.traces.columns import NAME_COLUMNS, Columns, Names
from gridctl.traces.folder import TraceFolder, is_folder
from gridctl.traces.folderwriter import write_columns, writing
from gridctl.traces.jsonrows import read_jsonl
from gridctl.traces.lines import STDIN, Block, display_name, read_blocks
from gridctl.traces.recording import is_recording, read_recording
from gridctl.traces.streamed import NeedsWholeTraceError, StreamedColumns
from gridctl.traces.tabular import KNOWN_HEADERS, csv_format, read_csv
from gridctl.traces.trace import Trace, Traffic
from gridctl.traces.writer import Header

FORMATS = ("native", "columns", "recording", "mooncake", "dynamo", "agent", "azure", "burstgpt")
_CSV = ("azure", "burstgpt")
_KNOWN = f"JSON lines with timestamp, input_length, output_length (mooncake, dynamo, native); CSV with {KNOWN_HEADERS}"
_ENGINE_BLOCKS = (16, 64, 32, 128, 256, 512)
_SUFFIXES = (".gz", ".jsonl", ".json", ".csv")


@dataclass(frozen=True, slots=True)
class _Recognised:
    format_name: str
    header: Header | None = None


def read_trace(
    path: str | Path,
    *,
    format: str | None = None,  # noqa: A002 (the word operators use)
    limit: int | None = None,
    sort: bool = False,
    block_tokens: int | None = None,
) -> Trace:
    """Read a trace file, or standard input for `-`; gzip or plain.

    `format` insists on one of `FORMATS` instead of accepting any; `limit` keeps the first requests; `sort` accepts
    rows in any order (ties keep theirs); `block_tokens` declares the size of prefix blocks. Cost O(n), one block of
    rows in memory beside the columns. Raises `InputError` with file:line, or `NotFoundError` for a missing file.
    """
    _check_arguments(format, limit, block_tokens)
    if is_folder(path):
        _insist(format, "columns", display_name(path))
        return TraceFolder(path, limit=limit).whole()
    if is_recording(path):
        _insist(format, "recording", display_name(path))
        return read_recording(path, limit=limit)
    source = _Source(path, format, block_tokens)
    columns = Columns(source.where, sort=sort, limit=limit, block_size=source.block_size)
    source.fill(columns)
    trace = columns.build(source.name)
    if source.header:
        _check_complete(source.header, len(trace), limit, source.where)
        trace = replace(trace, block_tokens=trace.block_tokens or source.header.block_tokens)
    return trace


def open_traffic(
    path: str | Path, *, limit: int | None = None, sort: bool = False, block_tokens: int | None = None
) -> Traffic:
    """A trace to be read part by part: a folder of columns is opened, any other format read as `read_trace` does."""
    if is_folder(path):
        _check_arguments(None, limit, block_tokens)
        return TraceFolder(path, limit=limit)
    return read_trace(path, limit=limit, sort=sort, block_tokens=block_tokens)


def convert_to_columns(
    path: str | Path,
    target: str | Path,
    *,
    format: str | None = None,  # noqa: A002
    limit: int | None = None,
    sort: bool = False,
    block_tokens: int | None = None,
) -> TraceFolder:
    """Write a trace of any format as a folder of columns, in memory only a block of rows where the format allows.

    Rows to be sorted, sessions named by numbers and texts at once, and block ids above 2**63 − 1 need the whole trace.
    Raises as `read_trace` and `write_columns` do.
    """
    _check_arguments(format, limit, block_tokens)
    if sort or is_folder(path) or is_recording(path) or str(path) == STDIN:
        trace = read_trace(path, format=format, limit=limit, sort=sort, block_tokens=block_tokens)
        write_columns([trace], target)
        return TraceFolder(target)
    source = _Source(path, format, block_tokens)
    try:
        with writing(target) as folder:
            columns = StreamedColumns(folder, source.where, limit=limit, block_size=source.block_size)
            source.fill(columns)
            columns.finish(source.name, source.header.block_tokens if source.header else 0)
            if source.header:
                _check_complete(source.header, folder.requests, limit, source.where)
    except NeedsWholeTraceError:
        trace = read_trace(path, format=format, limit=limit, block_tokens=block_tokens)
        write_columns([trace], target)
    return TraceFolder(target)


class _Source:
    """A trace file whose format is recognised, its rows still to be read."""

    def __init__(self, path: str | Path, format_name: str | None, block_tokens: int | None) -> None:
        self.where = display_name(path)
        self._blocks = read_blocks(path)
        self._first = _first_block(self._blocks, self.where)
        recognised = _recognise(self._first, self.where)
        _insist(format_name, recognised.format_name, self.where)
        self._format_name = recognised.format_name
        self.header = recognised.header
        self.name = self.header.name if self.header and self.header.name else _stem(path)
        declared = block_tokens or (self.header.block_tokens if self.header else 0) or None
        preferred = _ENGINE_BLOCKS if recognised.format_name == "agent" else PUBLISHED
        self.block_size = BlockSize(declared, preferred)

    def fill(self, columns: Columns) -> None:
        """Read all rows into the columns."""
        first = self._first
        if self.header:
            first = _after_header(first)
            for column in NAME_COLUMNS:
                columns.names[column] = Names(getattr(self.header, f"{column}s"))
        everything = chain([first], self._blocks)
        if self._format_name in _CSV:
            read_csv(everything, self._format_name, self.where, columns)
        else:
            read_jsonl(everything, self.where, columns)


def detect_format(path: str | Path) -> str:
    """Which of `FORMATS` a file is in."""
    where = display_name(path)
    if is_folder(path):
        return "columns"
    if is_recording(path):
        return "recording"
    return _recognise(_first_block(read_blocks(path), where), where).format_name


def _check_arguments(format_name: str | None, limit: int | None, block_tokens: int | None) -> None:
    if format_name is not None and format_name not in FORMATS:
        close = did_you_mean(format_name, FORMATS)
        raise UsageError(
            f"unknown trace format {format_name!r}",
            where="--format",
            fix=f"did you mean {close!r}?" if close else f"one of {', '.join(FORMATS)}",
        )
    if limit is not None and limit < 1:
        raise UsageError(f"a limit of {limit} requests", where="--limit", fix="--limit 1000")
    if block_tokens is not None and not 1 <= block_tokens <= LARGEST:
        raise UsageError(f"blocks of {block_tokens} tokens", where="--block-tokens", fix="--block-tokens 512")


def _first_block(blocks: Iterator[Block], where: str) -> Block:
    for block in blocks:
        if block.data.strip():
            return block
    raise InputError("the file is empty", where=where, fix="check how it was exported")


def _recognise(block: Block, where: str) -> _Recognised:
    number, line = next(block.lines())
    place = f"{where}:{number}"
    if line.startswith(b"{"):
        return _recognise_json(line, place)
    if line.startswith(b"["):
        raise InputError("a JSON array, not JSON lines", where=place, fix="one object per line: jq -c '.[]' FILE")
    if _looks_like_manifest(line):
        raise _is_manifest(place)
    found = csv_format(line)
    if found:
        return _Recognised(found)
    if b"," in line:
        shown = line[:80].decode("utf-8", errors="replace")
        raise InputError(
            f"a CSV of another format: its header is {shown!r}", where=place, fix=f"known formats: {_KNOWN}"
        )
    raise InputError("not a trace of a known format", where=place, fix=f"known formats: {_KNOWN}")


def _recognise_json(line: bytes, place: str) -> _Recognised:
    try:
        keys = msgspec.json.decode(line, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # the row reader says what is wrong with the line
        return _Recognised("mooncake")
    if "gridctl_trace" in keys:
        return _Recognised("native", _header(line, place))
    if "apiVersion" in keys or "kind" in keys:
        raise _is_manifest(place)
    if keys.keys() & {"session_id", "delay", "delay_ms", "isl", "text_input", "request_id"}:
        return _Recognised("dynamo")
    if keys.keys() & {"input_length", "output_length"}:
        return _Recognised("mooncake")
    if keys.keys() & {"input_tokens", "output_tokens"}:
        return _Recognised("agent")
    shown = ", ".join(ascii(key)[1:-1] for key in list(keys)[:6]) or "none"
    raise InputError(f"JSON lines of another format: fields {shown}", where=place, fix=f"known formats: {_KNOWN}")


def _header(line: bytes, place: str) -> Header:
    try:
        header = msgspec.json.decode(line, type=Header)
    except msgspec.DecodeError as error:
        raise InputError(f"the trace header is wrong: {error}", where=place, fix="see: gridctl help traces") from None
    if header.gridctl_trace != "v1":
        raise InputError(
            f"a trace of version {header.gridctl_trace!r}: this gridctl reads v1",
            where=place,
            fix="install a newer gridctl",
        )
    return header


def _looks_like_manifest(line: bytes) -> bool:
    return line.startswith((b"---", b"#", b"apiVersion:", b"kind:", b"metadata:", b"spec:", b"%YAML"))


def _is_manifest(place: str) -> InputError:
    return InputError("a manifest, not a trace", where=place, fix="apply it: gridctl apply -f FILE")


def _insist(wanted: str | None, found: str, where: str) -> None:
    if wanted is None or wanted == found:
        return
    # the JSON formats are one family: which of them a line is cannot be told when it has only their common fields
    if wanted in _CSV or found in _CSV or {"native", "columns"} & {wanted, found}:
        raise InputError(f"the content is {found}, not {wanted}", where=where, fix=f"--format {found}, or no --format")


def _after_header(block: Block) -> Block:
    number, _ = next(block.lines())
    data = block.data
    for _ in range(block.first_line, number + 1):
        data = data.partition(b"\n")[2]
    return Block(data, number + 1)


def _check_complete(header: Header, requests: int, limit: int | None, where: str) -> None:
    if header.requests is None or (limit is not None and limit <= header.requests):
        return
    if header.requests != requests:
        raise InputError(
            f"the header announces {header.requests:,} requests, {requests:,} are here",
            where=where,
            fix="the file is cut short or was edited: copy it again, or remove 'requests' from its first line",
        )


def _stem(path: str | Path) -> str:
    if str(path) == STDIN:
        return "stdin"
    name = Path(path).name
    for suffix in _SUFFIXES:
        name = name.removesuffix(suffix)
    return name or Path(path).name
