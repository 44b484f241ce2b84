"""What the cache costs requests that it cannot answer, and how many it answers a second: one gateway each, in turns.

    python tests/bench/cache_gateway.py [--rounds 4] [--seconds 2] [--connections 64] [--compiled ~/compiled/bin/python]

Four grids before the same mock engines: no workload caches; exact, and every prompt is new (each answer is kept: what a
miss costs in full); the same where answers are kept at the second asking; exact, and 64 prompts come again and again
(hits). Requests a second come from a closed loop on
another core, which on two cores it shares with the engines and the keeper; CPU is of the worker's process, in
microseconds a request, and of all processes. Printed are medians over rounds that take turns, and
ratios to the grid without a cache.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from loopback.sides import MODEL, Side, start_gridctl
from loopback.tools import Engines, _cpu_s, compile_programs, descendants, load

FRESH_PROMPTS = 60_000


@dataclass
class Case:
    """A gateway and what it did."""

    name: str
    side: Side
    worker: int
    requests_per_s: list[float] = field(default_factory=list)
    worker_us: list[float] = field(default_factory=list)
    all_us: list[float] = field(default_factory=list)
    p50_us: list[float] = field(default_factory=list)


def started(
    folder: Path, name: str, engines: Engines, cache: dict[str, object] | None, compiled: str | None = None
) -> Case:
    """`gridctl up` whose workload has that cache."""
    place = folder / name
    place.mkdir()
    import loopback.sides as sides

    plain = sides._document

    def document(kind: str, title: str, spec: dict[str, object]) -> dict[str, object]:
        return plain(kind, title, {**spec, "cache": cache} if kind == "Workload" and cache is not None else spec)

    sides._document = document
    try:
        side = start_gridctl(place, engines, 0, compiled)
    finally:
        sides._document = plain
    assert side.process is not None
    worker = _process_of(side, b"gateway.worker")
    assert worker is not None
    deadline = time.monotonic() + 10
    while cache is not None and time.monotonic() < deadline:
        if (keeper := _process_of(side, b"answers.process")) is not None:
            os.sched_setaffinity(keeper, {1})  # as it would be where there are more cores than workers
            break
        time.sleep(0.05)
    return Case(name, side, worker)


def _process_of(side: Side, word: bytes) -> int | None:
    """The process of a gateway whose command line has that word."""
    assert side.process is not None
    found = descendants(side.process.popen.pid)
    return next((pid for pid in found if word in Path(f"/proc/{pid}/cmdline").read_bytes()), None)


def measure(folder: Path, case: Case, prompt: str, prompts: int, arguments: argparse.Namespace) -> None:
    """One round."""
    assert case.side.process is not None
    worker, everything = _cpu_s(case.worker), case.side.process.cpu_s()
    result = load(
        folder, 1, case.side.port, model=MODEL, connections=arguments.connections, seconds=arguments.seconds, warmup=0,
        prompt=prompt, prompts=prompts, prompt_bytes=60,
    )  # fmt: skip
    assert not result["errors"], result
    count = result["requests"]
    case.requests_per_s.append(result["requests_per_s"])
    case.worker_us.append((_cpu_s(case.worker) - worker) * 1e6 / count)
    case.all_us.append((case.side.process.cpu_s() - everything) * 1e6 / count)
    case.p50_us.append(result["latency_us"]["p50"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--compiled", help="a Python that has gridctl installed with GRIDCTL_COMPILED=1: that one's")
    arguments = parser.parse_args()
    exact: dict[str, object] = {"mode": "exact", "max_temperature": 1.0}
    second = {**exact, "admission": "second"}
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        compile_programs(folder)
        engines = stack.enter_context(Engines.running(folder, 8, 1))
        cases = []
        for title, cache in (("off", None), ("misses", exact), ("second", second), ("hits", exact)):
            case = started(folder, title, engines, cache, arguments.compiled)
            assert case.side.process is not None
            stack.callback(case.side.process.stop)
            cases.append(case)
            measure(folder, case, f"warm {title}", 64, arguments)
            for values in (case.requests_per_s, case.worker_us, case.all_us, case.p50_us):
                values.clear()
        for number in range(arguments.rounds):
            for case in cases:
                again = case.name == "hits"
                prompt = "warm hits" if again else f"round {number} {case.name}"
                measure(folder, case, prompt, 64 if again else FRESH_PROMPTS, arguments)
    print(f"{'':8}{'requests/s':>12}{'worker µs':>12}{'all µs':>10}{'p50 µs':>10}{'rate ratio':>12}{'CPU ratio':>11}")
    base = cases[0]
    for case in cases:
        rate, cpu = statistics.median(case.requests_per_s), statistics.median(case.worker_us)
        print(
            f"{case.name:8}{rate:12,.0f}{cpu:12.1f}{statistics.median(case.all_us):10.1f}"
            f"{statistics.median(case.p50_us):10.0f}{rate / statistics.median(base.requests_per_s):12.3f}"
            f"{statistics.median(base.worker_us) / cpu:11.3f}"
        )
    print(json.dumps({case.name: [round(rate) for rate in case.requests_per_s] for case in cases}))


if __name__ == "__main__":
    main()
