"""What all jobs read: stored once, its arrays mapped by every process, so that a trace is in memory once.

A value is taken apart into its arrays and all the rest: arrays are looked for in dataclasses and tuples, at any depth.
They lie in one file, each at a multiple of `ALIGNMENT`, mapped copy-on-write: pages are shared until written, and
arrays are writable, which compiled code tells apart. The rest is small and travels with the job's function.
"""

from __future__ import annotations

import dataclasses
import mmap
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]
ALIGNMENT = 64


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Where an array was: its number, what its elements are, its shape."""

    number: int
    dtype: str
    shape: tuple[int, ...]


def packed(value: object) -> tuple[object, list[Array]]:
    """The value with a place for each of its arrays, and the arrays."""
    arrays: list[Array] = []

    def place(part: object) -> object:
        if isinstance(part, np.ndarray):
            arrays.append(np.ascontiguousarray(part))
            return Place(len(arrays) - 1, part.dtype.str, part.shape)
        return part

    return _rebuilt(value, place), arrays


def unpacked(frame: object, buffers: Sequence[bytearray | memoryview]) -> object:
    """The value, its arrays on these buffers."""

    def array(part: object) -> object:
        if isinstance(part, Place):
            return np.frombuffer(buffers[part.number], part.dtype).reshape(part.shape)
        return part

    return _rebuilt(frame, array)


def store(arrays: Sequence[Array], path: Path) -> list[tuple[int, int]]:
    """Write the arrays into one file; where each begins, and its bytes."""
    places = []
    with path.open("wb") as file:
        for array in arrays:
            file.write(bytes(-file.tell() % ALIGNMENT))
            places.append((file.tell(), array.nbytes))
            file.write(array.reshape(-1).view(np.uint8).data)
    return places


def mapped(path: Path, places: Sequence[tuple[int, int]]) -> list[bytearray | memoryview]:
    """The stored arrays' bytes, shared with every process that maps them, until one writes."""
    if not any(size for _, size in places):
        return [bytearray() for _ in places]
    with path.open("rb") as file:
        view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
    return [view[start : start + size] for start, size in places]


def _rebuilt(value: object, exchange: Callable[[object], object]) -> object:
    """The value with every part that `exchange` changes exchanged."""
    part = exchange(value)
    if part is not value:
        return part
    if type(value) is tuple:
        return tuple([_rebuilt(one, exchange) for one in value])
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        return dataclasses.replace(value, **{name: _rebuilt(getattr(value, name), exchange) for name in names})
    return value
