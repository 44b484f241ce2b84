"""Traces made by hand, and endpoints that answer as they are told, in the test's own loop or in a thread beside it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from gridctl.liveload.heard import Heard, Limits
from gridctl.liveload.load import LiveLoad
from gridctl.liveload.request import Manner, RequestWriter
from gridctl.liveload.target import Target
from gridctl.traces.trace import Trace
from gridctl.units import NS_PER_MS

DEADLINE_S = 20.0


def trace_of(arrival_ms: list[float], *, tokens: int = 2, sessions: list[int] | None = None, **columns: Any) -> Trace:
    """Requests of eight prompt tokens at these moments."""
    count = len(arrival_ms)
    unsaid = np.full(count, -1, np.int32)
    trace = Trace(
        name="by-hand",
        arrival_ns=np.array([round(ms * NS_PER_MS) for ms in arrival_ms], np.int64),
        input_tokens=np.full(count, 8, np.int64),
        output_tokens=np.full(count, tokens, np.int64),
        origin=unsaid,
        workload=unsaid,
        tenant=unsaid,
        model=unsaid,
        session=np.array(sessions if sessions is not None else [-1] * count, np.int64),
        block_offsets=np.zeros(count + 1, np.int64),
        block_ids=np.zeros(0, np.int64),
    )
    return replace(trace, **columns)


@dataclass
class Asked:
    """A request as the endpoint got it."""

    head: str
    body: Any
    at: float

    @property
    def row(self) -> int:
        return int(self.header("x-request-id").rpartition("-")[2])

    def header(self, name: str) -> str:
        lines = [line.partition(":") for line in self.head.split("\r\n")[1:]]
        return next((value.strip() for key, _, value in lines if key.lower() == name), "")


@dataclass
class Endpoint:
    """A server whose answers are written by `answer`; it keeps what it was asked."""

    answer: Callable[[Asked, asyncio.StreamWriter], Awaitable[bool]]
    asked: list[Asked] = field(default_factory=list)
    port: int = 0
    connections: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                asked = Asked(head, None, asyncio.get_running_loop().time())
                asked.body = json.loads(await reader.readexactly(int(asked.header("content-length"))))
                self.asked.append(asked)
                if not await self.answer(asked, writer):
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


HEAD = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def token(text: str = "a", reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": reason}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


def whole_answer(headers: str = "", usage: tuple[int, int] | None = (8, 2), tokens: int = 2) -> bytes:
    """A complete streamed answer."""
    said = b"" if usage is None else b"data: " + json.dumps(
        {"choices": [], "usage": {"prompt_tokens": usage[0], "completion_tokens": usage[1],
                                  "prompt_tokens_details": {"cached_tokens": 4}}}
    ).encode() + b"\n\n"  # fmt: skip
    body = token() * (tokens - 1) + token("b", "stop") + said + b"data: [DONE]\n\n"
    return f"{HEAD}{headers}\r\n".encode() + chunk(body) + b"0\r\n\r\n"


async def at_once(asked: Asked, writer: asyncio.StreamWriter) -> bool:
    """Answer immediately and keep the connection."""
    writer.write(whole_answer())
    return True


@asynccontextmanager
async def listening(endpoint: Endpoint) -> AsyncIterator[Endpoint]:
    server = await asyncio.start_server(endpoint.serve, "127.0.0.1", 0, limit=1 << 24)
    endpoint.port = server.sockets[0].getsockname()[1]
    try:
        yield endpoint
    finally:
        server.close()


def load(trace: Trace, endpoint: Endpoint, limits: Limits | None = None, *, key: str | None = None,
         during: Callable[[LiveLoad], None] | None = None) -> Heard:  # fmt: skip
    """Send a trace to an endpoint."""

    async def main() -> Heard:
        async with asyncio.timeout(DEADLINE_S), listening(endpoint):
            target = Target("test", "127.0.0.1", endpoint.port, api_key=key)
            writer = RequestWriter(trace, target, Manner(lambda row: "m", "test", 1))
            work = LiveLoad(trace, target, writer, limits or Limits(), lambda count: None)
            if during is not None:
                during(work)
            return await work.run()

    return asyncio.run(main())


@contextmanager
def in_thread(start: Callable[[], Awaitable[tuple[Any, Callable[[], None]]]]) -> Iterator[Any]:
    """Run a server in a thread: `start` makes it and returns what the test needs and how to close it."""
    ready, stop = threading.Event(), threading.Event()
    made: list[Any] = []

    async def main() -> None:
        value, close = await start()
        made.append(value)
        ready.set()
        while not stop.is_set():
            await asyncio.sleep(0.005)
        close()
        await asyncio.sleep(0.01)

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    assert ready.wait(DEADLINE_S)
    try:
        yield made[0]
    finally:
        stop.set()
        thread.join(DEADLINE_S)
