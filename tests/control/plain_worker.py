"""A worker that obeys the channel's protocol and serves next to nothing: for tests of the control process alone.

Answers every request with its index, its process and the plan's generation. Words in the environment variable
PLAIN_WORKER make it misbehave: `die` at once, be `killed` before it is ready the first time, `deaf` to a drain,
`refuse` every plan after the first, `slow` to answer.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--plan", type=Path)
    parser.add_argument("--board")
    parser.add_argument("--worker", type=int)
    parser.add_argument("--listen-fd", type=int)
    parser.add_argument("--channel-fd", type=int)
    parser.add_argument("--record", type=Path)
    parser.add_argument("--access-log")
    parser.add_argument("--cache")
    parser.add_argument("--presence")
    parser.add_argument("--tls-cert")
    parser.add_argument("--tls-key")
    given = parser.parse_args()
    mood = os.environ.get("PLAIN_WORKER", "").split()
    if "die" in mood:
        sys.stderr.write("this worker dies\n")
        sys.exit(7)
    killed = given.plan.parent / f"killed-{given.worker}"
    if "killed" in mood and not killed.exists():
        killed.touch()  # once, between its start and its word that it is ready
        os.kill(os.getpid(), signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    generation = json.loads(given.plan.read_bytes())["generation"]
    under_way = 0
    ended = asyncio.Event()
    draining = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal under_way
        under_way += 1
        await reader.readuntil(b"\r\n\r\n")
        if "slow" in mood:
            (given.plan.parent / "log" / "asked").touch()
            await asyncio.sleep(0.7)
        body = json.dumps({"worker": given.worker, "pid": os.getpid(), "generation": generation}).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        writer.close()
        under_way -= 1

    server = await asyncio.start_server(serve, sock=socket.socket(fileno=given.listen_fd))
    reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=given.channel_fd))

    def say(**words: object) -> None:
        writer.write(json.dumps(words).encode() + b"\n")

    async def drain(grace_s: float) -> None:
        server.close()
        until = time.monotonic() + grace_s
        while under_way and time.monotonic() < until:
            await asyncio.sleep(0.01)
        say(event="drained")
        ended.set()

    async def listen() -> None:
        with contextlib.suppress(OSError):  # the control process was killed with words of ours unread
            await follow()
        await drain(5.0)

    async def follow() -> None:
        nonlocal generation
        while line := await reader.readline():
            told = json.loads(line)
            if told["do"] == "plan" and "refuse" in mood:
                say(event="refused", generation=told["generation"], message="it is in that mood")
            elif told["do"] == "plan":
                generation = json.loads(Path(told["path"]).read_bytes())["generation"]
                say(event="planned", generation=generation)
            elif told["do"] == "drain" and "deaf" not in mood:
                draining.append(asyncio.ensure_future(drain(told.get("grace_s", 0.0))))
            elif told["do"] == "stop":
                ended.set()
            elif told["do"] == "recent":
                say(event="found", ask=told["ask"], request=remembered(told["site"], given.worker))
            elif told["do"] == "find":
                found = {"request_id": told["request_id"], "worker": given.worker}
                say(event="found", ask=told["ask"], request=found if told["request_id"] == "known" else None)

    say(event="something-new", words=["that", "nobody", "knows"])
    say(event="ready")
    if "beats" in mood:
        sys.path.insert(0, os.environ["PYTHONPATH"])
        from gridctl.signals.board import Board

        board = Board.attach(given.board)

        async def beat() -> None:
            while True:
                board.beat(given.worker, time.monotonic_ns(), pid=os.getpid())
                await asyncio.sleep(0.05)

        draining.append(asyncio.ensure_future(beat()))
    listening = asyncio.ensure_future(listen())
    await ended.wait()
    with contextlib.suppress(OSError):
        await writer.drain()
    listening.cancel()


def remembered(site: str, worker: int) -> dict[str, object]:
    """What a worker remembers of a site: worker 1 has seen a request fail there, the others good ones."""
    request = {
        "request_id": f"of-worker-{worker}", "arrival_unix_ns": 1, "workload": "chat", "origin": site,
        "cluster": "paris-gpu", "outcome": "failed" if worker == 1 else "completed", "reason": "", "status": 200,
        "verdict": "bad" if worker == 1 else "good", "misses": [], "ttft_ms": 100.0 * (2 - worker),
        "predicted_ttft_ms": 90.0, "e2e_ms": 900.0, "attempts": 1,
    }  # fmt: skip
    routed = {"workload": "chat", "requests": 1, "because": {"cheapest": 1}, "origins": {site: 1}}
    return {"reaches_ns": time.monotonic_ns() - 60_000_000_000, "worst": [request], "routed": [routed]}


asyncio.run(main())
