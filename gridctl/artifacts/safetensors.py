"""Safetensors files: the header read with every claim checked, and written as the format's own library writes it.

A file is eight bytes of header length (little endian), a JSON object from tensor names to dtype, shape and offsets, and
the data. Stricter than the format's library: bounded header and count, no name twice, tensors cover the data exactly.
A name is a key and never becomes a path. Tensors are written widest dtype first, then by name, the header padded with
spaces to eight bytes: the order of safetensors 0.8, so equal tensors make equal files.
Source: the format's description at huggingface.co/docs/safetensors.
"""

from __future__ import annotations

import json
import mmap
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from gridctl.errors import InputError, NotFoundError

MAX_HEADER_BYTES = 16 << 20
MAX_TENSORS = 200_000
MAX_DIMENSIONS = 16
MAX_NAME_CHARACTERS = 1024
LENGTH_BYTES = 8

WIDTH = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "F8_E5M2": 1,
    "F8_E4M3": 1,
    "F8_E8M0": 1,
    "I16": 2,
    "U16": 2,
    "F16": 2,
    "BF16": 2,
    "I32": 4,
    "U32": 4,
    "F32": 4,
    "C64": 8,
    "F64": 8,
    "I64": 8,
    "U64": 8,
}
"""Bytes of an element, in the library's order of dtypes: files hold the last of these first."""
_RANK = {dtype: rank for rank, dtype in enumerate(WIDTH)}


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a file; `start` and `end` are offsets in the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int = 0
    end: int = 0

    @property
    def size(self) -> int:
        """Bytes of the data, from dtype and shape."""
        return WIDTH[self.dtype] * prod(self.shape)


@dataclass(frozen=True, slots=True)
class Header:
    """What a file holds, in the order of its data."""

    path: Path
    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    file_bytes: int
    header_bytes: int


def read_header(path: Path) -> Header:
    """Read and check the header; the data is not touched.

    Raises: NotFoundError; InputError naming the file and the first thing that is wrong."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise InputError("not a regular file", where=str(path))
            text = _header_text(file.read(LENGTH_BYTES), path, status.st_size)
            body = file.read(text)
    except FileNotFoundError:
        raise NotFoundError("no such file", where=str(path)) from None
    except OSError as error:
        raise InputError(f"cannot read: {error.strerror}", where=str(path)) from None
    if len(body) != text:
        raise _bad(path, "the file ends within its header")
    tensors, metadata = _tensors(body, path, LENGTH_BYTES + text, status.st_size)
    return Header(path, tensors, metadata, status.st_size, LENGTH_BYTES + text)


def _header_text(length: bytes, path: Path, file_bytes: int) -> int:
    if len(length) < LENGTH_BYTES:
        raise _bad(path, f"{file_bytes} bytes are too few for a safetensors file")
    count = int.from_bytes(length, "little")
    if count > MAX_HEADER_BYTES:
        raise _bad(path, f"its header says it has {count:,} bytes; at most {MAX_HEADER_BYTES:,} are read")
    if count > file_bytes - LENGTH_BYTES:
        raise _bad(path, f"its header says it has {count:,} bytes, more than the file")
    return count


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"{twice[:80]!r} is there twice")
    return found


def _tensors(body: bytes, path: Path, offset: int, file_bytes: int) -> tuple[dict[str, Tensor], dict[str, str]]:
    if not body.startswith(b"{"):
        raise _bad(path, "its header does not begin with {")
    try:
        described = json.loads(body.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise _bad(path, f"its header is no JSON: {str(error)[:200]}") from None
    metadata = described.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _bad(path, "__metadata__ is not a table of texts")
    if len(described) > MAX_TENSORS:
        raise _bad(path, f"{len(described):,} tensors; at most {MAX_TENSORS:,} are read")
    found = sorted((_tensor(name, about, path, offset) for name, about in described.items()), key=_place)
    at = offset
    for tensor in found:
        if tensor.start != at:
            word = "overlaps the one before it" if tensor.start < at else "leaves a gap before it"
            raise _bad(path, f"tensor {tensor.name!r} {word}")
        at = tensor.end
    if at != file_bytes:
        word = "beyond the file's end" if at > file_bytes else "and bytes follow that no tensor has"
        raise _bad(path, f"the tensors end at byte {at:,} of {file_bytes:,}, {word}")
    return {tensor.name: tensor for tensor in found}, metadata


def _place(tensor: Tensor) -> tuple[int, int, str]:
    return tensor.start, tensor.end, tensor.name


def _tensor(name: str, about: Any, path: Path, offset: int) -> Tensor:
    shown = repr(name[:80])
    if not name or len(name) > MAX_NAME_CHARACTERS or not name.isprintable():
        raise _bad(path, f"tensor name {shown} is empty, too long or not printable")
    if not isinstance(about, dict) or set(about) != {"dtype", "shape", "data_offsets"}:
        raise _bad(path, f"tensor {shown} needs dtype, shape and data_offsets, and nothing else")
    dtype, shape, offsets = about["dtype"], about["shape"], about["data_offsets"]
    if not isinstance(dtype, str) or dtype not in WIDTH:
        raise _bad(path, f"tensor {shown} has dtype {str(dtype)[:40]!r}, which is not known")
    if not _is_counts(shape) or len(shape) > MAX_DIMENSIONS:
        raise _bad(path, f"tensor {shown} has a shape that is no list of counts")
    if not _is_counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _bad(path, f"tensor {shown} has offsets that are no range")
    tensor = Tensor(name, dtype, tuple(shape), offset + offsets[0], offset + offsets[1])
    if tensor.size != offsets[1] - offsets[0]:
        raise _bad(path, f"tensor {shown}: {dtype} of shape {shape} is not {offsets[1] - offsets[0]:,} bytes")
    return tensor


def _is_counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 1 << 62 for item in value)


def _bad(path: Path, what: str) -> InputError:
    return InputError(f"not a sound safetensors file: {what}", where=str(path), fix="fetch the file again")


def layout(tensors: Iterable[Tensor], metadata: Mapping[str, str] | None = None) -> tuple[bytes, dict[str, Tensor]]:
    """The first bytes of a file that holds `tensors`, and each tensor with its place in the file. `O(n log n)`."""
    ordered = sorted(tensors, key=lambda tensor: (-_RANK[tensor.dtype], tensor.name))
    described: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    at = 0
    for tensor in ordered:
        described[tensor.name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [at, at + tensor.size],
        }
        at += tensor.size
    text = json.dumps(described, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % LENGTH_BYTES)
    first = LENGTH_BYTES + len(text)
    placed = {
        tensor.name: Tensor(
            tensor.name,
            tensor.dtype,
            tensor.shape,
            first + described[tensor.name]["data_offsets"][0],
            first + described[tensor.name]["data_offsets"][1],
        )
        for tensor in ordered
    }
    return len(text).to_bytes(LENGTH_BYTES, "little") + text, placed


class Mapped:
    """A file's bytes, mapped and not read: pages come when touched and go when `forget` says so."""

    def __init__(self, header: Header) -> None:
        try:
            with header.path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise InputError(f"cannot read: {error}", where=str(header.path)) from None
        if len(self._map) != header.file_bytes:
            raise InputError("the file changed while it was read", where=str(header.path))

    def bytes_of(self, start: int, end: int) -> memoryview:
        """The bytes from `start` to `end`, not copied."""
        return memoryview(self._map)[start:end]

    def forget(self, start: int, end: int) -> None:
        """Let go of the pages wholly within a range that is done with."""
        first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
        length = end - first
        if length > 0 and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED, first, length)
