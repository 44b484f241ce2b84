"""Numbers of a safetensors file, read without trusting it.

Decides what of the file is valid: an 8-byte length, a JSON header, then the bytes of the tensors. A header over 16 MiB,
offsets outside the file, a shape that does not fit its bytes, or another number format than float32 or float16 is an
error with the tensor's name; nothing is executed. Source of the layout: the safetensors format description.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gridctl.errors import InputError

HEADER_BYTES = 16 << 20
_FORMATS: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2")}


def read_weights(path: Path) -> dict[str, NDArray[np.float32]]:
    """Tensors by name as float32; those that are no floating point numbers are left out."""
    import msgspec

    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"the weights cannot be read: {error}", where=str(path)) from error
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(HEADER_BYTES, len(data) - 8):
        raise InputError("the weights' header is longer than the file", where=str(path), fix="copy the model again")
    try:
        header = msgspec.json.decode(data[8 : 8 + length], type=dict[str, dict[str, Any]])
    except msgspec.DecodeError as error:
        raise InputError(f"the weights' header is not JSON: {error}", where=str(path)) from error
    body = memoryview(data)[8 + length :]
    found = {}
    for name, entry in header.items():
        if name != "__metadata__" and entry.get("dtype") in _FORMATS:
            found[name] = _tensor(name, entry, body, path)
    return found


def _tensor(name: str, entry: dict[str, Any], body: memoryview, path: Path) -> NDArray[np.float32]:
    kind = _FORMATS[entry["dtype"]]
    shape, offsets = _counts(entry.get("shape")), _counts(entry.get("data_offsets"))
    if shape is None or offsets is None or len(offsets) != 2:
        raise InputError(f"tensor {name!r} has no valid shape and offsets", where=str(path))
    start, end = offsets
    if not start <= end <= len(body) or end - start != math.prod(shape) * kind.itemsize:
        raise InputError(f"tensor {name!r} does not fit the file", where=str(path), fix="copy the model again")
    values: NDArray[np.float32] = np.frombuffer(body[start:end], kind).reshape(shape).astype(np.float32)
    return values


def _counts(values: object) -> list[int] | None:
    is_valid = isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)
    return values if is_valid and isinstance(values, list) else None
