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
from gridctl.traces.jsonrows import read_jsonl
from gridctl.traces.lines import STDIN, Block, display_name, read_blocks
from gridctl.traces.tabular import KNOWN_HEADERS, csv_format, read_csv
from gridctl.traces.trace import Trace
from gridctl.traces.writer import Header

FORMATS = ("native", "mooncake", "dynamo", "agent", "azure", "burstgpt")
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
    where = display_name(path)
    blocks = read_blocks(path)
    first = _first_block(blocks, where)
    recognised = _recognise(first, where)
    _insist(format, recognised.format_name, where)
    header = recognised.header
    declared = block_tokens or (header.block_tokens if header else 0) or None
    preferred = _ENGINE_BLOCKS if recognised.format_name == "agent" else PUBLISHED
    columns = Columns(where, sort=sort, limit=limit, block_size=BlockSize(declared, preferred))
    if header:
        first = _after_header(first)
        for column in NAME_COLUMNS:
            columns.names[column] = Names(getattr(header, f"{column}s"))
    everything = chain([first], blocks)
    if recognised.format_name in _CSV:
        read_csv(everything, recognised.format_name, where, columns)
    else:
        read_jsonl(everything, where, columns)
    trace = columns.build(header.name if header and header.name else _stem(path))
    if header:
        _check_complete(header, trace, limit, where)
        trace = replace(trace, block_tokens=trace.block_tokens or header.block_tokens)
    return trace


def detect_format(path: str | Path) -> str:
    """Which of `FORMATS` a file is in."""
    where = display_name(path)
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
    if wanted in _CSV or found in _CSV or "native" in (wanted, found):
        raise InputError(f"the content is {found}, not {wanted}", where=where, fix=f"--format {found}, or no --format")


def _after_header(block: Block) -> Block:
    number, _ = next(block.lines())
    data = block.data
    for _ in range(block.first_line, number + 1):
        data = data.partition(b"\n")[2]
    return Block(data, number + 1)


def _check_complete(header: Header, trace: Trace, limit: int | None, where: str) -> None:
    if header.requests is None or (limit is not None and limit <= header.requests):
        return
    if header.requests != len(trace):
        raise InputError(
            f"the header announces {header.requests:,} requests, {len(trace):,} are here",
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
