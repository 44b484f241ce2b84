"""Limits: how many connections, from whom, and how many bytes of bodies a worker holds at a time.

At the cap on connections nothing is dropped: accepting pauses until one has gone. An address that has too many is
answered with an error and closed. Descriptors are counted before the first request: some for clients, some for engines.
"""

from __future__ import annotations

import resource
from collections import Counter
from typing import Final

from gridctl.errors import InputError

MAX_HELD_BODY_BYTES: Final = 512 << 20
SPARE_DESCRIPTORS: Final = 64
"""Listener, channel, board, logs, the event loop's own, and DNS."""
LEAST_CONNECTIONS: Final = 64


class Limits:
    """Counts of one worker. `held_body_bytes` are bodies read and not yet answered."""

    __slots__ = (
        "_by_address",
        "connections",
        "held_body_bytes",
        "most_connections",
        "most_held_bytes",
        "most_per_address",
    )

    def __init__(
        self, most_connections: int, most_per_address: int, most_held_bytes: int = MAX_HELD_BODY_BYTES
    ) -> None:
        self.most_connections = most_connections
        self.most_per_address = most_per_address
        self.most_held_bytes = most_held_bytes
        self.connections = 0
        self.held_body_bytes = 0
        self._by_address: Counter[str] = Counter()

    @property
    def is_full(self) -> bool:
        return self.connections >= self.most_connections

    def enter(self, address: str) -> bool:
        """Count a connection; False when its address already has as many as it may (it is counted all the same)."""
        self.connections += 1
        if not address:
            return True
        self._by_address[address] += 1
        return self._by_address[address] <= self.most_per_address

    def leave(self, address: str) -> None:
        """A counted connection has gone."""
        self.connections -= 1
        if address:
            left = self._by_address[address] - 1
            if left:
                self._by_address[address] = left
            else:
                del self._by_address[address]

    def hold(self, size: int) -> bool:
        """Count bytes of a body; False, and nothing counted, when they would be too many."""
        if self.held_body_bytes + size > self.most_held_bytes:
            return False
        self.held_body_bytes += size
        return True

    def release(self, size: int) -> None:
        """The bytes are gone."""
        self.held_body_bytes -= size


def raise_descriptor_limit() -> int:
    """Set the soft limit on open descriptors to the hard one; what it is now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (ValueError, OSError):  # some systems call the hard limit infinite and then refuse it
            return soft
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def connections_that_fit(wanted: int, descriptors: int, upstream: int) -> int:
    """How many client connections there are descriptors for, at most `wanted`.

    Each may need another one to an engine, but most wait for their client: what is set aside for engines is half of
    all, and no more than `upstream`. Where all of more clients ask at once, requests beyond it are told to come again.
    Raises InputError when there is not even room for a few."""
    if descriptors == resource.RLIM_INFINITY:
        return wanted
    room = descriptors - SPARE_DESCRIPTORS
    fit = max(room // 2, room - upstream)
    if fit < min(wanted, LEAST_CONNECTIONS):
        raise InputError(
            f"the limit of {descriptors} open files leaves room for {max(0, fit)} connections",
            where="ulimit -n",
            fix="raise it before starting: ulimit -n 65536",
        )
    return min(wanted, fit)
