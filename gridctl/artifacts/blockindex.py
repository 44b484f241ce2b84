"""Block index: a weight file as blocks with digests, so that a site fetches only the blocks it lacks.

A side artefact of the layer, at a tag made of the layer's digest: finding it costs no search, and a registry without
referrers serves it too. Blocks begin at tensors and are known by content, so moved and renamed tensors are found. The
index needs no trust: a file made by it must have the layer's digest.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from gridctl.artifacts.contents import ModelFile
from gridctl.artifacts.delta import is_tensor_file
from gridctl.artifacts.manifest import Descriptor
from gridctl.artifacts.tensorspans import pieces
from gridctl.errors import InputError

INDEX_ARTIFACT = "application/vnd.gridctl.block-index.v1"
INDEX_LAYER = "application/vnd.gridctl.block-index.v1+json"
BLOCK_BYTES = 1 << 20
MAX_INDEX_BYTES = 256 << 20
MOST_PER_REQUEST = 64 << 20
"""Bytes asked for at once: a broken connection costs no more than this to repeat."""


class BlockIndex(msgspec.Struct, frozen=True):
    """The blocks of one layer from its first byte to its last: bytes and SHA-256 of each."""

    layer: str
    size: int
    blocks: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of a file: `length` bytes of a file here at `offset`, or, with no `path`, of the registry's blob."""

    length: int
    path: Path | None = None
    offset: int = 0


def index_tag(layer_digest: str) -> str:
    """The tag at which the index of a layer is."""
    return f"idx-{layer_digest[7:23]}"


def build_index(file: ModelFile) -> BlockIndex:
    """The index of a weight file. Raises: InputError when it is no sound safetensors file."""
    return BlockIndex(file.digest, file.size, tuple((length, digest) for length, digest, _ in _hashed(file)))


def read_index(data: bytes, layer: Descriptor, where: str) -> BlockIndex:
    """An index as a registry gave it. Raises: InputError unless it covers exactly this layer."""
    try:
        index = msgspec.json.decode(data, type=BlockIndex)
    except msgspec.DecodeError as error:
        raise InputError(f"the block index is damaged: {error}", where=where, fix="push the model again") from None
    is_sound = all(0 < length <= BLOCK_BYTES and len(digest) == 64 for length, digest in index.blocks)
    if not is_sound or index.layer != layer.digest or sum(length for length, _ in index.blocks) != layer.size:
        raise InputError("the block index is not of this layer", where=where, fix="push the model again")
    return index


def known_blocks(files: Iterable[ModelFile]) -> dict[str, tuple[Path, int]]:
    """Where each block of these files is, by SHA-256; reads them all once."""
    return {digest: (file.path, offset) for file in files for _length, digest, offset in _hashed(file)}


def segments(index: BlockIndex, known: Mapping[str, tuple[Path, int]]) -> tuple[Segment, ...]:
    """How to make the layer from what is here and what is not, neighbours joined."""
    joined: list[Segment] = []
    for length, digest in index.blocks:
        found = known.get(digest)
        last = joined[-1] if joined else None
        if found is None:
            if last is not None and last.path is None and last.length + length <= MOST_PER_REQUEST:
                joined[-1] = Segment(last.length + length)
            else:
                joined.append(Segment(length))
        elif last is not None and last.path == found[0] and last.offset + last.length == found[1]:
            joined[-1] = Segment(last.length + length, last.path, last.offset)
        else:
            joined.append(Segment(length, *found))
    return tuple(joined)


def bytes_missing(parts: Iterable[Segment]) -> int:
    """Bytes that must come from the registry."""
    return sum(part.length for part in parts if part.path is None)


def _hashed(file: ModelFile) -> Iterator[tuple[int, str, int]]:
    with file.path.open("rb", buffering=0) as opened:
        for _span, offset, length in pieces(file.path, is_tensor_file(file), BLOCK_BYTES):
            block = os.pread(opened.fileno(), length, offset)
            yield length, hashlib.sha256(block).hexdigest(), offset
