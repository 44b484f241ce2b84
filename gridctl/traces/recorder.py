"""Recorder: live requests written down as they end, so that yesterday's traffic can be replayed.

A recording is a folder: `recording.json`, and per worker segments of native rows in order of their end
(`worker-0-0001.jsonl`) with what the router saw beside them (`worker-0-0001.decisions`: length and bytes per row, in
the same order; the bytes are the router's own), and which engines its numbers mean (`engines-3.json` for generation 3
of the plan). Decides when a segment is full and what happens when the disk is: the
recording stops, is cut back to its last whole row and says why, and no request is harmed. Holds no prompt text unless
it is given some. Times count from the recording's start, which the header says.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from gridctl.errors import InputError
from gridctl.traces.recorded import (
    DECISIONS,
    ENGINES,
    HEADER,
    LENGTH,
    ROWS,
    SUFFIX,
    Recorded,
    RecordedEngine,
    RecordingHeader,
)
from gridctl.units import NS_PER_MS

BUFFER_BYTES: Final = 64 << 10
BUFFER_ROWS: Final = 64
"""Rows are written out together: one call of the encoder for all of them."""
SEGMENT_BYTES: Final = 256 << 20
_LARGEST_ID: Final = (1 << 63) - 1
_MULTIPLIER: Final = 6364136223846793005  # Knuth's for 64 bits: a long period, so made-up ids do not meet
LARGEST_BYTES: Final = 16 << 30
"""What one worker writes at most, unless told otherwise: hours of a busy gateway, not a full disk by surprise."""


def start_recording(
    folder: Path, *, started_unix_ns: int, block_tokens: int = 0, keeps_prompts: bool = False
) -> RecordingHeader:
    """Make the folder and its header. Raises InputError when there is something of that name or it cannot be made."""
    if folder.suffix != SUFFIX:
        raise InputError(
            f"a recording is a folder whose name ends in {SUFFIX}",
            where=str(folder),
            fix=f"name it {folder.name}{SUFFIX}",
        )
    header = RecordingHeader(
        gridctl_recording="v1",
        started_unix_ns=started_unix_ns,
        block_tokens=block_tokens,
        keeps_prompts=keeps_prompts,
    )
    try:
        folder.mkdir(mode=0o700, parents=True)
        scratch = folder / f"{HEADER}.part"
        scratch.write_bytes(msgspec.json.encode(header) + b"\n")
        scratch.replace(folder / HEADER)
    except FileExistsError:
        raise InputError("there is something of that name", where=str(folder), fix="choose another name") from None
    except OSError as error:
        raise InputError(
            f"no recording can be made here: {error.strerror}", where=str(folder), fix="choose a folder you can write"
        ) from None
    return header


class Recorder:
    """One worker's part of a recording; not for several threads. `stopped` is why it writes no more, else empty."""

    def __init__(self, folder: Path, worker: int, header: RecordingHeader, *, most_bytes: int = LARGEST_BYTES) -> None:
        self.folder = folder
        self.header = header
        self.stopped = ""
        self.rows = 0
        self._worker = worker
        self._left = most_bytes
        self._segment = 0
        self._size = 0
        self._encoder = msgspec.json.Encoder()
        self._kept: list[Recorded] = []
        self._seen: list[bytes] = []
        self._kept_bytes = 0
        """Of what the router saw and of prompts: the rest of a row is small."""
        self._files: tuple[int, int] | None = None

    def timestamp(self, unix_ns: int) -> float:
        """Milliseconds from the recording's start; what arrived before it counts as its first moment."""
        return max(0, unix_ns - self.header.started_unix_ns) / NS_PER_MS

    def keep_engines(self, generation: int, engines: Sequence[RecordedEngine]) -> None:
        """Say which engines the numbers in decisions of this generation mean; the first worker to say so is enough."""
        try:
            write_engines(self.folder, generation, engines)
        except OSError as error:
            self._stop(f"the recording cannot be written: {error.strerror}")

    def add(self, row: Recorded, seen: bytes = b"") -> None:
        """Keep a request and what the router saw when it decided; written with the next full buffer or `flush`."""
        if self.stopped:
            return
        if row.prompt and not self.header.keeps_prompts:
            row.prompt = ""
        if row.hash_ids:
            row.hash_ids = fitting_blocks(row.hash_ids, row.input_length, self.header.block_tokens)
        self._kept.append(row)
        self._seen.append(LENGTH.pack(len(seen)))
        self._seen.append(seen)
        self._kept_bytes += len(seen) + len(row.prompt)
        self.rows += 1
        if len(self._kept) >= BUFFER_ROWS or self._kept_bytes >= BUFFER_BYTES:
            self.flush()

    def flush(self) -> None:
        """Hand what is kept to the system: it then survives the end of this process."""
        if self.stopped or not self._kept:
            return
        rows, decisions = self._encoder.encode_lines(self._kept), b"".join(self._seen)
        self._forget()
        size = len(rows) + len(decisions)
        if size > self._left:
            self._stop("the recording has reached its largest size")
            return
        try:
            lines, seen = self._open()
            _append(seen, decisions)
            _append(lines, rows)
        except OSError as error:
            self._stop(f"the recording cannot be written: {error.strerror}")
            return
        self._left -= size
        self._size += size
        if self._size >= SEGMENT_BYTES:
            self._close()

    def close(self) -> None:
        """Write what is left; the recorder takes no more."""
        self.flush()
        self._close()
        self.stopped = self.stopped or "closed"

    def _open(self) -> tuple[int, int]:
        if self._files is None:
            while self._files is None:
                self._segment += 1
                stem = self.folder / f"worker-{self._worker}-{self._segment:04d}"
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
                try:  # a worker that follows a dead one goes on with the next number
                    lines = os.open(f"{stem}{ROWS}", flags, 0o600)
                except FileExistsError:
                    continue
                self._files = lines, os.open(f"{stem}{DECISIONS}", flags, 0o600)
            self._size = 0
        return self._files

    def _close(self) -> None:
        files, self._files = self._files, None
        for file in files or ():
            os.close(file)

    def _stop(self, why: str) -> None:
        self.stopped = why
        self._forget()
        self._close()

    def _forget(self) -> None:
        self._kept.clear()
        self._seen.clear()
        self._kept_bytes = 0


