"""Tensor spans: where each tensor of a safetensors file begins and ends, and how wide its elements are.

Decides how a file is cut for deltas and block indexes: cuts start at tensors, so that a tensor is the same bytes
whichever file it lies in and whatever it is called. Trusts nothing in the header: spans must cover the data exactly.

Source: safetensors format (8-byte little-endian header length, JSON header, data).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gridctl.errors import InputError

MAX_HEADER_BYTES = 16 << 20
MAX_TENSORS = 200_000
PREFIX_BYTES = 8
WIDTHS = {"BF16": 2, "F16": 2, "F32": 4}
"""Bytes per element of the formats whose bits, read as integers, grow with the number; other formats go by byte."""


@dataclass(frozen=True, slots=True)
class TensorSpan:
    """A tensor's bytes in its file. `width` is 2 or 4 for floats that can be subtracted, else 1."""

    name: str
    dtype: str
    start: int
    length: int

    @property
    def width(self) -> int:
        """Bytes per element as the delta sees them."""
        return WIDTHS.get(self.dtype, 1)


def tensor_spans(path: Path) -> tuple[int, tuple[TensorSpan, ...]]:
    """Bytes before the first tensor, and the tensors by place. Raises: InputError for a header that lies."""
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(PREFIX_BYTES)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == PREFIX_BYTES else -1
        if not 0 < length <= min(MAX_HEADER_BYTES, size - PREFIX_BYTES):
            raise _lie(path, "the header's length is beyond the file")
        text = file.read(length)
    data_start = PREFIX_BYTES + length
    try:
        header = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise _lie(path, f"the header is not JSON: {str(error)[:100]}") from None
    if not isinstance(header, dict) or len(header) > MAX_TENSORS:
        raise _lie(path, "the header is not an object of tensors")
    header.pop("__metadata__", None)
    spans = sorted(
        (_span(path, name, entry, data_start) for name, entry in header.items()),
        key=lambda span: (span.start, span.length),
    )
    position = data_start
    for span in spans:
        if span.start != position:
            raise _lie(path, f"tensor {span.name[:80]!r} overlaps another or leaves a gap")
        position += span.length
    if position != size:
        raise _lie(path, "the tensors do not end where the file does")
    return data_start, tuple(spans)


def pieces(path: Path, is_weight: bool, block_bytes: int) -> Iterator[tuple[TensorSpan | None, int, int]]:
    """The file as (tensor or None, offset in the file, bytes) in order; each at most `block_bytes`, cut at tensors."""
    start, spans = (path.stat().st_size, ()) if not is_weight else tensor_spans(path)
    for offset in range(0, start, block_bytes):
        yield None, offset, min(block_bytes, start - offset)
    for span in spans:
        for offset in range(0, span.length, block_bytes):
            yield span, span.start + offset, min(block_bytes, span.length - offset)


def _span(path: Path, name: str, entry: object, data_start: int) -> TensorSpan:
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    dtype = entry.get("dtype") if isinstance(entry, dict) else None
    is_pair = isinstance(offsets, list) and len(offsets) == 2 and all(type(offset) is int for offset in offsets)
    if not is_pair or not isinstance(offsets, list) or not isinstance(dtype, str) or not 0 <= offsets[0] <= offsets[1]:
        raise _lie(path, f"tensor {name[:80]!r} has no valid offsets")
    return TensorSpan(name, dtype, data_start + offsets[0], offsets[1] - offsets[0])


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice")
    return found


def _lie(path: Path, what: str) -> InputError:
    return InputError(
        f"not a sound safetensors file: {what}", where=str(path), fix="take the file from the source again"
    )
