"""Unattended: a request that an engine answers though no client waits for it: to check a hit, to renew an answer, or
because others follow it.

It takes the place of a client's connection: what is written goes nowhere, nothing is ever paused, and the deadline is
kept. Decides nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gridctl.gateway.answer_head import LAST_LINE
from gridctl.gateway.recipient import Recipient

if TYPE_CHECKING:
    from gridctl.gateway.deadlines import Deadlines
    from gridctl.gateway.exchange import Exchange


class Nobody(Recipient):
    """What an exchange needs of a client, where there is none."""

    __slots__ = ("_deadlines", "_exchange")

    def __init__(self, deadlines: Deadlines) -> None:
        super().__init__()
        self._deadlines = deadlines
        self._exchange: Exchange | None = None

    def attend(self, exchange: Exchange) -> None:
        """Be the client of this exchange."""
        self._exchange = exchange

    def write(self, data: bytes) -> None:
        """Nobody reads."""

    def last_line(self) -> bytes:
        """The end of a head."""
        return LAST_LINE[True, 1]

    def look_at(self, look_ns: int) -> None:
        """Call the exchange's `on_look` once that time has come."""
        self._deadlines.arm(self, look_ns)

    def on_deadline(self, now_ns: int) -> None:
        """The time has come."""
        exchange = self._exchange
        if exchange is not None and not exchange.is_over:
            exchange.on_look(now_ns)
            exchange.look_again()

    def ended(self, exchange: Exchange) -> None:
        """The exchange is over."""
        self._exchange = None
        self._deadlines.drop(self)


def is_nobody(client: object) -> bool:
    """Whether an exchange has no client, or none any more."""
    return isinstance(client, Nobody)
