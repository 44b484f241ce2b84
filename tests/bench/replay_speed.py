"""How many requests a second the replay decides and simulates on one core, and what that is made of.

    python tests/bench/replay_speed.py [--requests 1000000] [--sites 4400] [--block-tokens 512]

Generates a world and a trace of that many requests (three turns a session, shared system prompts), then replays it with
everything on: prefix caches, preemption, telemetry lag, functions, the `grid` policy. Ratios to read: `grid` to the
same replay with one candidate per request, which is the floor set by simulating the engines alone, and to the same
without prefixes. Times are processor seconds of this process, kernels compiled beforehand.
"""

from __future__ import annotations

import argparse
import dataclasses
import resource
import sys
import time

import numpy as np

from gridctl.geography.world import generate_world
from gridctl.grid.image import build_image
from gridctl.replay.replay import replay
from gridctl.replay.warmup import warm_up
from gridctl.resources import PolicySpec, Site, Workload
from gridctl.traces.generate import GenerateSpec, generate


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--sites", type=int, default=4400)
    parser.add_argument("--rate", type=float, default=1000.0)
    parser.add_argument("--block-tokens", type=int, default=512)
    chosen = parser.parse_args()
    resources = generate_world(chosen.sites, 1)
    sites = [item for item in resources if isinstance(item, Site)]
    workloads = [item for item in resources if isinstance(item, Workload)]
    spec = GenerateSpec(
        duration_s=chosen.requests / chosen.rate,
        rate_rps=chosen.rate,
        turns=3.0,
        block_tokens=chosen.block_tokens,
        system_blocks=1,
    )
    trace = generate(spec, sites, workloads, 3)
    bare = dataclasses.replace(
        trace, block_tokens=0, block_ids=np.zeros(0, np.int64), block_offsets=np.zeros(len(trace) + 1, np.int64)
    )
    image = build_image(resources)
    warm_up()
    seconds = trace.duration_ns / 1e9
    print(f"{len(trace):,} requests, {len(sites):,} sites, {len(image.engines)} engines, {seconds:.0f} s")
    floor = None
    for name, requests, policy in (
        ("one candidate, no prefixes", bare, PolicySpec(candidates=1)),
        ("no prefixes", bare, PolicySpec()),
        ("everything on", trace, PolicySpec()),
        ("everything on, least-loaded", trace, PolicySpec(algorithm="least-loaded")),
    ):
        started = time.process_time()
        replay(image, requests, policy)
        seconds = time.process_time() - started
        floor = floor or seconds
        print(f"{name:28} {len(trace) / seconds:12,.0f} requests/s   {seconds / floor:5.2f} × the first")
        sys.stdout.flush()
    print(f"peak resident memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MiB")


if __name__ == "__main__":
    main()
