"""An inference engine in real time on loopback, with step times it was told: what a calibration must find again.

    python loopback_engine.py '{"dense_us": 8000, ...}'      # prints its port, serves until killed

It batches continuously (decodes first, prefills in chunks of the token budget, first come first served), counts a word
as a token, and streams text completions as vLLM does. `dies_after` makes the process exit with that answer.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import dataclass, field

BUDGET = 2048


@dataclass(frozen=True)
class StepTimes:
    dense_us: float = 8000.0
    token_us: float = 20.0
    kv_us: float = 2.0
    pair_us: float = 0.005
    request_us: float = 10000.0
    max_num_seqs: int = 64
    dies_after: int = 0


@dataclass(eq=False)
class Sequence:
    prompt: int
    output: int
    computed: int = 0
    made: int = 0
    tokens: asyncio.Queue[None] = field(default_factory=asyncio.Queue)


class Engine:
    def __init__(self, times: StepTimes) -> None:
        self.times = times
        self.waiting: list[Sequence] = []
        self.running: list[Sequence] = []
        self.arrival = asyncio.Event()

    async def serve(self) -> None:
        loop = asyncio.get_running_loop()
        clock = loop.time()
        while True:
            if not self.running and not self.waiting:
                self.arrival.clear()
                await self.arrival.wait()
                clock = loop.time()
            clock += self.step_us() / 1e6
            await asyncio.sleep(clock - loop.time())
            self.finish_step()

    def step_us(self) -> float:
        """Compose the batch and say how long its step takes."""
        times = self.times
        decodes = [one for one in self.running if one.made > 0]
        kv = sum(one.prompt + one.made for one in decodes)
        budget, pairs = BUDGET - len(decodes), 0.0
        while self.waiting and len(self.running) < times.max_num_seqs:
            self.running.append(self.waiting.pop(0))
        self.chunks: dict[Sequence, int] = {}
        for one in self.running:
            if one.made == 0 and budget > 0:
                chunk = min(budget, one.prompt - one.computed)
                budget -= chunk
                pairs += chunk * one.computed + chunk * (chunk + 1) / 2
                self.chunks[one] = chunk
        tokens = len(decodes) + sum(self.chunks.values())
        return times.dense_us + times.token_us * tokens + times.kv_us * kv + times.pair_us * pairs

    def finish_step(self) -> None:
        for one in list(self.running):
            if one.made == 0:
                one.computed += self.chunks.get(one, 0)
                if one.computed < one.prompt:
                    continue
            one.made += 1
            one.tokens.put_nowait(None)
            if one.made == one.output:
                self.running.remove(one)


class Server:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.answered = 0

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode().split("\r\n")
                length = next((int(x.split(":")[1]) for x in lines if x.lower().startswith("content-length:")), 0)
                body = await reader.readexactly(length)
                if lines[0].startswith("POST /v1/completions "):
                    await self.complete(json.loads(body), writer)
                elif lines[0].startswith("GET /v1/models "):
                    self.answer(writer, {"data": [{"id": "loop", "max_model_len": 8192}]})
                else:
                    self.answer(writer, {"error": {"message": "no such path"}}, "404 Not Found")
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def answer(self, writer: asyncio.StreamWriter, body: object, status: str = "200 OK") -> None:
        data = json.dumps(body).encode()
        head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
        writer.write(head.encode() + data)

    async def complete(self, body: dict[str, object], writer: asyncio.StreamWriter) -> None:
        words, output = len(str(body["prompt"]).split()), int(str(body["max_tokens"]))
        await asyncio.sleep(self.engine.times.request_us / 1e6)
        sequence = Sequence(words, output)
        self.engine.waiting.append(sequence)
        self.engine.arrival.set()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for made in range(output):
            await sequence.tokens.get()
            reason = "length" if made == output - 1 else None
            self.event(writer, {"choices": [{"index": 0, "text": " tok", "finish_reason": reason}], "usage": None})
        self.event(writer, {"choices": [], "usage": {"prompt_tokens": words, "completion_tokens": output}})
        writer.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
        self.answered += 1
        if self.answered == self.engine.times.dies_after:
            os._exit(1)

    def event(self, writer: asyncio.StreamWriter, body: object) -> None:
        data = b"data: " + json.dumps(body).encode() + b"\n\n"
        writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")


async def main() -> None:
    engine = Engine(StepTimes(**json.loads(sys.argv[1])))
    server = await asyncio.start_server(Server(engine).connection, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201
    await engine.serve()


if __name__ == "__main__":
    asyncio.run(main())
