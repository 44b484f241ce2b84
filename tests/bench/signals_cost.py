"""What signals cost: counting a request, adding up loads, asking an engine; beside a floor or a peer of the same run.

    python tests/bench/signals_cost.py

Prints CPU microseconds (the best of several runs) and ratios; gates nothing.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable

import httpx
import numpy as np

from gridctl.signals.board import Board
from gridctl.signals.directory import Directory, Objective, WorkloadRow, enrolled
from gridctl.signals.fetch import Fetcher
from gridctl.signals.finished import Finished
from gridctl.signals.meter import Meter
from gridctl.signals.report import read_report

SERVER = """
import asyncio, sys
BODY = sys.stdin.buffer.read()
ANSWER = b"HTTP/1.1 200 OK\\r\\ncontent-length: %d\\r\\n\\r\\n" % len(BODY) + BODY
class Engine(asyncio.Protocol):
    def connection_made(self, transport): self.transport = transport
    def data_received(self, data): self.transport.write(ANSWER)
async def main():
    server = await asyncio.get_running_loop().create_server(Engine, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.sleep(120)
asyncio.run(main())
"""
QUESTIONS = 300


def vllm_report() -> bytes:
    """As long as that of an engine with two ranks: 700 lines, 76 kB."""
    labels = 'model_name="meta-llama/Llama-3.1-8B-Instruct"'
    lines = []
    for number in range(12):
        for rank in range(2):
            lines += [
                f'vllm:histogram_{number}_seconds_bucket{{engine="{rank}",le="{bound / 2}",{labels}}} {bound * 100.0}'
                for bound in range(27)
            ]
    for name in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc", "prompt_tokens_total"):
        lines += [f'vllm:{name}{{engine="{rank}",{labels}}} 0.5' for rank in range(2)]
    return "\n".join(lines).encode() + b"\n"


def microseconds(action: Callable[[], object], times: int) -> float:
    best = float("inf")
    for _ in range(7):
        began = time.process_time()
        for _ in range(times):
            action()
        best = min(best, time.process_time() - began)
    return best / times * 1e6


async def ask_raw(url: str) -> float:
    fetcher = Fetcher(url)
    await fetcher.get("/metrics", 5)
    began = time.process_time()
    for _ in range(QUESTIONS):
        await fetcher.get("/metrics", 5)
    fetcher.close()
    return (time.process_time() - began) / QUESTIONS * 1e6


async def ask_httpx(url: str) -> float:
    async with httpx.AsyncClient() as client:
        await client.get(f"{url}/metrics")
        began = time.process_time()
        for _ in range(QUESTIONS):
            await client.get(f"{url}/metrics")
        return (time.process_time() - began) / QUESTIONS * 1e6


def main() -> None:
    with Board.create(f"gridctl-bench-{os.getpid()}", 4) as board:
        workloads = [WorkloadRow("voice", (Objective("ttft_ms", 500_000_000), Objective("e2e_ms", 2_000_000_000)))]
        board.write_directory(enrolled(Directory(), workloads, ("m",), (), most_workloads=32, most_models=64))
        meter = Meter(board, 0)
        request = Finished(
            workload="voice", model="m", backend=3, outcome="completed", status=200, arrival_ns=1, decided_ns=90_000,
            first_token_ns=30_000_000, last_token_ns=900_000_000, end_ns=900_100_000, prompt_tokens=800,
            output_tokens=100, predicted_ttft_us=30_000.0, predicted_tpot_us=9_000.0, usd=1e-4, stream=True,
        )  # fmt: skip
        counting, making = microseconds(lambda: meter.finished(request), 20_000), microseconds(Finished, 20_000)
        out = np.zeros((64, 3), np.int64)
        loads = microseconds(lambda: board.loads(out), 20_000)
        board.unlink()
    print(f"count a finished stream      {counting:8.2f} µs   {counting / making:5.1f} × making its record")
    print(f"loads of 64 engines, 4 workers {loads:6.2f} µs")
    report = vllm_report()
    scanning = microseconds(lambda: read_report(report), 50)
    print(f"scan a report of {len(report) // 1000} kB      {scanning:8.0f} µs   {len(report) / scanning:5.0f} MB/s")
    server = subprocess.Popen([sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        server.stdin.write(report)
        server.stdin.close()
        url = f"http://127.0.0.1:{int(server.stdout.readline())}"
        raw, client = asyncio.run(ask_raw(url)), asyncio.run(ask_httpx(url))
        print(f"ask an engine                {raw:8.0f} µs   httpx {client:.0f} µs, {client / raw:.1f} ×")
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    main()
