"""Waves: in which order sites get a version, so that trouble shows early and a shared link carries few at a time.

Decides the order and the sizes; nothing moves here. Sites behind one uplink are spread over the order as far apart as
they can be, so that no wave brings the whole of a metro's link or of a country's engines at once. Invariants: every
site is in exactly one wave; the same sites and steps give the same waves.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from typing import NamedTuple

from gridctl.errors import UsageError

DEFAULT = "1,5%,25%,100%"
_STEP = re.compile(r"^(?P<number>\d{1,7}(?:\.\d{1,3})?)(?P<percent>%?)$")


class Step(NamedTuple):
    """How many sites have the version once a wave is through: a number, or a share in percent."""

    number: float
    is_percent: bool

    def of(self, sites: int) -> int:
        """As a number of sites, rounded up."""
        wanted = math.ceil(sites * self.number / 100 - 1e-9) if self.is_percent else int(self.number)
        return min(sites, max(1, wanted))


class Placed(NamedTuple):
    """A site, and whom it shares its uplink with: sites of the same `uplink` text share one."""

    site: str
    uplink: str


def parse_waves(text: str, flag: str = "--waves") -> tuple[Step, ...]:
    """The steps, each a number of sites or a share, growing, the last 100%. Raises: UsageError.

    >>> [step.of(300) for step in parse_waves("1,5%,25%,100%")]
    [1, 15, 75, 300]
    """
    steps = []
    for part in text.split(","):
        found = _STEP.match(part.strip())
        number = float(found["number"]) if found is not None else 0.0
        if found is None or number <= 0:
            raise _wrong(f"not a wave: {part.strip()[:40]!r}", flag)
        if found["percent"] and number > 100:
            raise _wrong(f"a wave of {part.strip()} would reach more sites than there are", flag)
        if not found["percent"] and number != int(number):
            raise _wrong(f"there is no {part.strip()[:40]} of a site", flag)
        steps.append(Step(number, bool(found["percent"])))
    for before, after in itertools.pairwise(steps):
        if before.is_percent == after.is_percent and after.number <= before.number:
            raise _wrong("each wave must reach more sites than the one before", flag)
    if steps[-1] != Step(100.0, True):
        raise _wrong("the last wave must reach all sites", flag)
    return tuple(steps)


def plan_waves(sites: Sequence[Placed], steps: Sequence[Step]) -> tuple[tuple[str, ...], ...]:
    """The sites of each wave, in order; waves that would be empty are left out.

    >>> plan_waves([Placed("a", "x"), Placed("b", "x"), Placed("c", "y")], parse_waves("1,100%"))
    (('a',), ('c', 'b'))
    """
    order = _spread(sites)
    waves, done = [], 0
    for step in steps:
        upto = step.of(len(order)) if order else 0
        if upto > done:
            waves.append(tuple(order[done:upto]))
            done = upto
    return tuple(waves)


def _spread(sites: Sequence[Placed]) -> list[str]:
    """By the place of each site within its uplink, as a share of it: the k-th of n stands at (k + ½)/n of the order."""
    by_uplink: dict[str, list[str]] = {}
    for placed in sorted(sites):
        by_uplink.setdefault(placed.uplink, []).append(placed.site)
    keyed = [
        ((number + 0.5) / len(names), uplink, name)
        for uplink, names in by_uplink.items()
        for number, name in enumerate(names)
    ]
    return [name for _, _, name in sorted(keyed)]


def _wrong(what: str, flag: str) -> UsageError:
    return UsageError(what, where=flag, fix=f"write {DEFAULT}: how many sites have it after each wave")
