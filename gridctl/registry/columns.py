"""One NumPy array in one `.npy` file, described well enough that damage is noticed when it is read.

The file format is NumPy's own (NEP 1), so any tool reads it. Invariant: what `map_column` returns is bit for bit what
`write_column` was given, or an error. NumPy is imported inside functions: everyday commands never need it.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from gridctl.errors import StoreError

if TYPE_CHECKING:
    import numpy as np

CHUNK_BYTES = 1 << 20


class ColumnFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the file of a column must be: its bytes, CRC-32, NumPy type and shape."""

    file_bytes: int
    crc32: int
    dtype: str
    shape: tuple[int, ...]


def needed_bytes(array: np.ndarray[Any, Any]) -> int:
    """Bytes the array takes on disk; the header of a column is 128 bytes."""
    return int(array.nbytes) + 128


def write_column(path: Path, array: np.ndarray[Any, Any]) -> ColumnFacts:
    """Write a new file and wait until it is on the disk. Raises OSError, with errno, when it cannot be."""
    import numpy as np

    assert not array.dtype.hasobject, "a column holds numbers or fixed-width text"
    array = np.asarray(array, order="C")
    # ndarray.tofile loses the errno of a full disk, so the bytes go through the file object.
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w+b") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        if array.size:
            file.write(array.reshape(-1).view(np.uint8).data)
        file.flush()
        os.fsync(file.fileno())
    size, checksum = _measure(path)
    return ColumnFacts(size, checksum, array.dtype.str, array.shape)


def map_column(path: Path, facts: ColumnFacts) -> np.ndarray[Any, Any]:
    """The array, read-only and memory-mapped. O(bytes): the checksum is read through once.

    Raises StoreError when the file is not the one that was written.
    """
    import numpy as np

    try:
        file_bytes, checksum = _measure(path)
        if file_bytes != facts.file_bytes:
            raise damaged(path, f"it has {file_bytes} bytes, {facts.file_bytes} were written")
        if checksum != facts.crc32:
            raise damaged(path, "its checksum is not the one that was written")
        if 0 in facts.shape:
            return np.empty(facts.shape, dtype=facts.dtype)
        # A plain view: compiled code and comparisons know ndarray, not its memory-mapped subclass.
        return np.asarray(np.lib.format.open_memmap(path, mode="r"))
    except OSError as error:
        raise damaged(path, f"it cannot be read: {error.strerror or error}") from error


def damaged(path: Path, why: str) -> StoreError:
    """A file of a run is not what was written."""
    return StoreError(
        f"the run {path.parent.name} is damaged: {path.name}: {why}",
        where=str(path),
        fix=f"delete it (gridctl run delete {path.parent.name}) and replay it again, or restore the folder",
    )


def _measure(path: Path) -> tuple[int, int]:
    """Bytes and CRC-32 of a file, read in pieces so that nothing stays mapped."""
    size = 0
    checksum = 0
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(CHUNK_BYTES):
            size += len(chunk)
            checksum = zlib.crc32(chunk, checksum)
    return size, checksum
