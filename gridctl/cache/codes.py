"""Codes: a unit vector as so many signs, one bit each; the share of bits two codes differ in grows with their angle.

Decides nothing; `index` looks codes up and compares what it finds by the vectors themselves. Two vectors at angle θ
differ in a bit with probability θ / π (Charikar 2002), here over the signs of a random rotation of the vector: two
rounds of fixed random signs and a Hadamard transform (Ailon & Chazelle 2009), which costs a few microseconds where a
random matrix costs as many dozens. A transform of 2^(a+b) numbers is done as two small matrix products, for
H(2^(a+b)) = H(2^a) ⊗ H(2^b). The signs come from a fixed seed: the same vector has the same code in every process.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
BITS = 1_024
"""Bits of a code. With half as many a graph of 300,000 MiniLM vectors finds 94 % of the nearest 20 instead of 96 %,
no faster."""
_SEED = 20260101
_NUMBERS_AT_ONCE = 1 << 22


class Coder:
    """Codes of vectors of one dimension."""

    def __init__(self, dimension: int) -> None:
        width = max(BITS, 1 << (dimension - 1).bit_length())
        rows = 1 << (width.bit_length() // 2)
        self._dimension, self._shape = dimension, (rows, width // rows)
        signs = np.random.default_rng(_SEED).integers(0, 2, (2, width)).astype(np.float32) * 2.0 - 1.0
        self._first, self._second = signs.reshape(2, *self._shape)
        self._left, self._right = hadamard(rows), hadamard(width // rows)

    def codes(self, rows: Floats) -> NDArray[np.uint8]:
        """Codes of unit vectors of shape (n, dimension), shape (n, BITS / 8)."""
        found = np.empty((len(rows), BITS // 8), np.uint8)
        some = max(1, _NUMBERS_AT_ONCE // (self._shape[0] * self._shape[1]))
        for start in range(0, len(rows), some):
            found[start : start + some] = self._some(rows[start : start + some])
        return found

    def code(self, row: Floats) -> NDArray[np.uint8]:
        """The code of one vector."""
        found: NDArray[np.uint8] = self._some(row[None])[0]
        return found

    def _some(self, rows: Floats) -> NDArray[np.uint8]:
        count, (height, breadth) = len(rows), self._shape
        wide = np.zeros((count, height * breadth), np.float32)
        wide[:, : self._dimension] = rows
        once = self._left @ (wide.reshape(count, height, breadth) * self._first) @ self._right
        twice = self._left @ (once * self._second) @ self._right
        return np.packbits(twice.reshape(count, -1)[:, :BITS] > 0.0, axis=1)


def hadamard(size: int) -> Floats:
    """The Hadamard matrix of a power of two, after Sylvester; symmetric, entries ±1.

    >>> hadamard(2).tolist()
    [[1.0, 1.0], [1.0, -1.0]]
    """
    found = np.ones((1, 1), np.float32)
    while len(found) < size:
        found = np.block([[found, found], [found, -found]]).astype(np.float32)
    return found