def write_engines(folder: Path, generation: int, engines: Sequence[RecordedEngine]) -> None:
    """Write the engines of a generation, whole or not at all."""
    path = folder / ENGINES.format(generation)
    if path.exists():
        return
    scratch = path.with_name(f"{path.name}.{os.getpid()}.part")
    scratch.write_bytes(msgspec.json.encode(engines) + b"\n")
    os.replace(scratch, path)


def fitting_blocks(ids: list[int], tokens: int, block_tokens: int) -> list[int]:
    """As many block ids as `tokens` fill, for blocks were cut from an estimate and tokens are the engine's count: some
    are left out at the end, or made up from the last one, so that equal prompts keep equal ids. Each is under 2**63.

    >>> fitting_blocks([7, 8, 9], 65, 64), len(fitting_blocks([7], 300, 64))
    ([7, 8], 4)
    """
    if block_tokens < 1:
        return []
    fitted = [number & _LARGEST_ID for number in ids[: -(-tokens // block_tokens)]]
    while len(fitted) < tokens // block_tokens:
        fitted.append((fitted[-1] * _MULTIPLIER + 1) & _LARGEST_ID)
    return fitted


def _append(file: int, data: bytes) -> None:
    """All of it or nothing: what a full disk took of it is cut off again."""
    before = os.fstat(file).st_size
    try:
        left = data
        while left:
            left = left[os.write(file, left) :]
    except OSError:
        os.ftruncate(file, before)
        raise
