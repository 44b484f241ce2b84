"""Faults against a grid: what each holds, and the moments at which things change. Data; knows no fleet and no clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gridctl.accounts.facts import FOREVER_NS

KINDS = ("lose", "slow", "brownout", "link", "telemetry", "crowd", "price")
NOTICED = ("lose", "link")
"""Faults the router goes on working against until it notices them; of all others it knows, or never learns."""
END, BEGIN, NOTICE = range(3)
"""What happens at a moment; of one moment in this order, so that what is over is over before the next begins."""


class Way(NamedTuple):
    """From which origins to which engines a path leads."""

    origins: tuple[int, ...]
    engines: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault and what it holds, from `at_ns` until `until_ns` on the trace's clock.

    `amount` is the factor of a slow-down, a crowd or a price, the share kept by a brown-out; the router knows of a loss
    or a changed path from `noticed_ns` on. Of a path: its `ways`, what every round trip takes longer, and whether there
    is none. `what` is the state of telemetry, or which price."""

    kind: str
    text: str
    at_ns: int
    until_ns: int
    noticed_ns: int
    engines: tuple[int, ...] = ()
    sites: tuple[str, ...] = ()
    amount: float = 1.0
    origins: tuple[int, ...] = ()
    ways: tuple[Way, ...] = ()
    added_us: int = 0
    is_cut: bool = False
    what: str = ""


class Moment(NamedTuple):
    """Something happens to fault number `fault`."""

    at_ns: int
    what: int
    fault: int


def moments_of(faults: Sequence[Fault]) -> list[Moment]:
    """Everything that happens, in order. A loss that is over before anybody notices it is noticed as it ends. A crowd
    is in the trace; what lasts for good never ends."""
    moments = []
    for number, fault in enumerate(faults):
        if fault.kind == "crowd":
            continue
        moments.append(Moment(fault.at_ns, BEGIN, number))
        if fault.until_ns < FOREVER_NS:
            moments.append(Moment(fault.until_ns, END, number))
        if fault.kind in NOTICED and fault.noticed_ns < fault.until_ns:
            moments.append(Moment(fault.noticed_ns, NOTICE, number))
    return sorted(moments)
