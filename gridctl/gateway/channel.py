"""Channel: what the control process and a worker say to each other: one JSON object a line, over a socket pair.

Control says {"do": "plan", "path": …}, {"do": "drain", "grace_s": …} and {"do": "stop"}; the worker says
{"event": "ready"}, {"event": "planned", "generation": …} and {"event": "drained"}. The end of the channel is the end of
the control process: the worker drains and goes too, so that none is ever left behind.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, cast

import msgspec

MAX_LINE_BYTES = 64 * 1024


class Channel(asyncio.Protocol):
    """The worker's end. `on_message` gets every object, `on_end` is called once when the channel has ended."""

    def __init__(self, on_message: Callable[[dict[str, Any]], None], on_end: Callable[[], None]) -> None:
        self._on_message = on_message
        self._on_end = on_end
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def over(
        cls, descriptor: int, on_message: Callable[[dict[str, Any]], None], on_end: Callable[[], None]
    ) -> Channel:
        """The channel over an inherited descriptor."""
        connection = socket.socket(fileno=descriptor)
        connection.setblocking(False)
        _, channel = await asyncio.get_running_loop().create_connection(
            lambda: cls(on_message, on_end), sock=connection
        )
        return channel

    def say(self, event: str, **fields: object) -> None:
        """Send an event."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(msgspec.json.encode({"event": event, **fields}) + b"\n")

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by name

    def data_received(self, data: bytes) -> None:
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        if len(self._buffer) > MAX_LINE_BYTES:
            self._buffer = b""
        for line in lines:
            try:
                message = msgspec.json.decode(line)
            except msgspec.DecodeError:
                continue
            if isinstance(message, dict):
                self._on_message(message)

    def connection_lost(self, error: Exception | None) -> None:
        self._on_end()
