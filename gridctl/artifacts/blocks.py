"""One step of a plan carried out block by block: rows read from the mapped source, changed, written at their place.

A block is as many whole rows as fit in a million bytes or so of float32, so memory is threads × one block and the
adapters. Which thread takes which block changes nothing: every block writes its own bytes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gridctl.artifacts import rounding
from gridctl.artifacts.rounding import BF16, F16, F32, INT4, Floats, Sums
from gridctl.artifacts.safetensors import Mapped, Tensor
from gridctl.artifacts.variant import FLOATS, Step
from gridctl.errors import InputError

BLOCK_ELEMENTS = 1 << 18
COPY_BYTES = 1 << 22
_INFINITE_BITS = 0x7F800000
_PRECISION = {"F32": F32, "BF16": BF16, "F16": F16}
_EPSILON = {"F32": 2.0**-23, "BF16": 2.0**-7, "F16": 2.0**-10}


@dataclass(frozen=True, slots=True)
class Target:
    """An open file and where in it each output goes."""

    descriptor: int
    places: dict[str, Tensor]

    def put(self, name: str, offset: int, data: memoryview) -> None:
        """Write at `offset` bytes into a tensor."""
        at = self.places[name].start + offset
        while data:
            written = os.pwrite(self.descriptor, data, at)
            data, at = data[written:], at + written


def memory_bytes(steps: Sequence[Step], threads: int, block_elements: int = BLOCK_ELEMENTS) -> int:
    """Bytes that blocks under way and adapters hold at most: weights, codes and scales of a block for each thread."""
    widest = max((step.source.shape[1] for step in steps if not step.is_copy), default=0)
    adapters = sum(step.change.up.nbytes + step.change.down.nbytes for step in steps if step.change)
    return threads * max(3 * 4 * max(block_elements, widest), COPY_BYTES * 2) + adapters


Block = Callable[[], Sums]
"""Carries out a block; Σ w² and Σ error² of each of its rows, no rows for a copy."""


def blocks_of(step: Step, source: Mapped, target: Target, block_elements: int = BLOCK_ELEMENTS) -> Iterator[Block]:
    """The blocks of a step, in order, each to be called once, by any thread."""
    tensor = step.source
    if step.is_copy:
        for start in range(tensor.start, tensor.end, COPY_BYTES):
            yield _copy(step, source, target, start, min(start + COPY_BYTES, tensor.end))
        return
    rows, columns = tensor.shape
    each = max(1, block_elements // columns)
    for first in range(0, rows, each):
        yield _change(step, source, target, first, min(first + each, rows))


def _copy(step: Step, source: Mapped, target: Target, start: int, end: int) -> Block:
    def carry_out() -> Sums:
        tensor = step.source
        data = source.bytes_of(start, end)
        if tensor.dtype in FLOATS:
            _finite(_widened(data, tensor.dtype), tensor)
        target.put(step.outputs[0].name, start - tensor.start, data)
        return np.zeros((0, 2))

    return carry_out


def _change(step: Step, source: Mapped, target: Target, first: int, end: int) -> Block:
    def carry_out() -> Sums:
        tensor = step.source
        columns = tensor.shape[1]
        width = tensor.size // (tensor.shape[0] * columns)
        row_bytes = width * columns
        data = source.bytes_of(tensor.start + first * row_bytes, tensor.start + end * row_bytes)
        values = _widened(data, tensor.dtype).reshape(end - first, columns)
        _finite(values, tensor)
        sums = np.zeros((end - first, 2))
        _merged_and_pruned(step, values, first, sums)
        if step.scheme is None:
            target.put(step.outputs[0].name, first * row_bytes, _narrowed(values, tensor.dtype))
        else:
            _quantized(step, values, first, sums, target)
        return sums

    return carry_out


def _merged_and_pruned(step: Step, values: Floats, first: int, sums: Sums) -> None:
    rows, columns = values.shape
    if step.change is not None:
        up = np.ascontiguousarray(step.change.up[first : first + rows])
        scaling = np.float32(step.change.scaling)
        change = np.empty(columns, np.float32)
        rounding.add_low_rank(values, up, step.change.down, scaling, change, _PRECISION[step.source.dtype])
        _finite(values, step.source)
    rounding.energy(values, sums)
    if step.prune is None:
        return
    norms = np.ones(columns, np.float32) if step.norms is None else step.norms
    if step.prune.method == "2:4":
        rounding.prune_pairs(values, norms, sums)
        return
    count = int(step.prune.share * columns)
    if count:
        scores, counts = np.empty(columns, np.uint32), np.empty(256, np.uint32)
        rounding.prune_share(values, norms, count, scores, counts, sums)


def _quantized(step: Step, values: Floats, first: int, sums: Sums, target: Target) -> None:
    scheme, dtype = step.scheme, step.source.dtype
    assert scheme is not None
    rows, columns = values.shape
    group = scheme.group or columns
    codes = np.empty((rows, columns // 2 if scheme.code == INT4 else columns), np.uint8)
    scales = np.empty((rows, columns // group), np.float32)
    limit, epsilon = np.float32(scheme.limit), np.float32(_EPSILON[dtype])
    rounding.quantize(values, group, scheme.code, _PRECISION[dtype], limit, epsilon, codes, scales, sums)
    coded, scaled, *shape = step.outputs
    target.put(coded.name, first * codes.shape[1], _raw(codes))
    narrow = _narrowed(scales, dtype)
    target.put(scaled.name, first * (narrow.nbytes // rows), narrow)
    if shape and first == 0:
        target.put(shape[0].name, 0, _raw(np.array(step.source.shape, "<i8")))


def _widened(data: memoryview, dtype: str) -> Floats:
    """A copy of the weights as float32, flat."""
    if dtype == "BF16":
        values = np.empty(len(data) // 2, np.float32)
        rounding.widen_bf16(np.frombuffer(data, np.uint16), values.view(np.uint32))
        return values
    return np.frombuffer(data, np.float16 if dtype == "F16" else np.float32).astype(np.float32)


def _narrowed(values: Floats, dtype: str) -> memoryview:
    """Weights that the dtype holds exactly, as its bytes."""
    if dtype == "BF16":
        halves = np.empty(values.size, np.uint16)
        rounding.narrow_bf16(values.reshape(-1).view(np.uint32), halves)
        return _raw(halves)
    return _raw(values.astype(np.float16) if dtype == "F16" else values)


def _raw(array: npt.NDArray[np.generic]) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _finite(values: Floats, tensor: Tensor) -> None:
    if values.size and rounding.largest_bits(values.reshape(-1).view(np.uint32)) >= _INFINITE_BITS:
        raise InputError(
            f"tensor {tensor.name[:80]!r} holds infinite values or values that are no numbers",
            fix="a model like this answers nonsense: mend the source first",
        )
