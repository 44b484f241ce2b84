"""Recorded: what a recording's files hold, and their names. Data only; `recorder` writes it, `recording` reads it.

Apart from the recorder, because that is compiled where a build asks for it, and the decoder makes its classes from the
names of their types, which compiled classes do not keep.
"""

from __future__ import annotations

import struct
from typing import Annotated, Final

import msgspec

SUFFIX: Final = ".recording"
HEADER: Final = "recording.json"
ROWS: Final = ".jsonl"
DECISIONS: Final = ".decisions"
ENGINES: Final = "engines-{}.json"
LENGTH: Final = struct.Struct("<I")


class RecordingHeader(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`recording.json`. `block_tokens` is what a hash in `hash_ids` stands for."""

    gridctl_recording: str
    started_unix_ns: int
    block_tokens: Annotated[int, msgspec.Meta(ge=0, le=1 << 20)] = 0
    keeps_prompts: bool = False


class Recorded(msgspec.Struct, omit_defaults=True, gc=False):
    """One live request: a native trace row, and beside it what became of the request. Milliseconds from the
    recording's start, or spans where the name says so; `output_length` is what was expected if nothing came."""

    timestamp: float
    input_length: int
    output_length: int
    hash_ids: list[int] = []
    origin: str = ""
    workload: str = ""
    tenant: str = ""
    model: str = ""
    session: int | None = None
    prompt: str = ""
    request_id: str = ""
    outcome: str = ""
    reason: str = ""
    status: int = 0
    site: str = ""
    cluster: str = ""
    variant: str = ""
    ttft_ms: float | None = None
    e2e_ms: float | None = None
    predicted_ttft_ms: float | None = None
    usd: float | None = None
    attempts: int = 1
    is_estimated: bool = False
    generation: int = 0


class RecordedEngine(msgspec.Struct, frozen=True, kw_only=True):
    """An engine of one generation of the plan; its place in the list is its number in the decisions."""

    site: str
    cluster: str
    variant: str
    replica: int
    model: str = ""
    tier: str = ""
    batch_slots: int = 0
    kv_capacity_tokens: int = 0
