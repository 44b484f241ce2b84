"""Outbox: what is written in one turn of the event loop, sent together at its end: first to engines, then to clients.

One write after the other keeps whoever reads them busy: woken once in a turn, not once for every request that was
decided, and pieces of one stream that came in one turn leave by one system call. Nothing waits longer than the turn,
which the event loop itself would have waited for. Without a loop (a connection that is driven by hand) everything is
sent at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol


class Sender(Protocol):
    """Whoever has something to send at the end of the turn."""

    def send(self) -> None: ...


class Outbox:
    """The connections of one worker that have something to send. `open` once the event loop runs."""

    __slots__ = ("_askers", "_call_soon", "_senders")

    def __init__(self) -> None:
        self._askers: list[Sender] = []
        self._senders: list[Sender] = []
        self._call_soon: Callable[[Callable[[], None]], object] | None = None

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait for the end of the loop's turns from now on."""
        self._call_soon = loop.call_soon

    def add(self, sender: Sender) -> None:
        """Have `sender.send` called at the end of the turn; it has not been added since it was last called."""
        if self._call_soon is None:
            sender.send()
            return
        if not self._senders and not self._askers:
            self._call_soon(self._flush)
        self._senders.append(sender)

    def ask(self, asker: Sender) -> None:
        """Like `add`, for a request to an engine: it is sent before all answers of the turn."""
        if self._call_soon is None:
            asker.send()
            return
        if not self._senders and not self._askers:
            self._call_soon(self._flush)
        self._askers.append(asker)

    def _flush(self) -> None:
        askers, self._askers = self._askers, []
        senders, self._senders = self._senders, []
        for asker in askers:
            asker.send()
        for sender in senders:
            sender.send()
