"""RunWriter: the columns of one run, written piece by piece into its folder while it is made.

How many rows there will be is said first, so that every file has its header and a disk too small is noticed before any
work is done. Invariant: after `seal` each file is on the disk and is what `ColumnFacts` says, or there was an error.
"""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from gridctl.registry.columns import ColumnFacts

if TYPE_CHECKING:
    import numpy as np

PIECE_BYTES = 1 << 20


class RunWriter:
    """Columns of `rows` rows of the given types, in `folder`."""

    def __init__(self, folder: Path, types: Mapping[str, type[np.generic]], rows: int) -> None:
        self.rows = rows
        self._columns = {name: _ColumnWriter(folder / f"{name}.npy", kind, rows) for name, kind in types.items()}

    def append(self, columns: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Write the next rows of every column. Raises OSError."""
        assert columns.keys() == self._columns.keys(), "every piece has every column"
        for name, array in columns.items():
            self._columns[name].append(array)

    def seal(self) -> dict[str, ColumnFacts]:
        """Wait until everything is on the disk. Raises OSError."""
        return {name: column.seal() for name, column in self._columns.items()}

    def read(self, name: str) -> Iterator[np.ndarray[Any, Any]]:
        """A column's rows so far, piece by piece."""
        return self._columns[name].read()

    def close(self) -> None:
        """Let go of the files, finished or not."""
        for column in self._columns.values():
            column.close()


class _ColumnWriter:
    def __init__(self, path: Path, kind: type[np.generic], rows: int) -> None:
        import numpy as np

        self._type = np.dtype(kind)
        self._shape = (rows,)
        self._written = 0
        self._file: BinaryIO = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w+b")
        header = io.BytesIO()
        description = {"descr": np.lib.format.dtype_to_descr(self._type), "fortran_order": False, "shape": self._shape}
        np.lib.format.write_array_header_1_0(header, description)
        self._head = len(header.getvalue())
        self._bytes = 0
        self._checksum = 0
        self._write(header.getbuffer())

    def _write(self, content: memoryview) -> None:
        self._file.write(content)
        self._checksum = zlib.crc32(content, self._checksum)
        self._bytes += content.nbytes

    def append(self, array: np.ndarray[Any, Any]) -> None:
        import numpy as np

        self._written += len(array)
        if len(array):
            self._write(np.ascontiguousarray(array, self._type).view(np.uint8).data)

    def seal(self) -> ColumnFacts:
        assert (self._written,) == self._shape, "a run has as many rows as were announced"
        self._file.flush()
        os.fsync(self._file.fileno())
        return ColumnFacts(self._bytes, self._checksum, self._type.str, self._shape)

    def read(self) -> Iterator[np.ndarray[Any, Any]]:
        import numpy as np

        self._file.flush()
        place = self._head
        while content := os.pread(self._file.fileno(), PIECE_BYTES, place):
            place += len(content)
            yield np.frombuffer(content, self._type)

    def close(self) -> None:
        self._file.close()
