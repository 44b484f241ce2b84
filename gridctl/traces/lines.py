"""Lines: a file or standard input as blocks of whole lines, gzip or plain, told apart by their first bytes.

Decides what is text. Must not know any trace format. Invariant: a block ends at the end of a line, no line is longer
than `MAX_LINE_BYTES`, and every block knows the number of its first line, so that errors name `file:line`.
"""

from __future__ import annotations

import gzip
import io
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from gridctl.errors import InputError, NotFoundError

BLOCK_BYTES = 2 << 20
MAX_LINE_BYTES = 4 << 20  # a prompt of a million tokens; a longer line is not a request

_GZIP_MAGIC = b"\x1f\x8b"
_UTF8_MARK = b"\xef\xbb\xbf"
_FOREIGN_MAGIC: tuple[tuple[bytes, str, str], ...] = (
    (b"\x28\xb5\x2f\xfd", "zstd-compressed", "decompress it first: zstd -d FILE"),
    (b"\xfd7zXZ", "xz-compressed", "decompress it first: xz -d FILE"),
    (b"BZh", "bzip2-compressed", "decompress it first: bzip2 -d FILE"),
    (b"PK\x03\x04", "a zip archive", "unpack it first: unzip FILE"),
    (b"PAR1", "a Parquet file", "export it as CSV or JSON lines"),
)
STDIN = "-"


@dataclass(frozen=True, slots=True)
class Block:
    """Whole lines; `first_line` counts from 1."""

    data: bytes
    first_line: int

    def line_of(self, row: int) -> int:
        """The line number of the block's `row`-th line that is not blank (from 0)."""
        seen = -1
        for offset, line in enumerate(self.data.split(b"\n")):
            if line.strip():
                seen += 1
                if seen == row:
                    return self.first_line + offset
        return self.first_line

    def count_lines(self) -> int:
        """How many lines are not blank."""
        return sum(1 for line in self.data.split(b"\n") if line.strip())

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Line number and bytes of each line that is not blank."""
        for offset, line in enumerate(self.data.split(b"\n")):
            if line.strip():
                yield self.first_line + offset, line.strip()


def display_name(path: str | Path) -> str:
    """What errors call the source."""
    return "<stdin>" if str(path) == STDIN else str(path)


def read_blocks(path: str | Path) -> Iterator[Block]:
    """The source's lines in blocks of about `BLOCK_BYTES`; memory is bounded by the block and the longest line.

    Raises `NotFoundError` for a missing file and `InputError` for a folder, a gzip cut short, binary data or a line
    over `MAX_LINE_BYTES`.
    """
    where = display_name(path)
    line = 1
    carry = b""
    with _opened(path, where) as stream:
        while chunk := _read(stream, where):
            if b"\0" in chunk:
                raise _binary(where, line + chunk[: chunk.index(b"\0")].count(b"\n"))
            if line == 1 and not carry:
                chunk = chunk.removeprefix(_UTF8_MARK)
            first_end = chunk.find(b"\n")
            if len(carry) + (len(chunk) if first_end < 0 else first_end) > MAX_LINE_BYTES:
                raise InputError(
                    f"a line is longer than {MAX_LINE_BYTES >> 20} MiB",
                    where=f"{where}:{line}",
                    fix="a trace holds one request per line",
                )
            last_end = chunk.rfind(b"\n") + 1
            if not last_end:
                carry += chunk
                continue
            data = carry + chunk[:last_end]
            carry = chunk[last_end:]
            yield Block(data, line)
            line += data.count(b"\n")
    if carry:
        yield Block(carry, line)


@contextmanager
def _opened(path: str | Path, where: str) -> Iterator[BinaryIO]:
    if str(path) == STDIN:
        yield _plain(sys.stdin.buffer, where)
        return
    try:
        raw = open(path, "rb")  # noqa: SIM115 (closed below)
    except FileNotFoundError:
        raise NotFoundError("no such trace file", where=where, fix=f"ls {Path(path).parent}") from None
    except IsADirectoryError:
        raise InputError("a folder, not a trace file", where=where, fix="name one file") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(
            f"the trace cannot be read: {reason}", where=where, fix="check the path and its mode"
        ) from None
    with raw:
        yield _plain(raw, where)


def _plain(raw: BinaryIO, where: str) -> BinaryIO:
    assert isinstance(raw, io.BufferedReader)
    start = raw.peek(8)[:8]
    if start.startswith(_GZIP_MAGIC):
        return gzip.GzipFile(fileobj=raw, mode="rb")  # type: ignore[return-value]
    for magic, name, fix in _FOREIGN_MAGIC:
        if start.startswith(magic):
            raise InputError(f"{name}: a trace is text, plain or gzip", where=where, fix=fix)
    return raw


def _read(stream: BinaryIO, where: str) -> bytes:
    try:
        return stream.read(BLOCK_BYTES)
    except EOFError:
        raise InputError(
            "the gzip file is cut short: its end is missing", where=where, fix="copy or download the file again"
        ) from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise InputError(
            f"the gzip file is damaged: {error}", where=where, fix="copy or download the file again"
        ) from None
    except OSError as error:
        raise InputError(f"the trace cannot be read: {error.strerror}", where=where, fix="check the disk") from None


def _binary(where: str, line: int) -> InputError:
    return InputError(
        "binary data where text was expected",
        where=f"{where}:{line}",
        fix="a trace is CSV or JSON lines in UTF-8, plain or gzip",
    )
