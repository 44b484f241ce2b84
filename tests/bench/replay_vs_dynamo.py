"""How many requests a second gridctl's replay gets through, beside NVIDIA Dynamo's offline replay, from one file.

    python tests/bench/replay_vs_dynamo.py [--dynamo-python PATH] [--requests 200000] [--rate 40000] [--engines 4400]

Installs nothing. Dynamo runs where `--dynamo-python` (else DYNAMO_PYTHON, else this Python) can import `dynamo.replay`:

    python -m venv ~/dynamo && ~/dynamo/bin/pip install --no-deps ai-dynamo ai-dynamo-runtime typing_extensions

Both read the same JSON lines: Poisson arrivals, 512 tokens in, 128 out, prefix blocks of 64 tokens, the first half of
them one of a hundred system prompts. Both simulate the same engines: as many, batches and chunks as large, as many KV
blocks of the same size, prefix caching and chunked prefill on. Step times are each side's own; `--dynamo-speedup`
scales Dynamo's so that about as many requests are in flight at once; the table shows whether they are. gridctl runs
round-robin as Dynamo does, then the `grid` policy with everything on, from as many origins as there are sites.

Three rates, all of processor seconds of one core, kernels compiled beforehand: `file` from opening the file to finished
results; `replay` without reading it (Dynamo's own clock says which share that is); `request` also without what a replay
of one request costs: building engines and candidate lists, which does not grow with the trace. Ratios are to the first
of Dynamo's runs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace

from gridctl import __version__
from gridctl.accounts.rows import COMPLETED
from gridctl.geography.world import generate_world
from gridctl.grid.image import GridImage, build_image
from gridctl.replay.replay import replay
from gridctl.replay.warmup import warm_up
from gridctl.resources import (
    Cluster,
    ClusterSpec,
    Deployment,
    EngineLimits,
    Metadata,
    Model,
    Objective,
    PolicySpec,
    Resource,
    Site,
    Workload,
    WorkloadSpec,
)
from gridctl.traces.reader import read_trace
from gridctl.traces.slicing import take

INPUT_TOKENS, OUTPUT_TOKENS, BLOCK_TOKENS = 512, 128, 64
SHARED_BLOCKS = INPUT_TOKENS // BLOCK_TOKENS // 2
GROUPS = 100
MAX_SEQUENCES, MAX_BATCHED_TOKENS = 128, 2048
GPU, VARIANT, WORKLOAD = "rtx-pro-6000", "llama-3.1-8b/bf16", "chat"

MODELLED = (
    ("", "gridctl", "Dynamo offline replay 1.6.1"),
    ("continuous batching, chunked prefill", "yes", "yes"),
    ("paged KV, preemption by recompute", "yes", "yes"),
    ("prefix cache, LRU by block", "yes", "yes"),
    ("step times", "roofline or measured profile", "fitted polynomial or measured tables"),
    ("prefill/decode on separate engines", "no", "yes"),
    ("KV in host memory, speculative decoding", "no", "yes"),
    ("routing by load and cached prefix", "yes", "yes (kv_router)"),
    ("stale telemetry", "scrape period and delay", "KV event lag"),
    ("sites, round trips, jitter", "yes", "no"),
    ("prices, energy, dollars a request", "yes", "no"),
    ("SLA classes, jurisdiction, rejection", "yes", "no (goodput by one SLA)"),
    ("CPU functions, fallback API", "yes", "no"),
    ("autoscaling planner", "no", "yes"),
)

DYNAMO_PROGRAM = """
import json, sys, time
from importlib.metadata import version
from dynamo.replay import run_trace_replay
asked = json.loads(sys.argv[1])
wall, cpu = time.perf_counter(), time.process_time()
report = run_trace_replay(asked["path"], extra_engine_args={"engine": asked["engine"]}, num_workers=asked["workers"],
                          router_mode=asked["router"], trace_block_size=asked["block"])
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
peak = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(json.dumps({"wall_s": wall, "cpu_s": cpu, "peak_mib": int(peak[0]) / 1024, "summary": report.summary,
                  "version": version("ai-dynamo")}))
"""


@dataclass(frozen=True, slots=True)
class Result:
    """One side's run: how long it took, and what it found, to compare the work."""

    name: str
    requests: int
    wall_s: float
    file_cpu_s: float
    replay_cpu_s: float
    setup_cpu_s: float
    in_flight: float
    ttft_ms: float
    tpot_ms: float
    cached: float
    peak_mib: float


