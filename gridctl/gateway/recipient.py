"""Recipient: what an exchange needs of whoever gets its answer: a client's connection, or nobody at all.

A class rather than a shape, so that calls between compiled modules cost no look-up. Decides nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gridctl.gateway.deadlines import Timed

if TYPE_CHECKING:
    from gridctl.gateway.exchange import Exchange


class Recipient(Timed):
    """`keep_alive` says whether the connection stays after the open exchange; `breaks_off` that half an answer has gone
    and only a broken connection can tell; `is_paused` that it takes no more for now."""

    __slots__ = ("breaks_off", "is_paused", "keep_alive", "minor_version")

    def __init__(self) -> None:
        super().__init__()
        self.keep_alive = True
        self.breaks_off = False
        self.is_paused = False
        self.minor_version = 1

    def write(self, data: bytes) -> None:
        """Send bytes."""
        raise NotImplementedError

    def last_line(self) -> bytes:
        """The end of a head."""
        raise NotImplementedError

    def look_at(self, look_ns: int) -> None:
        """Call the exchange's `on_look` once that time has come."""
        raise NotImplementedError

    def ended(self, exchange: Exchange) -> None:
        """The exchange is over and has written what it had to."""
        raise NotImplementedError
