"""How many small streams per second of one core the live load sends and reads, against a mock engine of no time.

    python tests/bench/live_load.py [--streams 40000] [--tokens 4]

All requests are due at once, so the generator is the limit. Processor time of the generating process.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import time
from typing import Any

import numpy as np

from gridctl.liveload.heard import Limits
from gridctl.liveload.load import run_load
from gridctl.liveload.request import Manner, RequestWriter
from gridctl.liveload.target import Target
from gridctl.traces.trace import Trace


def mock(pipe: Any) -> None:
    import uvloop

    from gridctl.mockengine.clock import Clock
    from gridctl.mockengine.engine import Manner as EngineManner
    from gridctl.mockengine.plain import PlainPace
    from gridctl.mockengine.server import Address, MockServer

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = MockServer(Address(), PlainPace(loop, 0, 0, Clock(1.0)), EngineManner("mock"), [])
        await server.start()
        pipe.send(int(server.url.rsplit(":", 1)[1]))
        await loop.run_in_executor(None, pipe.recv)
        server.close()

    asyncio.Runner(loop_factory=uvloop.new_event_loop).run(main())


def trace_of(streams: int, tokens: int) -> Trace:
    unsaid = np.full(streams, -1, np.int32)
    return Trace(
        name="bench",
        arrival_ns=np.zeros(streams, np.int64),
        input_tokens=np.full(streams, 32, np.int64),
        output_tokens=np.full(streams, tokens, np.int64),
        origin=unsaid,
        workload=unsaid,
        tenant=unsaid,
        model=unsaid,
        session=unsaid.astype(np.int64),
        block_offsets=np.zeros(streams + 1, np.int64),
        block_ids=np.zeros(0, np.int64),
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--streams", type=int, default=40_000)
    parser.add_argument("--tokens", type=int, default=4)
    parser.add_argument("--connections", type=int, default=128)
    asked = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=mock, args=(theirs,))
    process.start()
    target = Target("bench", "127.0.0.1", ours.recv())
    trace = trace_of(asked.streams, asked.tokens)
    writer = RequestWriter(trace, target, Manner(lambda row: "mock", "bench", 1))
    used, began = time.process_time(), time.perf_counter()
    heard = run_load(trace, target, writer, Limits(connections=asked.connections), lambda count: None)
    used, wall = time.process_time() - used, time.perf_counter() - began
    ours.send("stop")
    process.join(10)
    assert all(reply is not None and reply.answer.is_complete for reply in heard.replies)
    print(f"{asked.streams / used:,.0f} streams of {asked.tokens} tokens per second of one core", end="; ")
    print(f"{asked.streams / wall:,.0f} per second of wall clock beside the engine")


if __name__ == "__main__":
    main()
