"""Panic: what a pool of engines does when too few of it are well. A state that is printed, not a silent switch.

Decides the share of traffic each engine of one pool may get, from what every engine's condition says; must not decide
routes. A pool is the engines that may serve the same requests: the caller has already left out whatever jurisdiction,
tenant or policy forbids, and panic never brings that back, nor what an operator cordoned, drained or took down.

With less than half of the pool available (Envoy's panic threshold) the room is needed: probations and degraded engines
get their whole share at once. Only when nothing at all is left are ejected engines tried again, all of them, because
an attempt that fails costs less than a refusal that is certain.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from gridctl.health.words import ALL_PPM, State

THRESHOLD = 0.5
AVAILABLE: frozenset[State] = frozenset(("unknown", "healthy", "degraded"))
OPERATORS: frozenset[State] = frozenset(("cordoned", "draining", "down"))


class Member(msgspec.Struct, frozen=True):
    """One engine of a pool: its board row, its state, and the share of traffic its own condition grants it."""

    row: int
    state: State
    admit_ppm: int


class Panic(msgspec.Struct, frozen=True):
    """How far a pool is from enough, and what is done about it."""

    level: Literal["short", "last-resort"]
    available: int
    members: int  # those an operator took out do not count

    @property
    def cause(self) -> str:
        if self.level == "short":
            return (
                f"only {self.available} of {self.members} engines are available: degraded ones and those on probation "
                "get their whole share"
            )
        return f"none of {self.members} engines is available: ejected ones are tried all the same"


def admissions(pool: Sequence[Member], threshold: float = THRESHOLD) -> tuple[dict[int, int], Panic | None]:
    """The share of traffic of each row in millionths, and the panic if there is one.

    Cost: O(n). A pool that operators emptied is no panic: it is what they said."""
    granted = {member.row: 0 if member.state in OPERATORS else member.admit_ppm for member in pool}
    members = [member for member in pool if member.state not in OPERATORS]
    available = sum(member.state in AVAILABLE for member in members)
    if not members or available >= threshold * len(members):
        return granted, None
    usable = [member for member in members if member.state != "ejected"]
    if usable:
        granted.update((member.row, ALL_PPM) for member in usable)
        return granted, Panic("short", available, len(members))
    granted.update((member.row, ALL_PPM) for member in members)
    return granted, Panic("last-resort", 0, len(members))
