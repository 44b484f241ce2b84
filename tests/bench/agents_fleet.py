"""200 sites' agents behind thin links, 10 % dying at random, the orchestrator killed once: bytes and time of a rollout.

    python tests/bench/agents_fleet.py [--sites 200] [--rows 1024] [--link 2e6]

Debian's docker-registry on loopback behind a proxy that gives each connection `--link` bytes per second; `gridctl up`;
agents as asyncio tasks in a few processes, those that die (kill −9, restarted within a second) in processes of their
own. First the base goes to sites that hold nothing, then a variant of it (one file of two changed) while things die,
then the base in FP8, which sites make themselves.
Fails unless every site ends on the right digest and no look at a site ever found a mix.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "live"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "agent"))

from agentworld import Pushed, committed_digest, complaint_of, wait_for
from fleet import MODEL, Deaths, Figures, Fleet
from ociregistry import running_registry


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sites", type=int, default=200)
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--link", type=float, default=2e6, help="bytes per second")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gridctl-fleet-") as folder:
        root = Path(folder)
        (root / "registry").mkdir()
        with running_registry(root / "registry") as registry:
            mortals = max(1, given.sites // 10)
            fleet = Fleet(root, registry, given.sites, mortals, "2s", given.rows, given.link)
            try:
                began = time.monotonic()
                fleet.begin()
                print(f"{given.sites} agents begun in {time.monotonic() - began:.0f} s", flush=True)
                show(run(fleet, given.seed))
            finally:
                fleet.close()


def run(fleet: Fleet, seed: int) -> list[Figures]:
    base, tuned, fp8 = fleet.models()
    first = fleet.roll_out(base, "base", [fleet.names], 600, lambda: None)
    print(f"the base is everywhere after {first.seconds:.0f} s", flush=True)
    deaths = Deaths(fleet, seed)
    few = max(1, fleet.sites // 20)
    most = fleet.sites // 4
    waves = [fleet.names[:1], fleet.names[1:few], fleet.names[few:most], fleet.names[most:]]
    second = fleet.roll_out(tuned, "tuned", waves, 600, deaths)
    deaths.end()
    second.deaths, second.looks = deaths.agents + deaths.orchestrators, fleet.looks
    wait_until_all_serve(fleet, tuned)
    third = fleet.roll_out(fp8, "fp8", [fleet.names], 600, lambda: None)
    wait_until_all_serve(fleet, fp8)
    wrong = [name for name, order in fleet.orders.items() if complaint_of(order.folder)]
    assert not wrong, f"these serve a mix: {wrong}"
    assert not fleet.complaints, fleet.complaints
    assert deaths.agents == fleet.mortals, f"{deaths.agents} agents died"
    assert deaths.orchestrators == 1
    return [first, second, third]


def wait_until_all_serve(fleet: Fleet, pushed: Pushed) -> None:
    wait_for(
        lambda: all(committed_digest(order.folder, MODEL) == pushed.digest for order in fleet.orders.values()),
        "every site to commit",
        120,
    )


def show(rows: list[Figures]) -> None:
    print(
        f"{'rollout':8} {'naive bytes':>14} {'moved bytes':>14} {'share':>7} {'seconds':>8} {'killed':>7} {'looks':>6}"
    )
    for row in rows:
        share = row.carried_bytes / row.naive_bytes
        print(
            f"{row.name:8} {row.naive_bytes:14,} {row.carried_bytes:14,} {share:7.1%} {row.seconds:8.0f} "
            f"{row.deaths:7} {row.looks:6}"
        )
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(f"no site ever led to a mix; CPU of this process, looks included: {used.ru_utime + used.ru_stime:.0f} s")


if __name__ == "__main__":
    main()
