"""Script: a game day's faults acted out on a fleet, moment by moment, while its requests are replayed.

Decides what the router knows when: a loss from the moment it is noticed, its end at once. Hands back the requests that
were lost with an engine, to be sent elsewhere or given up. Invariant: each lost request is handed back exactly once,
at the moment its loss is noticed or, if that is sooner, over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gridctl.accounts.facts import FaultFacts
from gridctl.engine.faults import (
    BEGUN,
    CAUGHT_UP,
    COLLECT,
    LOSE,
    MISSING,
    PACE,
    RESTORE,
    SCRAPED,
    SEATS,
    STALE,
    TIME,
    TOKENS,
    change_engines,
)
from gridctl.engine.profile import StepProfile
from gridctl.engine.state import Fleet
from gridctl.grid.image import GridImage
from gridctl.grid.profile_error import scale_profile
from gridctl.replay.faults import BEGIN, END, Fault, Moment, moments_of
from gridctl.units import PS_PER_NS

Numbers = NDArray[np.int64]
NOBODY = np.zeros(0, np.int64)


class Script:
    """The faults of a run that are still to come, and what came of those that were."""

    def __init__(self, faults: Sequence[Fault], image: GridImage, period: int) -> None:
        self.faults = faults
        self._image = image
        self._period = period
        self._moments = moments_of(faults)
        self._next = 0
        self._down: set[int] = set()
        self._tallies = [np.zeros(3, np.int64) for _ in faults]
        self._counts = [[0, 0, 0] for _ in faults]
        self._added = [0 for _ in faults]
        self._rows: dict[tuple[int, float], int] = {}
        self.paces: list[StepProfile] = []
        for fault in faults if self._moments else ():
            if fault.kind == "slow":
                self._add_paces(fault)

    @property
    def has_faults(self) -> bool:
        """Whether anything ever happens."""
        return bool(self._moments)

    def late(self, duration_ns: int) -> tuple[str, ...]:
        """Notes on what begins after the last request."""
        return tuple(f"{one.text} begins after the last request" for one in self.faults if one.at_ns > duration_ns)

    @property
    def due_ns(self) -> int | None:
        """When something happens next."""
        return self._moments[self._next].at_ns if self._next < len(self._moments) else None

    @property
    def known_down(self) -> frozenset[int]:
        """Engines the router knows to be lost."""
        return frozenset(self._down)

    def next(self) -> Moment:
        """The next thing, which happens now."""
        self._next += 1
        return self._moments[self._next - 1]

    def act(self, fleet: Fleet, moment: Moment) -> Numbers:
        """Something happens to engines. Returns the requests whose loss comes out, in their order."""
        fault = self.faults[moment.fault]
        now = moment.at_ns * PS_PER_NS
        if fault.kind != "lose":
            self._set(fleet, fault, now, is_over=moment.what == END)
            return NOBODY
        if moment.what == BEGIN:
            self._change(fleet, fault, LOSE, now, self._tallies[moment.fault])
            return NOBODY
        self._down |= set(fault.engines)
        lost = self._change(fleet, fault, COLLECT, now, self._tallies[moment.fault])
        if moment.what == END:
            self._down -= set(fault.engines)
            self._change(fleet, fault, RESTORE, now, self._tallies[moment.fault])
        # An answer that nobody waits for, because its path was lost, has no number.
        return np.sort(lost[lost >= 0])

    def catch_up(self, fleet: Fleet, moment: Moment) -> None:
        """Bring a fault's engines to the moment."""
        self._change(fleet, self.faults[moment.fault], CAUGHT_UP, moment.at_ns * PS_PER_NS, NOBODY)

    def begun(self, fault: int, begun: int) -> None:
        """So many of the answers a fault took had begun."""
        self._tallies[fault][BEGUN] += begun

    def added(self, fault: int, requests: int) -> None:
        """A crowd brought so many requests."""
        self._added[fault] += requests

    def note(self, fault: int, lost: int, restarted: int, failed: int) -> None:
        """What became of requests lost by a fault."""
        counts = self._counts[fault]
        counts[0] += lost
        counts[1] += restarted
        counts[2] += failed

    def facts(self) -> tuple[FaultFacts, ...]:
        """The faults and what they cost."""
        return tuple(
            FaultFacts(
                kind=fault.kind,
                text=fault.text,
                at_ns=fault.at_ns,
                until_ns=fault.until_ns,
                noticed_ns=fault.noticed_ns,
                engines=len(fault.engines),
                sites=fault.sites,
                lost=counts[0],
                restarted=counts[1],
                refused=counts[0] - counts[1] - counts[2],
                failed=counts[2],
                begun=int(tally[BEGUN]),
                tokens=int(tally[TOKENS]),
                gpu_ns=int(tally[TIME]) // PS_PER_NS,
                amount=fault.amount,
                what=fault.what,
                priced=fault.engines if fault.kind == "price" else (),
                origins=len(fault.origins),
                added=added,
            )
            for fault, tally, counts, added in zip(self.faults, self._tallies, self._counts, self._added, strict=True)
        )

    def _add_paces(self, fault: Fault) -> None:
        """Slowed profiles, one for each profile and factor; `paces` are the last rows of the fleet's tables."""
        for number in fault.engines:
            profile = self._image.engines[number].spec.profile
            key = (id(profile), fault.amount)
            if profile is not None and key not in self._rows:
                self._rows[key] = len(self.paces)
                self.paces.append(scale_profile(profile, fault.amount))

    def _set(self, fleet: Fleet, fault: Fault, now: int, *, is_over: bool) -> None:
        """A slow-down, a brown-out or blindness begins or ends."""
        engines = np.array(fault.engines, np.int64)
        if fault.kind == "telemetry":
            unseen = MISSING if fault.what == "missing" else STALE
            self._change(fleet, fault, SCRAPED if is_over else unseen, now, NOBODY)
            return
        if fault.kind == "slow":
            first = len(fleet.profiles.dense_ps) - len(self.paces)
            profiles = [self._image.engines[number].spec.profile for number in fault.engines]
            slowed = np.array([first + self._rows[id(one), fault.amount] for one in profiles], np.int64)
            values = fleet.engines.profile[engines] if is_over else slowed
            self._change(fleet, fault, PACE, now, NOBODY, values)
            return
        seats = np.array([self._image.engines[number].spec.max_num_seqs for number in fault.engines], np.int64)
        kept = np.maximum(1, np.floor(seats * fault.amount)).astype(np.int64)
        self._change(fleet, fault, SEATS, now, NOBODY, seats if is_over else kept)

    def _change(
        self, fleet: Fleet, fault: Fault, change: int, now: int, tally: Numbers, values: Numbers = NOBODY
    ) -> Numbers:
        engines = np.array(fault.engines, np.int64)
        room = np.zeros(int(fleet.engines.in_flight[engines].sum()) if change == COLLECT else 0, np.int64)
        count = change_engines(fleet, engines, change, np.ascontiguousarray(values), now, self._period, room, tally)
        return room[:count]


def without(image: GridImage, engines: frozenset[int]) -> GridImage:
    """The grid as a router sees it that knows these engines to be lost."""
    seen = [
        replace(engine, takes_traffic=False) if number in engines else engine
        for number, engine in enumerate(image.engines)
    ]
    return replace(image, engines=tuple(seen))
