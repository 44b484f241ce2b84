"""Vectors of texts embedded lately: the embedder is the dearest part of a look, so no text goes through it twice.

Decides nothing about likeness. One least-recently-used table for each embedder; memory is bounded by their number.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
MOST_VECTORS = 20_000


class Vectors:
    """Unit vectors by text, of one embedder."""

    def __init__(self, most: int = MOST_VECTORS) -> None:
        self._most = most
        self._known: OrderedDict[str, Floats] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def get(self, text: str) -> Floats | None:
        """The vector of a text, None when it was not embedded lately."""
        found = self._known.get(text)
        if found is not None:
            self._known.move_to_end(text)
        return found

    def missing(self, texts: Iterable[str]) -> list[str]:
        """Texts without a vector, each once."""
        return [text for text in dict.fromkeys(texts) if text not in self._known]

    def learn(self, texts: Sequence[str], rows: Floats) -> None:
        """Keep the vectors of texts."""
        for text, row in zip(texts, rows, strict=True):
            self._known[text] = row
            self._known.move_to_end(text)
        while len(self._known) > self._most:
            self._known.popitem(last=False)
