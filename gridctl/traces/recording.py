"""Recording: what a `Recorder` wrote, read back as a trace in order of arrival, or as decisions.

Decides how segments become one trace; must not interpret what the router saw. A last line that a power cut left
half-written is left out and noted; anything else that is wrong is an error with file and line.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from gridctl.errors import InputError
from gridctl.traces.blocksize import BlockSize
from gridctl.traces.columns import Columns
from gridctl.traces.jsonrows import read_jsonl
from gridctl.traces.lines import Block, read_blocks
from gridctl.traces.recorded import DECISIONS, ENGINES, HEADER, LENGTH, ROWS, Recorded, RecordedEngine, RecordingHeader
from gridctl.traces.trace import Trace


def is_recording(path: str | Path) -> bool:
    """Whether the path is a folder that a recorder wrote."""
    return (Path(path) / HEADER).is_file()


def read_header(folder: str | Path) -> RecordingHeader:
    """The recording's header. Raises InputError when it is damaged or of another version."""
    path = Path(folder) / HEADER
    try:
        header = msgspec.json.decode(path.read_bytes(), type=RecordingHeader)
    except (OSError, msgspec.MsgspecError) as error:
        raise InputError(f"not a recording: {error}", where=str(path), fix="name the folder of a recording") from None
    if header.gridctl_recording != "v1":
        raise InputError(
            f"a recording of version {header.gridctl_recording!r}: this gridctl reads v1",
            where=str(path),
            fix="read it with the gridctl that wrote it",
        )
    return header


def read_recording(folder: str | Path, *, limit: int | None = None) -> Trace:
    """The recorded requests in order of arrival, whichever worker served them; the first arrival becomes 0.

    Raises InputError for a recording without a request, and with file:line for a damaged one."""
    header, where = read_header(folder), str(folder)
    columns = Columns(where, sort=True, limit=limit, block_size=BlockSize(header.block_tokens or None, ()))
    segments = _segments(folder)
    if not any(segment.stat().st_size for segment in segments):
        raise InputError("nothing was recorded yet", where=where, fix="send some requests through the gateway first")
    for segment in segments:
        read_jsonl(_whole_lines(segment, columns.notes), str(segment), columns)
    return columns.build(Path(folder).resolve().stem)


def read_decisions(folder: str | Path) -> Iterator[tuple[Recorded, bytes]]:
    """Each recorded request, worker by worker in order of their end, with what the router saw of it.

    Raises InputError when rows and decisions of a segment do not belong together."""
    read_header(folder)
    rows = msgspec.json.Decoder(Recorded)
    for segment in _segments(folder):
        data, at = b"", 0
        for block in _whole_lines(segment, []):
            for number, line in block.lines():
                end = _end_of_decision(data, at)
                if end is None:
                    # Read after the row: a recorder that is at work writes a decision before its row.
                    data = _decisions(segment)
                    end = _end_of_decision(data, at)
                if end is None:
                    raise InputError(
                        "a row without its decision", where=f"{segment}:{number}", fix="copy the whole folder"
                    )
                try:
                    yield rows.decode(line), data[at + LENGTH.size : end]
                except msgspec.MsgspecError as error:
                    raise InputError(
                        f"not a recorded request: {error}", where=f"{segment}:{number}", fix="remove the line"
                    ) from None
                at = end


def _end_of_decision(data: bytes, at: int) -> int | None:
    """Where the decision that begins at `at` ends; None when it is not all there."""
    begin = at + LENGTH.size
    if begin > len(data):
        return None
    end: int = begin + LENGTH.unpack(data[at:begin])[0]
    return end if end <= len(data) else None


def _decisions(segment: Path) -> bytes:
    path = segment.with_suffix(DECISIONS)
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            f"the decisions of a segment cannot be read: {error.strerror}",
            where=str(path),
            fix="copy the whole folder",
        ) from None


def read_engines(folder: str | Path, generation: int) -> tuple[RecordedEngine, ...]:
    """The engines that decisions of a generation number. Raises InputError when nobody wrote them down."""
    path = Path(folder) / ENGINES.format(generation)
    try:
        return msgspec.json.decode(path.read_bytes(), type=tuple[RecordedEngine, ...])
    except (OSError, msgspec.MsgspecError) as error:
        raise InputError(
            f"which engines generation {generation} had cannot be read: {error}",
            where=str(path),
            fix="copy the whole folder of the recording",
        ) from None


def _segments(folder: str | Path) -> list[Path]:
    """Segments by worker and number; both are numbers, so that worker 10 comes after worker 9."""

    def key(path: Path) -> tuple[int, int]:
        _, worker, number = path.stem.split("-")
        return int(worker), int(number)

    return sorted(Path(folder).glob(f"worker-*-*{ROWS}"), key=key)


def _whole_lines(segment: Path, notes: list[str]) -> Iterator[Block]:
    for block in read_blocks(segment):
        if block.data.endswith(b"\n"):
            yield block
            continue
        notes.append(f"the last line of {segment.name} is cut short and was left out")
        whole = block.data[: block.data.rfind(b"\n") + 1]
        if whole:
            yield Block(whole, block.first_line)
