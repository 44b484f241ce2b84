"""BlockSize: how many tokens one prefix block holds, declared or inferred from `hash_ids` and prompt lengths.

A prompt of n tokens in blocks of B has ⌈n/B⌉ ids, or ⌊n/B⌋ when the writer leaves the partial block out. So k ids mean
n/(k+1) < B < n/(k−1), and the sizes that fit a trace are the intersection over rows. A row with no ids says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from gridctl.errors import InputError

LARGEST = 1 << 20
PUBLISHED = (512, 16, 64, 32, 128, 256)  # Mooncake's block first, then those engines use


class BlockSize:
    """Checks ids against a declared size, or narrows the range of sizes that fit every row."""

    def __init__(self, declared: int | None = None, preferred: Sequence[int] = PUBLISHED) -> None:
        self.declared = declared
        self.preferred = tuple(preferred)
        self._low = 1
        self._high = LARGEST
        self._has_ids = False

    def check(
        self, counts: NDArray[np.int64], tokens: NDArray[np.int64], where: str, line_of: Callable[[int], int]
    ) -> None:
        """Raise where a row's number of ids fits no block size, or not the declared one."""
        said = counts > 0
        if not said.any():
            return
        self._has_ids = True
        low = np.where(said, tokens // (counts + 1) + 1, 1)
        high = np.where(counts > 1, (tokens - 1) // np.maximum(counts - 1, 1), LARGEST)
        low = np.maximum.accumulate(np.maximum(low, self._low))
        high = np.minimum.accumulate(np.minimum(high, self._high))
        if self.declared is not None:
            wrong = said & (counts != tokens // self.declared) & (counts != -(-tokens // self.declared))
        else:
            wrong = low > high
        if wrong.any():
            raise self._misfit(int(np.argmax(wrong)), counts, tokens, where, line_of)
        self._low, self._high = int(low[-1]), int(high[-1])

    def _misfit(
        self,
        row: int,
        counts: NDArray[np.int64],
        tokens: NDArray[np.int64],
        where: str,
        line_of: Callable[[int], int],
    ) -> InputError:
        what = f"{int(counts[row])} hash_ids for {int(tokens[row]):,} input tokens"
        place = f"{where}:{line_of(row)}"
        if self.declared is not None:
            return InputError(
                f"{what} do not fit blocks of {self.declared} tokens",
                where=place,
                fix="name the block size: --block-tokens N",
            )
        return InputError(
            f"{what} fit no block size that fits the rows above",
            where=place,
            fix="correct the row's hash_ids or length",
        )

    def settle(self, where: str, notes: list[str]) -> int:
        """The block size of the whole trace; 0 when no row has ids and none was declared."""
        if self.declared is not None:
            return self.declared
        if not self._has_ids:
            return 0
        powers = (1 << power for power in range(21))
        chosen = next((size for size in (*self.preferred, *powers) if self._low <= size <= self._high), None)
        if chosen is None and self._low == self._high:
            chosen = self._low
        if chosen is None:
            raise InputError(
                f"the block size is not clear: hash_ids fit {self._low} to {self._high} tokens",
                where=where,
                fix=f"name the block size: --block-tokens {self._low}",
            )
        if chosen != PUBLISHED[0]:
            notes.append(f"prefix blocks of {chosen} tokens, inferred from hash_ids ({self._range()} fit)")
        return chosen

    def _range(self) -> str:
        if self._high >= LARGEST:
            return f"{self._low} or more"
        return f"{self._low} to {self._high}" if self._low < self._high else f"only {self._low}"
