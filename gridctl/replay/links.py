"""Links: which paths have changed, which of that the router knows, and what it loses on paths that are gone.

A path's round trip is as it is at once, and as the router believes from the moment it notices. What is under way on a
path as it is lost, and what is sent along it before the router notices, reaches nobody: at that moment the router lets
it begin again elsewhere. The engines are not told: they finish answers that nobody waits for.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gridctl.accounts.rows import COMPLETED
from gridctl.engine.state import NIL, Fleet
from gridctl.grid.candidates import CandidateLists
from gridctl.grid.paths import PathChange
from gridctl.replay.faults import Fault
from gridctl.replay.scene import Outcomes

Numbers = NDArray[np.int64]


class Links:
    """The changed paths among a run's faults, by the faults' numbers."""

    def __init__(self, faults: Sequence[Fault], origins: int, engines: int) -> None:
        self._faults = faults
        self._origins = origins
        self._engines = engines
        self._on: set[int] = set()
        self._known: set[int] = set()

    @property
    def known(self) -> frozenset[int]:
        """The faults whose paths the router knows to be changed."""
        return frozenset(self._known)

    def begin(self, fault: int) -> None:
        """Paths change, unnoticed."""
        self._on.add(fault)

    def notice(self, fault: int) -> None:
        """The router knows."""
        self._known.add(fault)

    def end(self, fault: int) -> None:
        """Paths are as they were, and the router knows that, too."""
        self._on.discard(fault)
        self._known.discard(fault)

    def changes(self) -> tuple[PathChange, ...]:
        """What the router knows."""
        return tuple(change for fault in sorted(self._known) for change in self._of(fault))

    def wire_us(self, lists: CandidateLists) -> NDArray[np.int32]:
        """The true round trips of lists that hold what the router knows; negative where there is no way."""
        unknown = sorted(self._on - self._known)
        if not unknown:
            return lists.rtt_us
        owner = np.full(len(lists.reason), NIL, np.int64)
        owner[lists.of] = np.arange(len(lists.of))[:, None]
        origin = np.repeat(owner, np.diff(lists.offset))
        wire_us = lists.rtt_us.copy()
        for change in (change for fault in unknown for change in self._of(fault)):
            # A list that nobody has any more belongs to no origin.
            hit = (origin != NIL) & change.origins[origin] & change.engines[lists.engine]
            wire_us[hit] = NIL if change.is_lost else wire_us[hit] + change.added_us
        return wire_us

    def cut_off(self, fault: int, fleet: Fleet, outcomes: Outcomes, origin: Numbers, now: int) -> int:
        """The path is lost: answers under way on it are nobody's from now on. `origin` is that of each request of the
        window. Returns how many of them had begun. Their engines are at `now`."""
        is_orphan = np.zeros(len(origin), np.bool_)
        is_orphan[self.under_way(fault, fleet, outcomes, origin)] = True
        sequences = fleet.sequences
        owner = sequences.request
        slots = np.flatnonzero((owner >= 0) & (owner < len(origin)))
        slots = slots[is_orphan[owner[slots]]]
        first = sequences.first_token[slots]
        # A free slot may still hold the number of a request that began there once: each counts once.
        begun = len(np.unique(owner[slots][(first >= 0) & (first <= now)]))
        sequences.request[slots] = NIL
        return begun

    def given_up(self, fault: int, fleet: Fleet, outcomes: Outcomes, origin: Numbers) -> Numbers:
        """The router notices: everything on the path is lost, and not in flight any more where it never arrived."""
        numbers = self.under_way(fault, fleet, outcomes, origin)
        in_vain = numbers[outcomes.rtt[numbers] == 0]
        np.subtract.at(fleet.engines.in_flight, outcomes.engine[in_vain], 1)
        return numbers

    def under_way(self, fault: int, fleet: Fleet, outcomes: Outcomes, origin: Numbers) -> Numbers:
        """The window's requests that are on the fault's paths and have no last token."""
        count = len(origin)
        engine = outcomes.engine[:count]
        waits = (outcomes.outcome[:count] == COMPLETED) & (fleet.results.last_token[:count] < 0)
        hit = np.zeros(count, np.bool_)
        for change in self._of(fault):
            hit |= change.origins[origin] & change.engines[engine]
        return np.flatnonzero(waits & hit).astype(np.int64)

    def _of(self, fault: int) -> list[PathChange]:
        one = self._faults[fault]
        return [
            PathChange(
                _marked(way.origins, self._origins), _marked(way.engines, self._engines), one.added_us, one.is_cut
            )
            for way in one.ways
        ]


def _marked(numbers: Sequence[int], size: int) -> NDArray[np.bool_]:
    marks = np.zeros(size, np.bool_)
    marks[list(numbers)] = True
    return marks
