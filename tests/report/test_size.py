"""Size: a page for 4,400 sites and a million requests stays below a megabyte."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import msgspec
import numpy as np
import pytest

from gridctl.accounts.facts import RunInfo
from gridctl.accounts.rows import Run, RunRows
from gridctl.geography.place import Place, place_of
from gridctl.geography.world import generate_world
from gridctl.grid.image import build_image
from gridctl.replay.replay import replay
from gridctl.report.content import report_of
from gridctl.report.page import page
from gridctl.resources import PolicySpec, Site, Workload
from gridctl.traces.generate import GenerateSpec, generate

SITES, REQUESTS, TIMES = 4_400, 20_000, 50
CAP_BYTES = 1_000_000


@pytest.fixture(scope="module")
def world() -> tuple[Run, dict]:
    """A replay over the world, its requests repeated until they are a million."""
    resources = generate_world(SITES, 1)
    sites = [one for one in resources if isinstance(one, Site)]
    workloads = [one for one in resources if isinstance(one, Workload)]
    spec = GenerateSpec(duration_s=REQUESTS / 1000, rate_rps=1000.0, block_tokens=0)
    trace = generate(spec, sites, workloads, 3)
    result = replay(build_image(resources), trace, PolicySpec())
    once = result.rows
    many = {f.name: np.tile(getattr(once, f.name), TIMES) for f in fields(RunRows)}
    length_ns = int(once.arrival_ns[-1]) + 1
    many["arrival_ns"] = (once.arrival_ns + length_ns * np.arange(TIMES)[:, None]).ravel()
    n = len(trace) * TIMES
    info = RunInfo(
        name="world",
        trace="generated",
        policy="default",
        algorithm="grid",
        seed=1,
        created_ns=0,
        wall_s=0.0,
        requests=n,
        completed=int((once.outcome == 0).sum()) * TIMES,
        rejected=int((once.outcome == 1).sum()) * TIMES,
        failed=int((once.outcome == 2).sum()) * TIMES,
        input_tokens=int(once.input_tokens.sum()) * TIMES,
        output_tokens=int(once.output_tokens.sum()) * TIMES,
        window_ns=result.window_ns + length_ns * (TIMES - 1),
        digest="sha256:",
        gridctl_version="0",
        engines=result.engines,
        origins=result.origins,
        workloads=result.workloads,
        workload_names=trace.workloads,
        tenant_names=trace.tenants,
    )
    return Run(info, RunRows(**many)), {site.name: place_of(site) for site in sites}


@pytest.mark.slow
def test_a_world_of_requests_fits_a_megabyte(world: tuple[Run, dict]) -> None:
    run, places = world
    assert len(run.rows) > 950_000
    other = Run(msgspec.structs.replace(run.info, name="other"), run.rows)
    made = report_of(run, made_ns=0, places=places, centralized=other)
    assert len(made.origins) > 4_000
    text = page(made)
    assert len(text.encode()) < CAP_BYTES


def test_more_of_everything_is_left_out_and_counted(make_run: Callable, places: dict[str, Place]) -> None:
    """A thousand tenants, and a hundred workloads with long names and promises of their own."""
    run = make_run(n=4_000)
    n, names = len(run.rows), tuple(f"workload-{'x' * 50}-{number:03}" for number in range(100))
    info = msgspec.structs.replace(
        run.info,
        workload_names=names,
        workloads=dict.fromkeys(names, run.info.workloads["voice"]),
        tenant_names=tuple(f"tenant-{'y' * 50}-{number:03}" for number in range(1_000)),
    )
    rows = replace(
        run.rows, workload=(np.arange(n) % 100).astype(np.int32), tenant=(np.arange(n) % 997).astype(np.int32)
    )
    text = page(report_of(Run(info, rows), made_ns=0, places=places))
    assert len(text.encode()) < CAP_BYTES
    assert "76 workloads with fewer requests are not shown." in text
    assert "more rows: gridctl sla base -o csv" in text
