"""Ports for programs that must be told one before they listen.

A port that the system chose (by binding 0) is one that it may give to anybody else as soon as it is let go: to another
test's listener, or to one end of any connection. So these lie below the range that it chooses from.
"""

from __future__ import annotations

import random
import socket
from pathlib import Path

LOWEST = 10_240
RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
USUAL_FIRST = 32_768
"""Where the system's own range begins on Linux when nobody has moved it."""


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, and that the system gives to nobody who does not ask for it."""
    draw = random.SystemRandom()  # processes side by side must not try the same ones
    highest = max(LOWEST + 1, _first_of_the_system())
    while True:
        port = draw.randrange(LOWEST, highest)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def _first_of_the_system() -> int:
    try:
        first = int(RANGE.read_text().split()[0])
    except OSError:
        return USUAL_FIRST
    return first if first > 2 * LOWEST else 65_536
