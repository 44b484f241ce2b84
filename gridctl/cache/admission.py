"""Admission: whether an exact answer is kept when it is first asked for, or only when it is asked for again.

Decides that for a gateway's worker and for a rehearsal: two generations of a set, the elder forgotten when the younger
is full, so that what was asked among the last `MOST` to twice as many different questions is known. Sources: TinyLFU's
doorkeeper (Einziger, Friedman and Manes 2017), without its false positives; "cache on second hit" (Maggs and Sitaraman
2015).
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Literal

Admission = Literal["first", "second"]
MOST = 32_768
"""Questions in a generation; of a worker's, of about a hundred bytes each."""


class AskedBefore:
    """What was asked of late."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._younger: set[Hashable] = set()
        self._elder: set[Hashable] = set()

    def note(self, question: Hashable) -> bool:
        """Whether a question was asked of late; now it was."""
        if question in self._younger:
            return True
        self._younger.add(question)
        found = question in self._elder
        if len(self._younger) >= self._most:
            self._elder, self._younger = self._younger, set()
        return found
