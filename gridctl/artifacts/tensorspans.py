"""Tensor spans: how a file is cut for deltas and block indexes, and how wide the elements of each cut are.

Cuts start at tensors, so that a tensor is the same bytes whichever file it lies in and whatever it is called. Must not
trust the header: `safetensors` has checked that its tensors cover the data exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gridctl.artifacts.safetensors import read_header

WIDTHS = {"BF16": 2, "F16": 2, "F32": 4}
"""Bytes per element of the formats whose bits, read as integers, grow with the number; other formats go by byte."""


@dataclass(frozen=True, slots=True)
class TensorSpan:
    """A tensor's bytes in its file."""

    name: str
    dtype: str
    start: int
    length: int

    @property
    def width(self) -> int:
        """Bytes per element as a delta sees them: 2 or 4 for floats that can be subtracted, else 1."""
        return WIDTHS.get(self.dtype, 1)


def tensor_spans(path: Path) -> tuple[int, tuple[TensorSpan, ...]]:
    """Bytes before the first tensor, and the tensors by place. Raises: InputError for a header that lies."""
    header = read_header(path)
    spans = tuple(
        TensorSpan(tensor.name, tensor.dtype, tensor.start, tensor.end - tensor.start)
        for tensor in header.tensors.values()
    )
    return header.header_bytes, spans


def pieces(path: Path, is_weight: bool, block_bytes: int) -> Iterator[tuple[TensorSpan | None, int, int]]:
    """The file as (tensor or None, offset in the file, bytes) in order; each at most `block_bytes`, cut at tensors."""
    start, spans = tensor_spans(path) if is_weight else (path.stat().st_size, ())
    for offset in range(0, start, block_bytes):
        yield None, offset, min(block_bytes, start - offset)
    for span in spans:
        for offset in range(0, span.length, block_bytes):
            yield span, span.start + offset, min(block_bytes, span.length - offset)
