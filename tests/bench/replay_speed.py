"""How many requests a second the replay decides and simulates on one core, what that is made of, and what grows.

    python tests/bench/replay_speed.py [--requests 1000000] [--sites 4400] [--block-tokens 512]
    python tests/bench/replay_speed.py --sites 44,440,4400,44000 --requests 300000
    python tests/bench/replay_speed.py --where

Generates a world and a trace of that many requests (three turns a session, shared system prompts), then replays it with
everything on: prefix caches, preemption, telemetry lag, functions, the `grid` policy. Ratios to read: `grid` to the
same replay with one candidate per request, which is the floor set by simulating the engines alone, to the same without
prefixes, and to the floor computed from the bytes a request has to touch. Times are processor seconds of this process,
the least of `--repeat` runs, kernels compiled beforehand.

Several numbers of sites make a table: the rate grows with the sites, so that engines are as busy in each world. What
grows in small worlds is the length of the candidate lists, until they are full; after that, cache misses.
`--where` takes parts away and prints what each took. A part's share is a difference of two runs, and requests that go
elsewhere load engines otherwise: read it to a tenth.
"""

from __future__ import annotations

import argparse
import dataclasses
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from gridctl.engine.state import ENGINE, PIECE, RESULT, SEQUENCE
from gridctl.geography.world import generate_world
from gridctl.grid.image import GridImage, build_image
from gridctl.replay import stage as staging
from gridctl.replay.replay import replay
from gridctl.replay.scene import Outcomes, Requests
from gridctl.replay.warmup import warm_up
from gridctl.resources import PolicySpec, Site, Workload
from gridctl.traces.generate import GenerateSpec, generate
from gridctl.traces.trace import Trace

RATE_PER_SITE = 1000.0 / 4400
NO_BLOCKS = np.zeros(0, np.int64)
WORD, LINE = 8, 64


@dataclasses.dataclass
class Timing:
    """Processor microseconds a request: all of it, and the compiled part; and how many candidates a list holds."""

    whole: float = np.inf
    kernel: float = np.inf
    candidates: float = 0.0


@contextmanager
def _stopwatch() -> Iterator[Timing]:
    """Gathers the seconds spent in the compiled replay, and the length of its candidate lists."""
    compiled, spent = staging.replay_part, Timing(kernel=0.0)

    def timed(*arguments: Any) -> None:
        spent.candidates = float(np.diff(arguments[1].offset).mean())
        started = time.process_time()
        compiled(*arguments)
        spent.kernel += time.process_time() - started

    staging.replay_part = timed
    try:
        yield spent
    finally:
        staging.replay_part = compiled


def measure(image: GridImage, trace: Trace, policy: PolicySpec, repeat: int) -> Timing:
    """The least of `repeat` replays."""
    best = Timing()
    for _ in range(repeat):
        with _stopwatch() as spent:
            started = time.process_time()
            replay(image, trace, policy)
            whole = time.process_time() - started
        best.whole = min(best.whole, whole * 1e6 / len(trace))
        best.kernel = min(best.kernel, spent.kernel * 1e6 / len(trace))
        best.candidates = spent.candidates
    return best


def make(sites: int, requests: int, block_tokens: int) -> tuple[GridImage, Trace]:
    resources = generate_world(sites, 1)
    rate = RATE_PER_SITE * sites
    spec = GenerateSpec(
        duration_s=requests / rate, rate_rps=rate, turns=3.0, block_tokens=block_tokens, system_blocks=1
    )
    places = [item for item in resources if isinstance(item, Site)]
    return build_image(resources), generate(spec, places, [item for item in resources if isinstance(item, Workload)], 3)


def without_prefixes(trace: Trace) -> Trace:
    return dataclasses.replace(
        trace, block_tokens=0, block_ids=NO_BLOCKS, block_offsets=np.zeros(len(trace) + 1, np.int64)
    )


def touched(trace: Trace) -> tuple[float, float]:
    """(bytes streamed, cache lines touched out of order) that no replay of the trace can do without, per request: its
    columns and results once; its sequence written when sent and read when done; the engine that serves it when it is
    sent, admitted and done; of a prompt with a prefix one entry of the table and one piece, found and let go."""
    nodes = len(trace.block_ids) / len(trace)
    prefixed = float((np.diff(trace.block_offsets) > 0).mean())
    streamed = WORD * (len(Requests._fields) + len(Outcomes._fields) + nodes) + RESULT.itemsize
    lines = 2 * SEQUENCE.itemsize / LINE + 3 * ENGINE.itemsize / LINE + prefixed * (2 + 2 * PIECE.itemsize / LINE)
    return streamed, lines


