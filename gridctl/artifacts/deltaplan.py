"""Delta plan: the steps that make a model of another, as they are written at the end of a delta.

A delta is one file: frames, then the plan (JSON, zstd), its length unpacked and packed (8 bytes each, little-endian),
and `MAGIC`. Decides what a sound plan is: it reaches only into the base's files, uses each frame once, and makes no
more bytes than it says. Must not read models.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from gridctl.artifacts.contents import checked_name, is_digest
from gridctl.artifacts.planes import SPARSE_FRAMES
from gridctl.artifacts.zstandard import compress, decompress
from gridctl.errors import InputError

MAGIC = b"gridctl-delta-1\n"
BLOCK_BYTES = 4 << 20
MAX_PLAN_BYTES = 64 << 20


class Copy(msgspec.Struct, tag="c", array_like=True, frozen=True):
    """Bytes of a base file, as they are."""

    source: int
    offset: int
    length: int


class Changed(msgspec.Struct, tag="d", array_like=True, frozen=True):
    """At most one block: the base's bytes plus a difference of `width` planes, one frame each of `frames` bytes; with a
    `count`, the frames tell where the planes' bytes that are not zero are, and which."""

    source: int
    offset: int
    length: int
    width: int
    frames: tuple[int, ...]
    count: int = 0


class Fresh(msgspec.Struct, tag="f", array_like=True, frozen=True):
    """At most one block without a base: its bytes in as many planes as `frames`; no frames means stored as it is."""

    length: int
    frames: tuple[int, ...]


Step = Copy | Changed | Fresh


class Told(msgspec.Struct, frozen=True):
    """A file as both sides know it; `steps` make a target's file from first byte to last."""

    name: str
    size: int
    digest: str
    steps: tuple[Step, ...] = ()


class Plan(msgspec.Struct, frozen=True):
    """From which manifest to which, and how."""

    base: str
    target: str
    sources: tuple[Told, ...]
    files: tuple[Told, ...]


def plan_bytes(plan: Plan) -> bytes:
    """The end of a delta that `read_plan` reads."""
    text = msgspec.json.encode(plan)
    packed = compress(text)
    return packed + len(text).to_bytes(8, "little") + len(packed).to_bytes(8, "little") + MAGIC


def read_plan(delta: Path) -> Plan:
    """The plan at a delta's end. Raises: InputError when it is none, or one that would reach outside."""
    where = str(delta)
    with delta.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        trailer = 16 + len(MAGIC)
        file.seek(max(0, size - trailer))
        end = file.read()
        length, packed = int.from_bytes(end[:8], "little"), int.from_bytes(end[8:16], "little")
        if end[16:] != MAGIC or not 0 < length <= MAX_PLAN_BYTES or not 0 < packed <= size - trailer:
            raise InputError("not a delta, or cut short", where=where, fix="fetch it again")
        file.seek(size - trailer - packed)
        text = decompress(file.read(packed), length)
    try:
        plan = msgspec.json.decode(text, type=Plan)
    except msgspec.DecodeError as error:
        raise InputError(f"the delta's plan is damaged: {error}", where=where, fix="fetch it again") from None
    _refuse_unsound(plan, size - trailer - packed, where)
    return plan


def frame_bytes(file: Told) -> int:
    """Bytes of the frames of one file."""
    return sum(sum(step.frames) or step.length for step in file.steps if not isinstance(step, Copy))


def _refuse_unsound(plan: Plan, frames: int, where: str) -> None:
    """Refuse a plan that reaches outside the base, outside the frames, or makes more bytes than it says."""
    is_sound = is_digest(plan.base) and is_digest(plan.target)
    used = sum(frame_bytes(told) for told in plan.files)
    for told in (*plan.sources, *plan.files):
        checked_name(told.name, where)
        is_sound = is_sound and is_digest(told.digest) and told.size >= 0
        is_sound = is_sound and (not told.steps or sum(step.length for step in told.steps) == told.size)
        for step in told.steps:
            is_sound = is_sound and step.length >= 0
            if not isinstance(step, Fresh):
                is_inside = 0 <= step.source < len(plan.sources) and step.offset >= 0
                is_sound = is_sound and is_inside and step.offset + step.length <= plan.sources[step.source].size
            if not isinstance(step, Copy):
                width = step.width if isinstance(step, Changed) else max(1, len(step.frames))
                is_sound = is_sound and step.length <= BLOCK_BYTES and width in (1, 2, 4) and step.length % width == 0
                is_sound = is_sound and all(0 < size <= 2 * BLOCK_BYTES for size in step.frames)
                if isinstance(step, Changed):
                    is_sound = is_sound and 0 <= step.count <= step.length
                    is_sound = is_sound and len(step.frames) == (SPARSE_FRAMES if step.count else width)
    if not is_sound or used != frames:
        raise InputError("the delta's plan is unsound", where=where, fix="fetch it again")
