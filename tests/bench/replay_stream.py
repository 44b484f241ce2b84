"""Replay tens of millions of requests from disk as `gridctl replay run` does: requests a second, and peak memory.

    python tests/bench/replay_stream.py [--requests 10000000] [--folder /var/tmp/stream] [--block-tokens 512]

Founds a grid of 4,400 generated sites in the folder, writes a trace of columns there (three turns a session, shared
system prompts, drawn in pieces) unless there is one of that size already, and replays it through the service behind the
command, centralised alternative left out, then prints both account tables' cost. Each step is a process of its own, so
that its memory is its own: the peak the system saw (`VmHWM`), and of it what is not file pages.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import resource
import threading
import time
from collections.abc import Callable
from pathlib import Path

SITES = 4400
RATE_RPS = 1000.0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=10_000_000)
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp/gridctl-stream"))
    parser.add_argument("--block-tokens", type=int, default=512)
    parser.add_argument("--no-accounts", action="store_true")
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    trace = chosen.folder / f"{chosen.requests}-{chosen.block_tokens}.columns"
    if not (chosen.folder / "grid").exists():
        apart("found the grid", found, chosen.folder)
    if not trace.exists():
        apart("generate the trace", generate, chosen.folder, trace, chosen.requests, chosen.block_tokens)
    size = sum(path.stat().st_size for path in trace.iterdir())
    print(f"{trace}: {size / 1e9:.2f} GB, {size / chosen.requests:.0f} bytes a request")
    apart("replay", replay, chosen.folder, trace)
    if not chosen.no_accounts:
        apart("tokenomics", account, chosen.folder, "tokenomics")
        apart("sla", account, chosen.folder, "sla")


def apart(what: str, step: Callable[..., None], *arguments: object) -> None:
    """Run a step in a process of its own and print what it took."""
    process = multiprocessing.get_context("spawn").Process(target=_measured, args=(what, step, arguments))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{what} failed")


def _measured(what: str, step: Callable[..., None], arguments: tuple[object, ...]) -> None:
    most = 0
    done = threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.5):
            most = max(most, _kib("RssAnon"))

    watcher = threading.Thread(target=watch, daemon=True)  # else a step that fails would never end
    watcher.start()
    wall, cpu = time.perf_counter(), time.process_time()
    step(*arguments)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    done.set()
    watcher.join()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"{what}: {wall:.1f} s wall, {cpu:.1f} s of processor; peak {peak / 1024:,.0f} MiB, "
        f"{max(most, _kib('RssAnon')) / 1024:,.0f} MiB of it not file pages",
        flush=True,
    )


def _kib(field: str) -> int:
    found = re.search(rf"^{field}:\s+(\d+) kB", Path(f"/proc/{os.getpid()}/status").read_text(), re.MULTILINE)
    return int(found[1]) if found else 0


def found(folder: Path) -> None:
    """A grid of generated sites."""
    from gridctl.geography.world import generate_world
    from gridctl.orchestrator.context import home_of
    from gridctl.registry import Registry

    home = home_of(folder / "grid", "stream")
    home.runs.mkdir(parents=True)
    with Registry.open(home.database, create=True) as registry:
        registry.apply(generate_world(SITES, 1), cause="bench")


def generate(folder: Path, trace: Path, requests: int, block_tokens: int) -> None:
    """About so many requests at a thousand a second."""
    from gridctl.orchestrator.context import home_of
    from gridctl.resources import Site, Workload
    from gridctl.traces.folderwriter import write_columns
    from gridctl.traces.generate import GenerateSpec, generate_parts

    with home_of(folder / "grid", "stream").open_registry() as registry:
        resources = [stored.resource for stored in registry.all()]
    sites = [resource for resource in resources if isinstance(resource, Site)]
    workloads = [resource for resource in resources if isinstance(resource, Workload)]
    spec = GenerateSpec(
        duration_s=requests / RATE_RPS, rate_rps=RATE_RPS, turns=3.0, block_tokens=block_tokens, system_blocks=1
    )
    print(f"{write_columns(generate_parts(spec, sites, workloads, 3), trace):,} requests")


def replay(folder: Path, trace: Path) -> None:
    """The service behind `gridctl replay run`, kernels compiled beforehand."""
    from gridctl.orchestrator.context import home_of
    from gridctl.orchestrator.replaying import Listener, Order, replay_trace
    from gridctl.replay.warmup import warm_up
    from gridctl.traces.reader import open_traffic

    warm_up()
    traffic = open_traffic(trace)
    began, cpu = time.perf_counter(), time.process_time()
    order = Order(name="stream", with_centralized=False, replace=True)
    info = replay_trace(home_of(folder / "grid", "stream"), traffic, order, Listener(say=print))
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    print(f"{info.requests:,} requests, {info.completed:,} completed, digest {info.digest[:23]}")
    print(
        f"{info.requests / wall:,.0f} requests/s wall, {info.requests / cpu:,.0f} per processor second, all included; "
        f"{info.requests / info.wall_s:,.0f} in the replay alone"
    )


def account(folder: Path, which: str) -> None:
    """One of the two tables of the run."""
    from gridctl.accounts.sla import sla
    from gridctl.accounts.tokenomics import tokenomics
    from gridctl.orchestrator.context import home_of
    from gridctl.orchestrator.runs import load_run

    run = load_run("stream", home_of(folder / "grid", "stream"))
    rows = tokenomics(run).rows if which == "tokenomics" else sla(run).rows
    print(f"{which}: {len(rows)} rows")


if __name__ == "__main__":
    main()
