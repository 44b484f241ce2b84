"""Tiny runs built by hand: each request says what happened to it, everything unsaid is nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest

from gridctl.accounts.facts import EngineFacts, Origin, RunInfo
from gridctl.accounts.rows import OUTCOMES, REASONS, Run, RunRows
from gridctl.resources import Objective, WorkloadSpec

MakeRun = Callable[..., Run]
MS = 1_000_000
COLUMNS = {
    "arrival_ns": np.int64,
    "origin": np.int32,
    "workload": np.int32,
    "tenant": np.int32,
    "engine": np.int32,
    "outcome": np.int8,
    "reason": np.int8,
    "input_tokens": np.int64,
    "cached_tokens": np.int64,
    "output_tokens": np.int64,
    "rtt_ns": np.int64,
    "queue_ns": np.int64,
    "compute_ns": np.int64,
    "decode_ns": np.int64,
    "preemptions": np.int32,
    "gpu_ns": np.int64,
    "serverless_ns": np.int64,
}


def workload(*objectives: tuple[str, float], **spec: object) -> WorkloadSpec:
    """A workload from `("ttft_ms", 500)` pairs, each at p99 unless a third number says otherwise."""
    built = tuple(Objective(metric=metric, threshold_ms=ms, percentile=99.0) for metric, ms in objectives)  # type: ignore[arg-type]
    return WorkloadSpec(objectives=built, models=("m",), **spec)  # type: ignore[arg-type]


@pytest.fixture
def make_run() -> MakeRun:
    """Build a run. A request is a mapping of column names to values; names ending in `_ms` fill the `_ns` column, and
    `outcome` and `reason` may be words."""

    def build(
        requests: Sequence[Mapping[str, object]] = (),
        *,
        engines: Sequence[EngineFacts] = (),
        workloads: Mapping[str, WorkloadSpec] | None = None,
        tenants: Sequence[str] = ("default",),
        regions: Sequence[str] = ("EU",),
        window_s: float = 10.0,
        name: str = "base",
        centralized: str = "",
    ) -> Run:
        specs = dict(workloads or {"chat": workload(("ttft_ms", 500.0))})
        rows = RunRows(**{column: _column(requests, column, dtype) for column, dtype in COLUMNS.items()})
        outcomes = [int((rows.outcome == code).sum()) for code in range(3)]
        info = RunInfo(
            name=name,
            trace="hand",
            policy="default",
            algorithm="grid",
            seed=1,
            created_ns=0,
            wall_s=0.0,
            requests=len(rows),
            completed=outcomes[0],
            rejected=outcomes[1],
            failed=outcomes[2],
            input_tokens=0,
            output_tokens=0,
            window_ns=round(window_s * 1e9),
            digest="",
            gridctl_version="0",
            engines=tuple(engines),
            origins=tuple(Origin(name=r.lower(), country="FR", region=r, jurisdiction="EU") for r in regions),
            workloads=specs,
            workload_names=tuple(specs),
            tenant_names=tuple(tenants),
            centralized=centralized,
        )
        return Run(info=info, rows=rows)

    return build


def _column(requests: Sequence[Mapping[str, object]], column: str, dtype: type) -> np.ndarray:
    return np.array([_value(request, column) for request in requests], dtype=dtype)


def _value(request: Mapping[str, object], column: str) -> int:
    in_ms = column.replace("_ns", "_ms")
    if column.endswith("_ns") and in_ms in request:
        return round(float(request[in_ms]) * MS)  # type: ignore[arg-type]
    value = request.get(column, 0)
    if column == "outcome" and isinstance(value, str):
        return OUTCOMES.index(value)
    if column == "reason" and isinstance(value, str):
        return REASONS.index(value)
    return int(value)  # type: ignore[call-overload]


@pytest.fixture
def make_workload() -> Callable[..., WorkloadSpec]:
    """`make_workload(("ttft_ms", 500), attainment=0.99)`."""
    return workload


@pytest.fixture
def make_engine() -> Callable[..., EngineFacts]:
    """An engine of a core GPU cluster unless said otherwise."""

    def build(**facts: object) -> EngineFacts:
        said: dict[str, object] = {
            "kind": "gpu",
            "cluster": "c",
            "site": "s",
            "tier": "core",
            "region": "EU",
            "model": "m",
            "variant": "fp8",
        }
        return EngineFacts(**(said | facts))  # type: ignore[arg-type]

    return build
