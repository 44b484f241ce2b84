"""Zstandard: level 1 frames, from Python 3.14's own module or the `zstandard` package, whichever is there.

Decides that a frame never grows beyond the size its reader expects, so a small hostile frame cannot fill the memory.
Level 1 because higher levels are slower and, on byte planes, larger.
"""

from __future__ import annotations

import functools
import importlib
import threading
from typing import Any

from gridctl.errors import InputError

LEVEL = 1


class _Codec(threading.local):
    """One compressor for each thread: the package's may not be shared."""

    def __init__(self) -> None:
        self._new_in_python, module = _module()
        self._module = module
        if not self._new_in_python:
            self._compressor = module.ZstdCompressor(level=LEVEL)
            self._decompressor = module.ZstdDecompressor()

    def compress(self, data: bytes) -> bytes:
        packed: bytes = self._module.compress(data, LEVEL) if self._new_in_python else self._compressor.compress(data)
        return packed

    def decompress(self, data: bytes, size: int) -> bytes:
        if self._new_in_python:
            whole: bytes = self._module.ZstdDecompressor().decompress(data, size + 1)
            return whole
        if self._module.frame_content_size(data) != size:
            return b""
        unpacked: bytes = self._decompressor.decompress(data, max_output_size=size)
        return unpacked


@functools.cache
def _module() -> tuple[bool, Any]:
    for name in ("compression.zstd", "zstandard"):
        try:
            return name == "compression.zstd", importlib.import_module(name)
        except ImportError:
            continue
    raise InputError("deltas need zstandard", where="this Python", fix='pip install "gridctl[push]"')


@functools.cache
def _codec() -> _Codec:
    return _Codec()


def compress(data: bytes) -> bytes:
    """One frame. Raises: InputError when no zstandard is installed."""
    return _codec().compress(data)


def decompress(data: bytes, size: int) -> bytes:
    """The `size` bytes of one frame. Raises: InputError for a damaged frame or one of another size."""
    codec = _codec()
    try:
        found = codec.decompress(data, size)
    except Exception as error:  # each implementation has an error class of its own
        raise InputError(f"a damaged frame: {error}", where="delta", fix="fetch the delta again") from None
    if len(found) != size:
        raise InputError("a frame is not of the size it should have", where="delta", fix="fetch the delta again")
    return found
