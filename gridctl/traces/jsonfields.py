"""JSON fields: what a line of Mooncake, Dynamo/AIPerf, agent and gridctl's own JSON lines may hold.

Decides what each field means. Fields of the family, any of the names on a line:
    arrival   timestamp | timestamp_ms | created_time (ms) · session_offset_ms (ms since the session's start) ·
              delay | delay_ms (ms after the session's previous row)
    lengths   input_length | input_tokens | isl · output_length | output_tokens | osl
    prefix    hash_ids · text  prompt | text_input · right answer  answer_key | prompt_cluster · session | session_id · origin, workload, tenant, model
Sources: kvcache-ai/Mooncake traces (512-token blocks); ai-dynamo/dynamo `MooncakeRow`; ai-dynamo/aiperf trace replay.
Milliseconds become exact nanoseconds: as floats below 2**31 ms, where a double resolves 1 ns, as decimals above.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from gridctl.errors import InputError
from gridctl.traces.lines import Block

ARRIVAL = ("timestamp", "timestamp_ms", "created_time", "session_offset_ms")
DELAY = ("delay", "delay_ms")
INPUT = ("input_length", "input_tokens", "isl")
OUTPUT = ("output_length", "output_tokens", "osl")
SESSION = ("session", "session_id")
PROMPT = ("prompt", "text_input")
ANSWER = ("answer_key", "prompt_cluster")


class Row(msgspec.Struct, gc=False):
    """One line; unknown fields are ignored."""

    timestamp: float | None = None
    input_length: int | None = None
    output_length: int | None = None
    hash_ids: list[int] | None = None
    timestamp_ms: float | None = None
    created_time: float | None = None
    session_offset_ms: float | None = None
    delay: float | None = None
    delay_ms: float | None = None
    input_tokens: int | None = None
    isl: int | None = None
    output_tokens: int | None = None
    osl: int | None = None
    session: int | str | None = None
    session_id: int | str | None = None
    origin: str | None = None
    workload: str | None = None
    tenant: str | None = None
    model: str | None = None
    prompt: str | None = None
    text_input: str | None = None
    answer_key: int | str | None = None
    prompt_cluster: int | str | None = None


_ROWS = msgspec.json.Decoder(Row)


def decode_rows(block: Block, where: str) -> list[Row]:
    """The rows of a block, one to a line."""
    try:
        rows = _ROWS.decode_lines(block.data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _decode_singly(block, where)
    # the decoder takes objects that span lines, or share one; then rows are not lines and errors would misname them
    if len(rows) != block.data.count(b"\n") + (not block.data.endswith(b"\n")) and len(rows) != block.count_lines():
        return _decode_singly(block, where)
    return rows


def _decode_singly(block: Block, where: str) -> list[Row]:
    """Each line by itself, which finds the one that is not a row."""
    rows = []
    last = block.first_line + block.data.count(b"\n")
    for number, line in block.lines():
        try:
            rows.append(_ROWS.decode(line))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _bad_line(line, f"{where}:{number}", str(error), is_last=number == last) from None
    return rows


def _bad_line(line: bytes, place: str, reason: str, *, is_last: bool) -> InputError:
    # a last line that ends in a newline is numbered before `last`, so this one has none
    if is_last and not line.endswith(b"}"):
        return InputError("the file ends within this line: it is cut short", where=place, fix="copy the file again")
    for name, meaning in ((b"NaN", "NaN"), (b"Infinity", "infinity")):
        if name in line and "malformed" in reason:
            return InputError(f"{meaning} is not a number", where=place, fix="correct or remove the line")
    if line in (b"{", b"[") or line.startswith(b"["):
        return InputError("not one JSON object per line", where=place, fix="write JSON lines: jq -c '.[]' FILE")
    return InputError(f"not a request: {reason}", where=place, fix="correct or remove the line")


def mentions(block: Block, names: Sequence[str]) -> bool:
    return any(f'"{name}"'.encode() in block.data for name in names)


def present(block: Block, names: Sequence[str]) -> list[str]:
    """Which of the fields occur in the block; a name inside a text only costs time, its rows hold None."""
    return [name for name in names if f'"{name}"'.encode() in block.data]


def first_values(rows: list[Row], names: Sequence[str]) -> list[Any]:
    """Per row the first field of `names` that is there."""
    if not names:
        return [None] * len(rows)
    first, *others = names
    values = [getattr(row, first) for row in rows]
    for name in others:
        values = [getattr(row, name) if value is None else value for value, row in zip(values, rows, strict=True)]
    return values