def make_grid(engines: int) -> list[Resource]:
    """A site for every engine, one GPU each, all serving one model to one workload."""
    world = generate_world(engines, 1)
    kept: list[Resource] = [item for item in world if isinstance(item, Model)]
    # one tier and no functions: every engine is like every other, as Dynamo's workers are
    sites = [
        replace(site, spec=replace(site.spec, tier="edge", serverless=None)) for site in world if isinstance(site, Site)
    ]
    limits = EngineLimits(
        max_num_seqs=MAX_SEQUENCES, max_num_batched_tokens=MAX_BATCHED_TOKENS, block_size=BLOCK_TOKENS
    )
    deployments = (Deployment(variant=VARIANT, engine=limits),)
    clusters = [
        Cluster(
            metadata=Metadata(name=f"{site.name}-gpu"),
            spec=ClusterSpec(site=site.name, gpu=GPU, gpus=1, deployments=deployments),
        )
        for site in sites
    ]
    workload = Workload(
        metadata=Metadata(name=WORKLOAD),
        spec=WorkloadSpec(
            objectives=(Objective(metric="ttft_ms", threshold_ms=500.0),), models=(VARIANT.partition("/")[0],)
        ),
    )
    return [*kept, *sites, *clusters, workload]


def write_trace(path: Path, sites: list[str], requests: int, rate: float) -> None:
    random = np.random.default_rng(1)
    times_ms = np.cumsum(random.exponential(1000.0 / rate, requests))
    origins = random.integers(len(sites), size=requests)
    groups = random.integers(GROUPS, size=requests)
    blocks = INPUT_TOKENS // BLOCK_TOKENS
    with path.open("w") as file:
        for row, (at, origin, group) in enumerate(zip(times_ms, origins, groups, strict=True)):
            shared = range(int(group) * SHARED_BLOCKS, (int(group) + 1) * SHARED_BLOCKS)
            first = GROUPS * SHARED_BLOCKS + row * (blocks - SHARED_BLOCKS)
            line = {
                "timestamp": round(float(at), 6),
                "input_length": INPUT_TOKENS,
                "output_length": OUTPUT_TOKENS,
                "hash_ids": [*shared, *range(first, first + blocks - SHARED_BLOCKS)],
                "origin": sites[int(origin)],
                "workload": WORKLOAD,
            }
            file.write(json.dumps(line) + "\n")


def run_gridctl(image: GridImage, path: Path, policy: PolicySpec, name: str, repeat: int) -> Result:
    walls, reads, replays, setups = [], [], [], []
    for _ in range(repeat):
        wall, cpu = time.perf_counter(), time.process_time()
        trace = read_trace(path, block_tokens=BLOCK_TOKENS)
        reads.append(time.process_time() - cpu)
        cpu = time.process_time()
        done = replay(image, trace, policy)
        replays.append(time.process_time() - cpu)
        walls.append(time.perf_counter() - wall)
        cpu = time.process_time()
        # one request, and every place that any comes from
        replay(image, take(trace, np.zeros(1, np.int64)), policy)
        setups.append(time.process_time() - cpu)
    rows = done.rows
    assert np.all(rows.outcome == COMPLETED), "every request must be served, or the work is not the same"
    until_first = rows.queue_ns + rows.compute_ns
    return Result(
        name=name,
        requests=len(rows),
        wall_s=min(walls),
        file_cpu_s=min(reads) + min(replays),
        replay_cpu_s=min(replays),
        setup_cpu_s=min(setups),
        in_flight=float((until_first + rows.decode_ns).sum()) / done.window_ns / len(image.engines),
        ttft_ms=float(until_first.mean()) / 1e6,
        tpot_ms=float(rows.decode_ns.mean()) / 1e6 / (OUTPUT_TOKENS - 1),
        cached=float(rows.cached_tokens.sum() / rows.input_tokens.sum()),
        peak_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    )


