"""Run jobs on a real Ray cluster of this machine and print, as JSON, what came of them. Started by test_cluster.py in a
process of its own, because Ray leaves threads and settings behind."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "grid"))

import msgspec
import replays
from smallgrids import cluster, gpu, model, site, trace, workload

from gridctl.executors.pool import running
from gridctl.orchestrator.replaying import Order
from gridctl.orchestrator.scenario import Job, Scenario, Stage
from gridctl.resources import Policy, PolicySpec
from gridctl.resources.resource import Metadata


def stage() -> Stage:
    """Forty requests over two sites with a GPU each."""
    resources = (
        gpu(),
        model(),
        site("paris", population=3),
        site("frankfurt", "DE", "core", lat=50.1, lon=8.7, population=1),
        cluster("edge", "paris", usd_per_gpu_hour=3.0),
        cluster("core", "frankfurt"),
        workload(),
    )
    policy = Policy(metadata=Metadata(name="grid"), spec=PolicySpec())
    requests = trace([{"at_ms": 10 * number} for number in range(40)])
    return Stage(requests, (Scenario(resources, policy, Order(name="base")),))


def tables(executor: str, killed: list[int], addresses: list[str]) -> list[str]:
    """The tables of three draws; with Ray the worker at the second is killed in the middle of its replay."""
    folder = Path(os.environ["PARKED_IN"])
    if executor == "local":
        (folder / "parked").touch()

    def kill() -> None:
        with (folder / "pids").open() as file:
            killed.append(int(file.readline()))
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    if executor == "ray":
        killer.start()
    jobs = [Job(0, draw) for draw in (1, 2, 3)]
    with running(executor, replays.parked_replay, stage(), jobs, workers=2) as pool:
        addresses += listening()
        found = dict(pool.results(lambda number, amount: None))
    return [msgspec.json.encode((found[number].main, found[number].central)).decode() for number in range(3)]


def listening() -> list[str]:
    """Addresses, as the kernel writes them, that this process and all below it listen on."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    ours = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= more
    sockets = set()
    for pid in ours:
        try:
            sockets |= {os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()}
        except OSError:
            continue
    found = []
    for family in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{family}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in sockets:
                found.append(words[1].partition(":")[0])
    return found


def main() -> None:
    killed: list[int] = []
    addresses: list[str] = []
    rayed = tables("ray", killed, addresses)
    answer = {
        "killed": len(killed),
        "same": rayed == tables("local", [], []),
        "seeds": [json.loads(one)[0]["seed"] for one in rayed],
        "addresses": sorted(set(addresses)),
    }
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
