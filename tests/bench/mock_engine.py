"""How many requests a mock engine of no time answers per second of its own processor time, beside a bare server.

    python tests/bench/mock_engine.py [--requests 100000] [--connections 64]

The floor is a raw protocol on the same loop that parses a request with httptools and writes a fixed answer: what is
above it is reading the body, counting tokens and wording the answer. Processor time of the serving process, so a busy
machine changes it little.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import resource
import socket
import time
from typing import Any

BODY = json.dumps({
    "model": "mock", "messages": [{"role": "user", "content": "where is the next site"}], "max_tokens": 8,
}).encode()  # fmt: skip
REQUEST = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
    % (len(BODY), BODY)
)
FIXED = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n" + b"x" * 500


def bare(pipe: Any) -> None:
    """The floor."""
    import httptools
    import uvloop

    class Bare(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport
            self.parser = httptools.HttpRequestParser(self)

        def data_received(self, data: bytes) -> None:
            self.parser.feed_data(data)

        def on_message_complete(self) -> None:
            self.transport.write(FIXED)

    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Bare, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await asyncio.get_running_loop().run_in_executor(None, pipe.recv)
        pipe.send(used())

    asyncio.Runner(loop_factory=uvloop.new_event_loop).run(main())


def mock(pipe: Any) -> None:
    """The mock engine without any time."""
    import uvloop

    from gridctl.mockengine.clock import Clock
    from gridctl.mockengine.engine import Manner
    from gridctl.mockengine.plain import PlainPace
    from gridctl.mockengine.server import Address, MockServer

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = MockServer(Address(), PlainPace(loop, 0, 0, Clock(1.0)), Manner("mock"), [])
        await server.start()
        pipe.send(int(server.url.rsplit(":", 1)[1]))
        await loop.run_in_executor(None, pipe.recv)
        pipe.send(used())
        server.close()

    asyncio.Runner(loop_factory=uvloop.new_event_loop).run(main())


def used() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def load(port: int, requests: int, connections: int) -> float:
    """Ask over kept connections, one at a time on each; returns seconds."""
    import httptools

    class Asking(asyncio.Protocol):
        left = requests
        done = asyncio.Event()
        busy = connections

        def connection_made(self, transport: Any) -> None:
            self.transport = transport
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.parser = httptools.HttpResponseParser(self)
            self.ask()

        def ask(self) -> None:
            if Asking.left > 0:
                Asking.left -= 1
                self.transport.write(REQUEST)
                return
            self.transport.close()
            Asking.busy -= 1
            if Asking.busy == 0:
                Asking.done.set()

        def data_received(self, data: bytes) -> None:
            self.parser.feed_data(data)

        def on_message_complete(self) -> None:
            assert self.parser.get_status_code() == 200
            self.ask()

    begin = time.perf_counter()
    loop = asyncio.get_running_loop()
    for _ in range(connections):
        await loop.create_connection(Asking, "127.0.0.1", port)
    await Asking.done.wait()
    return time.perf_counter() - begin


def measure(serve: Any, requests: int, connections: int) -> tuple[float, float]:
    """Requests per second of the server's processor time, and of the wall's."""
    import uvloop

    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs,))
    process.start()
    port = ours.recv()
    asyncio.Runner(loop_factory=uvloop.new_event_loop).run(load(port, 2000, connections))
    before = cpu_of(process.pid)
    wall = asyncio.Runner(loop_factory=uvloop.new_event_loop).run(load(port, requests, connections))
    spent = cpu_of(process.pid) - before
    ours.send("stop")
    ours.recv()
    process.join(10)
    return requests / spent, requests / wall


def cpu_of(pid: int | None) -> float:
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--connections", type=int, default=64)
    asked = parser.parse_args()
    floor, _ = measure(bare, asked.requests, asked.connections)
    engine, wall = measure(mock, asked.requests, asked.connections)
    print(f"bare server  {floor:10,.0f} requests per second of one core")
    print(f"mock engine  {engine:10,.0f} requests per second of one core ({wall:,.0f} on this machine's wall clock)")
    print(f"ratio        {engine / floor:10.2f}")


if __name__ == "__main__":
    main()
