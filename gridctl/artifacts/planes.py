"""Planes: the difference of two runs of numbers as byte planes that compress well, and back; compiled.

Two floats that are close have bit patterns that are close once they are put in order: of a negative number all bits are
turned, of others the sign bit is set. Their difference is then small whatever the exponent; zig-zag puts the sign in
the lowest bit, and low and high bytes go to planes of their own, where the high plane is nearly all zeros. Exact:
integers modulo 2**16, 2**32 or 2**8 throughout. Must not know files.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gridctl.errors import InputError
from gridctl.kernels import compiled

Bytes = NDArray[np.uint8]
SPARSE_FRAMES = 5
"""What `sparse` gives: four planes of distances and the bytes."""


@compiled
def _split16(target: NDArray[np.uint16], base: NDArray[np.uint16], out: Bytes) -> None:
    count = target.size
    for i in range(count):
        t = np.int32(target[i])
        b = np.int32(base[i])
        t ^= 0xFFFF if t & 0x8000 else 0x8000
        b ^= 0xFFFF if b & 0x8000 else 0x8000
        d = (t - b) & 0xFFFF
        z = ((d << 1) & 0xFFFF) ^ (0xFFFF if d & 0x8000 else 0)
        out[i] = z & 0xFF
        out[count + i] = z >> 8


@compiled
def _join16(planes: Bytes, base: NDArray[np.uint16], out: NDArray[np.uint16]) -> None:
    count = base.size
    for i in range(count):
        z = np.int32(planes[i]) | (np.int32(planes[count + i]) << 8)
        d = (z >> 1) ^ (0xFFFF if z & 1 else 0)
        b = np.int32(base[i])
        b ^= 0xFFFF if b & 0x8000 else 0x8000
        t = (b + d) & 0xFFFF
        out[i] = t ^ (0x8000 if t & 0x8000 else 0xFFFF)


@compiled
def _split32(target: NDArray[np.uint32], base: NDArray[np.uint32], out: Bytes) -> None:
    count = target.size
    for i in range(count):
        t = np.int64(target[i])
        b = np.int64(base[i])
        t ^= 0xFFFFFFFF if t & 0x80000000 else 0x80000000
        b ^= 0xFFFFFFFF if b & 0x80000000 else 0x80000000
        d = (t - b) & 0xFFFFFFFF
        z = ((d << 1) & 0xFFFFFFFF) ^ (0xFFFFFFFF if d & 0x80000000 else 0)
        out[i] = z & 0xFF
        out[count + i] = (z >> 8) & 0xFF
        out[2 * count + i] = (z >> 16) & 0xFF
        out[3 * count + i] = z >> 24


@compiled
def _join32(planes: Bytes, base: NDArray[np.uint32], out: NDArray[np.uint32]) -> None:
    count = base.size
    for i in range(count):
        low = np.int64(planes[i]) | (np.int64(planes[count + i]) << 8)
        z = low | (np.int64(planes[2 * count + i]) << 16) | (np.int64(planes[3 * count + i]) << 24)
        d = (z >> 1) ^ (0xFFFFFFFF if z & 1 else 0)
        b = np.int64(base[i])
        b ^= 0xFFFFFFFF if b & 0x80000000 else 0x80000000
        t = (b + d) & 0xFFFFFFFF
        out[i] = t ^ (0x80000000 if t & 0x80000000 else 0xFFFFFFFF)


def split(target: bytes, base: bytes, width: int) -> list[bytes]:
    """The zig-zag difference as `width` planes, lowest byte first. `target` and `base` have equal lengths, multiples of
    `width`; a width of 1 gives one plane of byte differences."""
    if width == 1:
        return [(np.frombuffer(target, np.uint8) - np.frombuffer(base, np.uint8)).tobytes()]
    planes = np.empty(len(target), np.uint8)
    if width == 2:
        _split16(np.frombuffer(target, "<u2"), np.frombuffer(base, "<u2"), planes)
    else:
        _split32(np.frombuffer(target, "<u4"), np.frombuffer(base, "<u4"), planes)
    return _cut(planes, width)


def join(planes: list[bytes], base: bytes, width: int) -> bytes:
    """What `split` was given as target."""
    if width == 1:
        return (np.frombuffer(base, np.uint8) + np.frombuffer(planes[0], np.uint8)).tobytes()
    together = np.frombuffer(b"".join(planes), np.uint8)
    if width == 2:
        out16 = np.empty(len(base) // 2, np.uint16)
        _join16(together, np.frombuffer(base, "<u2"), out16)
        return out16.tobytes()
    out32 = np.empty(len(base) // 4, np.uint32)
    _join32(together, np.frombuffer(base, "<u4"), out32)
    return out32.tobytes()


def scatter(data: bytes, width: int) -> list[bytes]:
    """The bytes themselves as `width` planes: what is sent of numbers that have no base."""
    return _cut(np.ascontiguousarray(np.frombuffer(data, np.uint8).reshape(-1, width).T).reshape(-1), width)


def gather(planes: list[bytes]) -> bytes:
    """What `scatter` was given."""
    count = len(planes[0])
    return np.ascontiguousarray(np.frombuffer(b"".join(planes), np.uint8).reshape(len(planes), count).T).tobytes()


def sparse(planes: list[bytes], most: int) -> tuple[int, list[bytes]]:
    """How many bytes of all planes are not zero, and where and which they are: the distances from each to the next as
    four planes, then the bytes. With more than `most` of them: 0 and nothing."""
    together = np.frombuffer(b"".join(planes), np.uint8)
    if np.count_nonzero(together) > most:
        return 0, []
    at = np.flatnonzero(together)
    gaps = np.diff(at, prepend=0).astype("<u4")
    return at.size, [*scatter(gaps.tobytes(), 4), together[at].tobytes()]


def dense(listed: list[bytes], length: int, width: int) -> list[bytes]:
    """The planes, `length` bytes in all, that `sparse` was given. Raises: InputError when one would lie outside."""
    at = np.cumsum(np.frombuffer(gather(listed[:4]), "<u4"), dtype=np.int64)
    if at[-1] >= length:
        raise InputError("a difference lies outside its block", where="delta", fix="fetch the delta again")
    together = np.zeros(length, np.uint8)
    together[at] = np.frombuffer(listed[4], np.uint8)
    return _cut(together, width)


def _cut(planes: Bytes, width: int) -> list[bytes]:
    count = planes.size // width
    return [planes[plane * count : (plane + 1) * count].tobytes() for plane in range(width)]
