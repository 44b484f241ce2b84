"""Doorkeeper: which questions this worker was asked before, so that what nobody asks for again takes no room.

Two generations of a set of exact keys: when the younger is full the elder is forgotten, so what was asked among the
last `MOST` to twice as many different questions is known, and nothing else. Decides nothing else about an answer.
Sources: TinyLFU's doorkeeper (Einziger, Friedman and Manes 2017), without its false positives, and the "cache on second
hit" rule of content delivery networks (Maggs and Sitaraman 2015).
"""

from __future__ import annotations

MOST = 32_768
"""Questions in a generation, of about a hundred bytes each."""


class Doorkeeper:
    """What was asked of late."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._younger: set[bytes] = set()
        self._elder: set[bytes] = set()

    def was_asked_before(self, exact: bytes) -> bool:
        """Whether a question was asked of late; now it was."""
        if exact in self._younger:
            return True
        self._younger.add(exact)
        found = exact in self._elder
        if len(self._younger) >= self._most:
            self._elder, self._younger = self._younger, set()
        return found
