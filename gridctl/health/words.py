"""The words of health: states, what is observed, and what an operator says; with the order from best to worst.

Must not decide anything. The states of the machine are unknown → healthy ⇄ degraded → ejected → probation → healthy: a
circuit breaker's closed, open and half-open are healthy, ejected and probation, one machine and not two. What an
operator says (cordoned, draining, down) wins over all of them.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

MachineState = Literal["unknown", "healthy", "degraded", "ejected", "probation"]
OperatorState = Literal["active", "cordoned", "draining", "down"]
State = Literal["unknown", "healthy", "degraded", "ejected", "probation", "cordoned", "draining", "down"]
Event = Literal[
    "success",
    "slow",
    "busy",
    "connect-failed",
    "reset",
    "timeout",
    "status-5xx",
    "truncated",
    "garbage",
    "stall",
    "probe-ok",
    "probe-failed",
    "probe-starting",
    "telemetry-fresh",
    "telemetry-stale",
]

STATES: tuple[State, ...] = get_args(State)
EVENTS: tuple[Event, ...] = get_args(Event)

ALL_PPM = 1_000_000
"""Share of traffic in millionths: all of it."""

NEVER_NS: Final = (1 << 62) - 1
"""A time that never comes."""

FAILURES: dict[str, str] = {
    "connect-failed": "no connection",
    "reset": "the connection broke",
    "timeout": "no answer in time",
    "status-5xx": "a server error (5xx)",
    "truncated": "the answer stopped half-way",
    "garbage": "the answer was no HTTP",
    "stall": "the stream stood still",
}
"""Hard failures of requests, each in words."""

_BADNESS: dict[State, int] = {
    "healthy": 0,
    "unknown": 1,
    "degraded": 2,
    "probation": 3,
    "ejected": 4,
    "cordoned": 5,
    "draining": 6,
    "down": 7,
}


def worse(one: State, other: State) -> State:
    """The worse of two opinions of the same thing.

    >>> worse("healthy", "probation")
    'probation'
    """
    return one if _BADNESS[one] >= _BADNESS[other] else other


def badness(state: State) -> int:
    """A number to sort states by, 0 the best."""
    return _BADNESS[state]
