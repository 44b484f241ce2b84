"""Every policy on the same traces: what it kept of its promises and what it cost.

    python tests/bench/policies.py TRACE… [--speed 1 200] [--sites 4400] [--policies grid least-loaded]

Replays each trace at each speed over the generated world under each policy, same seed, and prints good requests,
dollars, dollars per million goodput tokens and TTFT p99. `+` marks baselines that the first policy dominates: at least
as many good requests for no more money; `!` marks baselines that beat it on one without losing on the other.
"""

from __future__ import annotations

import argparse
import sys

from gridctl.accounts.facts import RunInfo
from gridctl.accounts.rows import Run
from gridctl.accounts.tables import TokenomicsRow
from gridctl.accounts.tokenomics import total_row
from gridctl.geography.world import generate_world
from gridctl.grid.image import GridImage, build_image
from gridctl.replay.replay import replay
from gridctl.resources import PolicySpec, Resource, Site, Workload
from gridctl.resources.policy import ALGORITHMS
from gridctl.traces.overlay import overlay
from gridctl.traces.reader import read_trace
from gridctl.traces.slicing import repeat, scale_time
from gridctl.traces.trace import Trace


def account(image: GridImage, trace: Trace, spec: PolicySpec) -> TokenomicsRow:
    """The total row of one replay."""
    done = replay(image, trace, spec)
    info = RunInfo(
        name="bench",
        trace=trace.name,
        policy=spec.algorithm,
        algorithm=spec.algorithm,
        seed=1,
        created_ns=0,
        wall_s=0.0,
        requests=len(trace),
        completed=0,
        rejected=0,
        failed=0,
        input_tokens=0,
        output_tokens=0,
        window_ns=done.window_ns,
        digest="",
        gridctl_version="",
        engines=done.engines,
        origins=done.origins,
        workloads=done.workloads,
        workload_names=trace.workloads,
        tenant_names=trace.tenants,
    )
    return total_row(Run(info, done.rows))


def compare(resources: list[Resource], trace: Trace, policies: list[str]) -> None:
    image = build_image(resources)
    best: TokenomicsRow | None = None
    for name in policies:
        row = account(image, trace, PolicySpec(algorithm=name))  # type: ignore[arg-type]
        best = best or row
        good, base = row.good / row.requests, best.good / best.requests
        mark = " "
        if row is not best:
            mark = "+" if base >= good and best.usd <= row.usd * 1.0005 else " "
            mark = "!" if good >= base and row.usd <= best.usd and (good > base or row.usd < best.usd) else mark
        print(
            f"  {mark} {name:16} good {good:7.2%}  rejected {row.rejected:6d}  ${row.usd:9.2f}"
            f"  $/M goodput {row.usd_per_mtok_goodput or 0:8.3f}  TTFT p99 {row.ttft_p99_ms or 0:9.0f} ms"
            f"  cached {(row.cached_tokens / row.input_tokens):6.1%}"
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("traces", nargs="+")
    parser.add_argument("--speed", nargs="+", type=float, default=[1.0])
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--sites", type=int, default=4400)
    parser.add_argument("--policies", nargs="+", default=["grid", *(name for name in ALGORITHMS if name != "grid")])
    chosen = parser.parse_args()
    resources = generate_world(chosen.sites, 1)
    sites = [resource for resource in resources if isinstance(resource, Site)]
    workloads = [resource for resource in resources if isinstance(resource, Workload)]
    for path in chosen.traces:
        trace = overlay(repeat(read_trace(path), chosen.repeat, shared_blocks=True), sites, workloads, 1)
        for speed in chosen.speed:
            print(
                f"{trace.name} × {speed:g}: {len(trace)} requests, {len(trace) / trace.duration_ns * 1e9 * speed:.1f}/s"
            )
            compare(resources, scale_time(trace, speed), chosen.policies)
            sys.stdout.flush()


if __name__ == "__main__":
    main()
