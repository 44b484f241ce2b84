"""Drain: how a worker goes without breaking anybody's answer, within a grace that ends.

First no new connections, and readiness says no; then connections that wait for a request close, and those that serve
one close behind it; when the grace is over, what still streams ends with an error that the client can read. A second
request to stop ends at once.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gridctl.gateway.server import Server

LAST_WORDS_S = 1.0
"""How long the errors of the end may take to be written."""
LINGER_S = 0.05
"""For connections accepted by us of which the first request is on its way."""


class Drain:
    """One server's going. `is_begun` once it was asked for."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._empty = asyncio.Event()
        self._now = asyncio.Event()
        self.is_begun = False

    def hurry(self) -> None:
        """End now, grace or not."""
        self._now.set()

    async def run(self, grace_s: float) -> bool:
        """Go; whether every request came to its end within the grace."""
        server = self._server
        self.is_begun = True
        server.serving.is_draining = True
        server.on_empty = self._empty.set
        server.stop_accepting()
        await asyncio.sleep(LINGER_S)
        for client in tuple(server.connections):
            client.close_if_idle()
        await self._wait(grace_s, stops_early=True)
        was_clean = not server.serving.in_flight
        for client in tuple(server.connections):
            client.drain()
        await self._wait(LAST_WORDS_S, stops_early=False)
        return was_clean

    async def _wait(self, most_s: float, *, stops_early: bool) -> None:
        """Until there is no connection left, or the time is over, or somebody hurries."""
        if not self._server.connections:
            return
        events = [self._empty, self._now] if stops_early else [self._empty]
        waits = [asyncio.ensure_future(event.wait()) for event in events]
        await asyncio.wait(waits, timeout=most_s, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