def ask_dynamo(python: str, asked: dict[str, object], limit_s: float) -> dict[str, Any] | None:
    """What a Dynamo process said of one replay, or None when it failed or ran out of time."""
    try:
        done = subprocess.run(
            [python, "-c", DYNAMO_PROGRAM, json.dumps(asked)], capture_output=True, text=True, timeout=limit_s
        )
    except subprocess.TimeoutExpired:
        print(f"Dynamo {asked['router']}: not finished after {limit_s:.0f} s")
        return None
    if done.returncode:
        print(f"Dynamo {asked['router']} failed: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}")
        return None
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def run_dynamo(chosen: argparse.Namespace, path: Path, kv_blocks: int, router: str) -> Result | None:
    asked = {
        "path": str(path),
        "workers": chosen.engines,
        "router": router,
        "block": BLOCK_TOKENS,
        "engine": {
            "block_size": BLOCK_TOKENS,
            "num_gpu_blocks": kv_blocks,
            "max_num_seqs": MAX_SEQUENCES,
            "max_num_batched_tokens": MAX_BATCHED_TOKENS,
            "enable_prefix_caching": True,
            "enable_chunked_prefill": True,
            "speedup_ratio": chosen.dynamo_speedup,
        },
    }
    one = path.with_name("one.jsonl")
    with path.open() as file:
        one.write_text(file.readline())
    told = ask_dynamo(chosen.dynamo_python, asked, chosen.limit)
    setup = ask_dynamo(chosen.dynamo_python, {**asked, "path": str(one)}, chosen.limit)
    if told is None or setup is None:
        return None
    summary = told["summary"]
    requests = int(summary["completed_requests"])
    return Result(
        name=f"Dynamo {told['version']} {router}",
        requests=requests,
        wall_s=told["wall_s"],
        file_cpu_s=told["cpu_s"],
        replay_cpu_s=told["cpu_s"] * summary["wall_time_ms"] / 1000.0 / told["wall_s"],
        setup_cpu_s=setup["cpu_s"],
        in_flight=requests * summary["mean_e2e_latency_ms"] / summary["duration_ms"] / chosen.engines,
        ttft_ms=summary["mean_ttft_ms"],
        tpot_ms=summary["mean_tpot_ms"],
        cached=summary["prefix_cache_reused_ratio"],
        peak_mib=told["peak_mib"],
    )


def print_results(results: list[Result]) -> None:
    base = next((result for result in results if result.name.startswith("Dynamo")), None)
    print(
        f"\n{'requests per processor second':30} {'file':>8} {'':>7} {'replay':>9} {'':>7} {'request':>9} {'':>7}"
        f" {'file, wall':>10} {'in flight':>9} {'TTFT ms':>8} {'TPOT ms':>8} {'cached':>7} {'MiB':>6}"
    )
    for result in results:
        cells = []
        for clock in (file_s, replay_s, request_s):
            ratio = f"{result.requests / clock(result) * clock(base) / base.requests:6.1f}×" if base else ""
            cells.append(f"{result.requests / clock(result):9,.0f} {ratio:>7}")
        print(
            f"{result.name:29} {' '.join(cells)} {result.requests / result.wall_s:10,.0f} {result.in_flight:9.1f}"
            f" {result.ttft_ms:8.1f} {result.tpot_ms:8.2f} {result.cached:7.1%} {result.peak_mib:6,.0f}"
        )


def file_s(result: Result) -> float:
    return result.file_cpu_s


def replay_s(result: Result) -> float:
    return result.replay_cpu_s


def request_s(result: Result) -> float:
    return result.replay_cpu_s - result.setup_cpu_s


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--dynamo-python", default=os.environ.get("DYNAMO_PYTHON", sys.executable))
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--rate", type=float, default=40_000.0, help="requests a second of virtual time")
    parser.add_argument("--engines", type=int, default=4400)
    parser.add_argument("--routers", nargs="*", default=["round_robin"], help="Dynamo's: round_robin, kv_router")
    parser.add_argument("--dynamo-speedup", type=float, default=0.6)
    parser.add_argument("--repeat", type=int, default=3, help="runs of gridctl; the fastest of each part counts")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds after which Dynamo is stopped")
    chosen = parser.parse_args()
    resources = make_grid(chosen.engines)
    image = build_image(resources)
    spec = image.engines[0].spec
    print(
        f"gridctl {__version__}, Python {platform.python_version()}, {platform.machine()}: {chosen.requests:,} requests"
        f" at {chosen.rate:,.0f}/s, {len(image.engines):,} engines of {spec.kv_blocks:,} KV blocks × {spec.block_size}"
        f" tokens, {MAX_SEQUENCES} sequences, {MAX_BATCHED_TOKENS:,} batched tokens"
    )
    for row in MODELLED:
        print(f"  {row[0]:40} {row[1]:30} {row[2]}")
    warm_up()
    probe = [chosen.dynamo_python, "-c", "import dynamo.replay"]
    has_dynamo = not subprocess.run(probe, capture_output=True).returncode
    if not has_dynamo:
        print("Dynamo is not here: the head of this file says how to install it")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.jsonl"
        write_trace(path, [item.name for item in resources if isinstance(item, Site)], chosen.requests, chosen.rate)
        results = [
            run_gridctl(image, path, PolicySpec(algorithm="round-robin"), "gridctl round-robin", chosen.repeat),
            run_gridctl(image, path, PolicySpec(), "gridctl grid, everything on", chosen.repeat),
        ]
        for router in chosen.routers if has_dynamo else []:
            found = run_dynamo(chosen, path, spec.kv_blocks, router)
            results += [found] if found else []
    print_results(results)


if __name__ == "__main__":
    main()
