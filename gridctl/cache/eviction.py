"""Which answer goes when room is needed: newcomers prove themselves first, then the least dollars saved per byte goes.

Decides names only; frees nothing itself. Admission follows S3-FIFO (Yang et al., SOSP 2023): a newcomer enters a small
queue of a tenth of the bytes; one that was hit there before its turn moves to the main store, one that was not is
forgotten but for its name in a ghost list, and a ghost that returns enters the main store at once. The main store's
victim follows Greedy-Dual-Size-Frequency (Cherkasova 1998): the lowest

    H = L + hits · saving_usd · P(correct) / bytes,   L = H of the last victim,

so what was valuable once ages as L rises..
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from dataclasses import dataclass

from gridctl.errors import InputError

SMALL_SHARE = 0.1
GHOST_FACTOR = 1.0
"""Ghost names kept for each entry that is stored."""
LEAST_GHOSTS = 64


@dataclass(slots=True)
class _Held:
    bytes: int
    saving_usd: float
    correct: float
    hits: int = 0
    priority: float = 0.0
    is_main: bool = False


class Store:
    """Names, sizes and values of what is kept within `capacity_bytes`."""

    def __init__(self, capacity_bytes: int) -> None:
        if capacity_bytes < 1:
            raise InputError(f"a cache of {capacity_bytes} bytes keeps nothing", fix="give the site cache_gib above 0")
        self.capacity_bytes = capacity_bytes
        self._small_bytes = int(capacity_bytes * SMALL_SHARE)
        self._held: dict[str, _Held] = {}
        self._small: OrderedDict[str, None] = OrderedDict()
        self._ghosts: OrderedDict[str, None] = OrderedDict()
        self._heap: list[tuple[float, int, str]] = []
        self._stamp = 0
        self._age = 0.0
        self._in_small = self._in_main = 0

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, name: object) -> bool:
        return name in self._held

    @property
    def used_bytes(self) -> int:
        """Bytes of what is held."""
        return self._in_small + self._in_main

    def hit(self, name: str, correct: float = 1.0) -> None:
        """Count a hit of an answer that is right with probability `correct`."""
        held = self._held.get(name)
        if held is None:
            return
        held.hits += 1
        held.correct += 0.1 * (min(1.0, max(0.0, correct)) - held.correct)
        if held.is_main:
            self._rank(name, held)

    def admit(self, name: str, size_bytes: int, saving_usd: float) -> list[str]:
        """Take a newcomer; the names that go to make room, the newcomer itself when it is too large."""
        if size_bytes < 1 or not saving_usd >= 0.0:
            raise InputError(f"{name!r} has no size or no saving")
        if size_bytes > self.capacity_bytes:
            return [name]
        if name in self._held:
            self.remove(name)
        held = _Held(size_bytes, saving_usd, 1.0)
        self._held[name] = held
        if self._ghosts.pop(name, self) is None or size_bytes > self._small_bytes:
            self._promote(name, held)
        else:
            self._small[name] = None
            self._in_small += size_bytes
        return self._make_room()

    def give_up_one(self) -> str | None:
        """Forget the one that is worth least, for a limit other than bytes; None when nothing is held."""
        while self._held:
            victim = self._leave_small() if self._small else self._least_valued()
            if victim is not None:
                return victim
        return None

    def remove(self, name: str) -> bool:
        """Forget a name, as for a purge; False when it was not held."""
        held = self._held.pop(name, None)
        if held is None:
            return False
        if held.is_main:
            self._in_main -= held.bytes
        else:
            self._in_small -= held.bytes
            del self._small[name]
        return True

    def _make_room(self) -> list[str]:
        gone: list[str] = []
        while self.used_bytes > self.capacity_bytes:
            from_small = self._small and (self._in_small > self._small_bytes or not self._in_main)
            victim = self._leave_small() if from_small else self._least_valued()
            if victim is not None:
                gone.append(victim)
        return gone

    def _leave_small(self) -> str | None:
        name, _ = self._small.popitem(last=False)
        held = self._held[name]
        self._in_small -= held.bytes
        if held.hits > 0:
            self._promote(name, held)
            return None
        del self._held[name]
        self._ghosts[name] = None
        while len(self._ghosts) > max(LEAST_GHOSTS, int(GHOST_FACTOR * len(self._held))):
            self._ghosts.popitem(last=False)
        return name

    def _least_valued(self) -> str | None:
        priority, _, name = heapq.heappop(self._heap)
        held = self._held.get(name)
        if held is None or not held.is_main or held.priority != priority:
            return None
        self._age = priority
        self._in_main -= held.bytes
        del self._held[name]
        return name

    def _promote(self, name: str, held: _Held) -> None:
        held.is_main = True
        self._in_main += held.bytes
        self._rank(name, held)

    def _rank(self, name: str, held: _Held) -> None:
        held.priority = self._age + max(1, held.hits) * held.saving_usd * held.correct / held.bytes
        self._stamp += 1
        heapq.heappush(self._heap, (held.priority, self._stamp, name))
        if len(self._heap) > 4 * len(self._held) + 64:
            mains = [(key, one) for key, one in self._held.items() if one.is_main]
            self._heap = [(one.priority, stamp, key) for stamp, (key, one) in enumerate(mains)]
            heapq.heapify(self._heap)
            self._stamp = len(mains)
