"""Mock engines in the test's own loop, a client that speaks plain HTTP to them, and engines of made-up step times."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gridctl.engine.fleet import EngineSpec
from gridctl.engine.profile import StepProfile
from gridctl.engine.state import GPU
from gridctl.mockengine.engine import Manner
from gridctl.mockengine.faults import parse_faults
from gridctl.mockengine.pace import Pace
from gridctl.mockengine.server import Address, MockServer
from gridctl.units import PS_PER_MS

DEADLINE_S = 20.0


def linear_engine(
    *,
    step_ms: float = 10.0,
    token_ms: float = 0.0,
    kv_blocks: int = 512,
    max_num_seqs: int = 8,
    max_num_batched_tokens: int = 256,
    prefix_caching: bool = True,
    max_waiting: int | None = None,
) -> EngineSpec:
    """An engine whose steps take `step_ms` and `token_ms` more for every token in them: times a head can add up."""
    tokens = np.arange(max_num_batched_tokens + 1)
    nothing = np.zeros(max_num_batched_tokens + 1, np.int64)
    profile = StepProfile(
        dense_ps=np.rint((step_ms + token_ms * tokens) * PS_PER_MS).astype(np.int64),
        sample_ps=np.zeros(max_num_seqs + 1, np.int64),
        decode=(((0, 0, 0),),),
        mixed=(((0, 0, 0),),),
        cross_ps=0,
        chunk_ps=nothing,
        chunk_kv_ps=nothing,
        source="made up",
    )
    return EngineSpec(
        kind=GPU,
        profile=profile,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_batched_tokens,
        block_size=16,
        kv_blocks=kv_blocks,
        gpus=1,
        prefix_caching=prefix_caching,
        max_waiting=max_waiting,
    )


@dataclass
class Answered:
    """A response: its head, its body as it arrived, and when each piece of it came."""

    status: int
    headers: dict[str, str]
    body: bytes = b""
    pieces: list[tuple[float, bytes]] = field(default_factory=list)
    is_complete: bool = True

    def json(self) -> Any:
        return json.loads(self.body)

    def events(self) -> list[Any]:
        """The events of a stream; `[DONE]` as text."""
        texts = [part[6:] for part in self.body.decode().split("\n\n") if part.startswith("data: ")]
        return [text if text == "[DONE]" else json.loads(text) for text in texts]


class Client:
    """One connection, read and written by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, method: str, path: str, body: object = None, *, headers: str = "", version: str = "1.1") -> None:
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        head = f"{method} {path} HTTP/{version}\r\nhost: x\r\ncontent-length: {len(data)}\r\n{headers}\r\n"
        self.writer.write(head.encode() + data)

    async def read(self) -> Answered:
        """The next response."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)
        }
        answered = Answered(int(lines[0].split()[1]), headers)
        loop = asyncio.get_running_loop()
        try:
            if headers.get("transfer-encoding") == "chunked":
                while size := int(await self.reader.readuntil(b"\r\n"), 16):
                    piece = (await self.reader.readexactly(size + 2))[:-2]
                    answered.pieces.append((loop.time(), piece))
                await self.reader.readexactly(2)
            else:
                answered.pieces.append((0.0, await self.reader.readexactly(int(headers["content-length"]))))
        except (asyncio.IncompleteReadError, ConnectionResetError):
            answered.is_complete = False
        answered.body = b"".join(piece for _, piece in answered.pieces)
        return answered

    async def ask(self, path: str, body: object = None, *, method: str = "", headers: str = "") -> Answered:
        self.send(method or ("GET" if body is None else "POST"), path, body, headers=headers)
        return await self.read()

    async def read_rest(self) -> bytes:
        """Everything up to the end of the connection, however it ends."""
        data = b""
        try:
            while piece := await self.reader.read(65536):
                data += piece
        except ConnectionResetError:
            pass
        return data

    def leave(self) -> None:
        self.writer.transport.abort()


class Bench:
    """A running engine and clients of it."""

    def __init__(self, server: MockServer) -> None:
        self.server = server
        self.engine = server.engine
        self.port = int(server.url.rsplit(":", 1)[1])
        self._clients: list[Client] = []

    async def client(self) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        self._clients.append(client)
        return client

    async def ask(self, path: str, body: object = None, **options: str) -> Answered:
        return await (await self.client()).ask(path, body, **options)

    def close(self) -> None:
        for client in self._clients:
            client.leave()


@asynccontextmanager
async def running(
    make: Callable[[asyncio.AbstractEventLoop], Pace], manner: Manner, faults: str
) -> AsyncIterator[Bench]:
    server = MockServer(Address(), make(asyncio.get_running_loop()), manner, parse_faults(faults))
    await server.start()
    bench = Bench(server)
    try:
        yield bench
    finally:
        bench.close()
        server.close()
        await asyncio.sleep(0)  # lets connections say goodbye


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, with a deadline."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.002)


Play = Callable[[Bench], Awaitable[None]]


def chat(text: str = "where is the nearest site", **fields: Any) -> dict[str, Any]:
    """A chat request."""
    return {"model": "mock", "messages": [{"role": "user", "content": text}], **fields}