def machine() -> tuple[float, float]:
    """(bytes copied, cache lines gathered at random out of 32 MiB) per microsecond on this machine, now."""
    words = np.arange(1 << 22)
    places = np.random.default_rng(1).integers(0, len(words) // 8, 1 << 20) * 8
    copied = gathered = np.inf
    for _ in range(5):
        started = time.process_time()
        words.copy()
        copied = min(copied, time.process_time() - started)
        started = time.process_time()
        words[places]
        gathered = min(gathered, time.process_time() - started)
    return words.nbytes / copied / 1e6, len(places) / gathered / 1e6


def print_floor(trace: Trace, timing: Timing) -> None:
    streamed, lines = touched(trace)
    bytes_per_us, lines_per_us = machine()
    floor = streamed / bytes_per_us + lines / lines_per_us
    print(
        f"computed floor: {streamed:.0f} bytes streamed at {bytes_per_us / 1000:.1f} GB/s and {lines:.0f} cache lines"
        f" at {1000 / lines_per_us:.1f} ns = {floor:.3f} µs a request, {1e6 / floor:,.0f} requests/s;"
        f" the compiled replay takes {timing.kernel / floor:.1f} × that"
    )


def ratios(image: GridImage, trace: Trace, repeat: int) -> None:
    bare, floor = without_prefixes(trace), None
    for name, requests, policy in (
        ("one candidate, no prefixes", bare, PolicySpec(candidates=1)),
        ("no prefixes", bare, PolicySpec()),
        ("everything on, least-loaded", trace, PolicySpec(algorithm="least-loaded")),
        ("everything on", trace, PolicySpec()),
    ):
        timing = measure(image, requests, policy, repeat)
        floor = floor or timing
        print(
            f"{name:28} {1e6 / timing.whole:12,.0f} requests/s   {timing.whole / floor.whole:5.2f} × the first;"
            f" compiled part {timing.kernel:6.3f} µs a request"
        )
        sys.stdout.flush()
    print_floor(trace, timing)


def where(image: GridImage, trace: Trace, repeat: int) -> None:
    """Shares by taking parts away: prefixes, and all but one candidate."""
    bare, one = without_prefixes(trace), PolicySpec(candidates=1)
    alone = measure(image, bare, one, repeat)
    cached = measure(image, trace, one, repeat)
    spread = measure(image, bare, PolicySpec(), repeat)
    full = measure(image, trace, PolicySpec(), repeat)
    parts = {
        "before and after the kernel": full.whole - full.kernel,
        "engines, one candidate, no prefixes": alone.kernel,
        "prefix caches of the engine that serves": cached.kernel - alone.kernel,
        "looking at the other candidates": spread.kernel - alone.kernel,
        "their prefixes": full.kernel - spread.kernel - (cached.kernel - alone.kernel),
    }
    for name, part in parts.items():
        print(f"{name:42} {part:7.3f} µs {part / full.whole:7.1%}")
    print(f"{'all':42} {full.whole:7.3f} µs   {1e6 / full.whole:,.0f} requests/s")
    print_floor(trace, full)


def table(sizes: list[int], requests: int, block_tokens: int, repeat: int) -> None:
    print("   sites  engines  set-up s  kernel µs/request  ratio  candidates a list  engine records MiB")
    first = None
    for sites in sizes:
        image, trace = make(sites, requests, block_tokens)
        timing = measure(image, trace, PolicySpec(), repeat)
        first = first or timing
        setup = (timing.whole - timing.kernel) * len(trace) / 1e6
        print(
            f"{sites:8,} {len(image.engines):8,} {setup:9.2f} {timing.kernel:18.3f} {timing.kernel / first.kernel:6.2f}"
            f" {timing.candidates:18.1f} {len(image.engines) * ENGINE.itemsize / 2**20:19.2f}"
        )
        sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--sites", default="4400")
    parser.add_argument("--block-tokens", type=int, default=512)
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--where", action="store_true")
    chosen = parser.parse_args()
    sizes = [int(size) for size in chosen.sites.split(",")]
    warm_up()
    if len(sizes) > 1:
        table(sizes, chosen.requests, chosen.block_tokens, chosen.repeat)
    else:
        image, trace = make(sizes[0], chosen.requests, chosen.block_tokens)
        seconds = trace.duration_ns / 1e9
        print(f"{len(trace):,} requests, {sizes[0]:,} sites, {len(image.engines)} engines, {seconds:.0f} s")
        (where if chosen.where else ratios)(image, trace, chosen.repeat)
    print(f"peak resident memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MiB")


if __name__ == "__main__":
    main()
