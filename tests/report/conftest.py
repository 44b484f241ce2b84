"""Runs to report on: a small one whose every number can be counted, and places for its sites."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from gridctl.accounts.facts import EngineFacts, Origin, RunInfo
from gridctl.accounts.rows import Run, RunRows
from gridctl.geography.place import Place
from gridctl.report.content import Report, report_of
from gridctl.resources import Objective, WorkloadSpec

sys.path.insert(0, str(Path(__file__).parent))

from browser import Browser, found_browser

MS = 1_000_000
SITES = {
    "fr-paris-01": Place("fr-paris-01", 48.86, 2.35, "FR", "edge"),
    "de-frankfurt-01": Place("de-frankfurt-01", 50.11, 8.68, "DE", "core"),
    "us-nyc-01": Place("us-nyc-01", 40.71, -74.0, "US", "core"),
}


def engine(site: str, tier: str, region: str, usd_per_gpu_hour: float, kind: str = "gpu") -> EngineFacts:
    return EngineFacts(
        kind=kind,
        cluster=f"{site}-gpu",
        site=site,
        tier=tier,
        region=region,
        model="llama",
        variant="fp8",
        gpus=1,
        usd_per_gpu_hour=usd_per_gpu_hour,
    )


def small_run(
    name: str = "base",
    *,
    n: int = 400,
    late_share: float = 0.1,
    trace: str = "hand",
    workload: str = "chat",
    origin: str = "fr-paris-01",
    centralized: str = "",
    usd_per_gpu_hour: float = 3.6,
) -> Run:
    """`n` requests over 100 s from Paris, New York and Frankfurt in turn, the first `late_share` of them late by their
    queue, the last one refused; engines in Paris and Frankfurt."""
    of = np.arange(n)
    late = of < n * late_share
    refused = of == n - 1
    served = np.where(refused, -1, of % 2).astype(np.int32)
    rows = RunRows(
        arrival_ns=(of * (100_000 * MS // n)).astype(np.int64),
        origin=(of % 3).astype(np.int32),
        workload=(of % 2).astype(np.int32),
        tenant=np.zeros(n, np.int32),
        engine=served,
        outcome=refused.astype(np.int8),
        reason=np.where(refused, 5, 0).astype(np.int8),
        input_tokens=np.full(n, 1000, np.int64),
        cached_tokens=np.zeros(n, np.int64),
        output_tokens=np.full(n, 10, np.int64),
        rtt_ns=np.where(refused, 0, 20 * MS).astype(np.int64),
        queue_ns=np.where(late & ~refused, 2_000 * MS, 0).astype(np.int64),
        compute_ns=np.where(refused, 0, (50 + of % 40) * MS).astype(np.int64),
        decode_ns=np.where(refused, 0, 90 * MS).astype(np.int64),
        preemptions=np.zeros(n, np.int32),
        gpu_ns=np.where(refused, 0, 100 * MS).astype(np.int64),
        serverless_ns=np.zeros(n, np.int64),
    )
    objectives = (Objective(metric="ttft_ms", threshold_ms=500.0, percentile=95.0),)
    info = RunInfo(
        name=name,
        trace=trace,
        policy="default",
        algorithm="grid",
        seed=1,
        created_ns=0,
        wall_s=0.0,
        requests=n,
        completed=n - 1,
        rejected=1,
        failed=0,
        input_tokens=1000 * n,
        output_tokens=10 * n,
        window_ns=100_000 * MS,
        digest="sha256:0123",
        gridctl_version="9.9.9",
        engines=(
            engine("fr-paris-01", "edge", "EU", usd_per_gpu_hour),
            engine("de-frankfurt-01", "core", "EU", usd_per_gpu_hour),
        ),
        origins=(
            Origin(name=origin, country="FR", region="EU", jurisdiction="EU"),
            Origin(name="us-nyc-01", country="US", region="NA", jurisdiction="US"),
            Origin(name="de-frankfurt-01", country="DE", region="EU", jurisdiction="EU"),
        ),
        workloads={known: WorkloadSpec(objectives=objectives, models=("llama",)) for known in (workload, "voice")},
        workload_names=(workload, "voice"),
        tenant_names=("acme",),
        centralized=centralized,
    )
    return Run(info, rows)


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Run]:
    """`make_run("base", n=400, late_share=0.1)`."""
    return small_run


@pytest.fixture(scope="session")
def places() -> dict[str, Place]:
    return SITES


@pytest.fixture(scope="session")
def report(places: dict[str, Place]) -> Report:
    """A run beside its centralised alternative."""
    return report_of(
        small_run(centralized="base.centralized"),
        made_ns=0,
        places=places,
        centralized=small_run("base.centralized", late_share=0.3, usd_per_gpu_hour=7.2),
        commands=("gridctl replay run hand --name base", "gridctl report base --html base.html"),
    )


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A headless browser; tests that need one skip where none is installed, unless GRIDCTL_TEST_BROWSER names one."""
    program = found_browser()
    if program is None:
        pytest.skip("no Chromium is installed")
    opened = Browser(program, tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()
