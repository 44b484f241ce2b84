"""What more processors bring to `replay run --seeds`: draws per second on 1, 2, … workers, and the share of linear.

Every pool does the same draws over the same grid, its processes started and the trace handed to them within the time
that is measured; then with `--ray` the same on a Ray cluster of this machine. The gain stands beside the one that busy
loops in as many processes reach in the same run, which is what the machine has to give, and beside the processor time
of all local workers: where that does not grow with their number, nothing but the machine keeps the gain from linear.

    python tests/bench/seeds_scaling.py --requests 200000 --draws 8 --jobs 1,2
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time

import msgspec
import numpy as np

from gridctl.executors.pool import cores, running
from gridctl.orchestrator.replaying import Order
from gridctl.orchestrator.scenario import Job, Scenario, Stage, run_job
from gridctl.replay.warmup import warm_up
from gridctl.resources import Policy, PolicySpec
from gridctl.resources.resource import Metadata
from gridctl.traces.trace import Trace


def stage(requests: int, rate: float) -> Stage:
    """The metro example's grid under a Poisson load spread over its workloads."""
    from gridctl.manifest import read_manifests
    from gridctl.orchestrator.examples import example_folder

    resources = [declared.resource for declared in read_manifests([str(example_folder("metro"))])]
    policy = next(one for one in resources if isinstance(one, Policy))
    random = np.random.default_rng(1)
    unsaid = np.full(requests, -1, np.int32)
    trace = Trace(
        name="poisson",
        arrival_ns=np.cumsum(random.exponential(1e9 / rate, requests)).astype(np.int64),
        input_tokens=random.integers(50, 800, requests),
        output_tokens=random.integers(1, 200, requests),
        origin=unsaid,
        workload=unsaid,
        tenant=unsaid,
        model=unsaid,
        session=unsaid.astype(np.int64),
        block_offsets=np.zeros(requests + 1, np.int64),
        block_ids=np.zeros(0, np.int64),
    )
    named = Policy(metadata=Metadata(name="grid"), spec=PolicySpec()) if policy is None else policy
    return Stage(trace, (Scenario(tuple(resources), named, Order(name="bench")),))


def timed(executor: str, shared: Stage, draws: int, workers: int) -> tuple[float, float, list[bytes]]:
    """Seconds for all draws, processor seconds of the workers, and the draws' tables."""
    before = processor_s()
    jobs = [Job(0, draw) for draw in range(1, draws + 1)]
    started = time.perf_counter()
    with running(executor, run_job, shared, jobs, workers=workers) as pool:
        done = dict(pool.results(lambda number, amount: None))
    elapsed = time.perf_counter() - started
    return elapsed, processor_s() - before, [msgspec.json.encode(done[number].main) for number in range(draws)]


def processor_s() -> float:
    """Processor seconds of children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def spin(_: int) -> None:
    total = 0
    for number in range(20_000_000):
        total += number


def machine_gain(workers: int) -> float:
    """How many times as much plain arithmetic so many processes get done as one."""
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        pool.map(spin, range(workers), chunksize=1)  # started and warm
        started = time.perf_counter()
        pool.apply(spin, (0,))
        alone = time.perf_counter() - started
        started = time.perf_counter()
        pool.map(spin, range(workers), chunksize=1)
        together = time.perf_counter() - started
    return workers * alone / together


def main() -> None:
    parser = argparse.ArgumentParser(description="Draws per second by workers.")
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--rate", type=float, default=26.0, help="requests per second of the trace")
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument("--jobs", default=f"1,{cores()}")
    parser.add_argument("--ray", action="store_true", help="also on a Ray cluster of this machine")
    options = parser.parse_args()
    warm_up()
    shared = stage(options.requests, options.rate)
    alone, tables = 0.0, []
    print(f"{options.draws} draws of {options.requests:,} requests, each with its centralised alternative")
    print(f"{'executor':>8} {'workers':>7} {'s':>7} {'cpu s':>7} {'req/s':>10} {'gain':>5} {'machine':>7} {'same':>5}")
    for executor in ("local", "ray") if options.ray else ("local",):
        for workers in map(int, options.jobs.split(",")):
            seconds, processor, found = timed(executor, shared, options.draws, workers)
            alone, tables = alone or seconds, tables or found
            speed = 2 * options.draws * options.requests / seconds
            gain, machine = alone / seconds, machine_gain(workers)
            same = "yes" if found == tables else "NO"
            times = f"{seconds:7.1f} {processor:7.1f} {speed:10,.0f}"
            print(f"{executor:>8} {workers:7} {times} {gain:5.2f} {machine:7.2f} {same:>5}")


if __name__ == "__main__":
    main()
