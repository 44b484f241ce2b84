"""Thin links: a TCP proxy that gives each connection so many bytes per second and a delay at its start.

    python thinlinks.py TARGET_PORT BYTES_PER_S DELAY_S

Prints its port, then, for each line it is given, the bytes that have crossed it towards the clients. Ends with its
standard input."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time

SLICE = 16_384


class Links:
    def __init__(self, target: int, bytes_per_s: float, delay_s: float) -> None:
        self.carried = 0
        self._target = target
        self._rate = bytes_per_s
        self._delay = delay_s
        self._held: set[object] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        me = asyncio.current_task()
        self._held.add(me)  # the loop itself holds tasks by weak references only
        try:
            await self._carry(reader, writer)
        finally:
            self._held.discard(me)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(self._delay)
        down, up = await asyncio.open_connection("127.0.0.1", self._target)
        asking = asyncio.create_task(self._forth(reader, up))
        try:
            await self._back(down, writer)
        finally:
            asking.cancel()
            writer.transport.abort()
            up.transport.abort()

    async def _forth(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(SLICE):
                sink.write(data)
                await sink.drain()
            sink.transport.abort()  # whoever asked has gone

    async def _back(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        free_at = 0.0
        with contextlib.suppress(OSError):
            while data := await source.read(SLICE):
                self.carried += len(data)
                sink.write(data)
                await sink.drain()
                now = time.monotonic()
                free_at = max(free_at, now) + len(data) / self._rate
                if free_at - now > 0.01:
                    await asyncio.sleep(free_at - now)


def say(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


async def main(target: int, bytes_per_s: float, delay_s: float) -> None:
    links = Links(target, bytes_per_s, delay_s)
    server = await asyncio.start_server(links.serve, "127.0.0.1", 0, backlog=512)
    say(server.sockets[0].getsockname()[1])
    while await asyncio.to_thread(sys.stdin.readline):
        say(links.carried)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])))
