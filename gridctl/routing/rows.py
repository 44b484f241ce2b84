"""The three records `route` reads: a candidate, a request, a policy. Replay and gateway fill the same ones.

Times are microseconds as float64, money is dollars; `load` is the share of an engine's batch slots in use.
`is_priced`, `client_*`, `worst_ratio`, `miss_probability` and `usd` are
written by the router for the record: they are what an explanation prints.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from gridctl.resources import PolicySpec, WorkloadSpec
from gridctl.resources.policy import ALGORITHMS
from gridctl.units import NS_PER_MS, NS_PER_US

if TYPE_CHECKING:
    from gridctl.kernels import Records

US_PER_MS = NS_PER_MS / NS_PER_US

NEAREST, CENTRALIZED, ROUND_ROBIN, LEAST_LOADED, POWER_OF_TWO, PREFIX_AFFINITY, SESSION_STICKY, GRID = range(8)
SERVE_LATE, FALLBACK, REJECT = range(3)
WHEN_INFEASIBLE = ("serve-late", "fallback", "reject")

BATCHING, FUNCTION, PUBLIC_API = range(3)
"""What kind of engine a candidate is: owned GPUs, billed CPU functions, a billed public API."""

CANDIDATE = np.dtype(
    [
        ("engine", np.int64),
        ("kind", np.int64),
        ("is_core", np.int64),
        ("is_available", np.int64),
        ("is_priced", np.int64),
        ("in_flight", np.int64),
        ("prompt_tokens", np.int64),
        ("cached_tokens", np.int64),
        ("rtt_us", np.float64),
        ("ttft_us", np.float64),
        ("tpot_us", np.float64),
        ("load", np.float64),
        ("usd_gpu", np.float64),
        ("usd_cash", np.float64),
        ("client_ttft_us", np.float64),
        ("client_e2e_us", np.float64),
        ("worst_ratio", np.float64),
        ("miss_probability", np.float64),
        ("usd", np.float64),
    ]
)

REQUEST = np.dtype(
    [
        ("output_tokens", np.int64),
        ("turn", np.int64),
        ("draw", np.int64),
        ("session", np.int64),
        ("when_infeasible", np.int64),
        ("overhead_us", np.float64),
        ("network_us", np.float64),
        ("ttft_us", np.float64),
        ("tpot_us", np.float64),
        ("e2e_us", np.float64),
        ("miss_usd", np.float64),
    ]
)

POLICY = np.dtype(
    [
        ("algorithm", np.int64),
        ("prediction_shape", np.int64),
        ("imbalance_requests", np.int64),
        ("allow_serverless", np.int64),
        ("allow_fallback", np.int64),
        ("allow_reject", np.int64),
        ("gpu_weight", np.float64),
        ("cash_weight", np.float64),
        ("miss_weight", np.float64),
        ("reject_ratio", np.float64),
        ("prefix_min_share", np.float64),
        ("imbalance_ratio", np.float64),
    ]
)

NO_OBJECTIVE = 0.0


def policy_records(specs: Sequence[PolicySpec]) -> Records:
    """A row for each policy: what decides the requests of one workload each."""
    rows = np.zeros(len(specs), POLICY).view(np.recarray)
    for row, spec in zip(rows, specs, strict=True):
        row.algorithm = ALGORITHMS.index(spec.algorithm)
        for field in POLICY.names or ():
            if field != "algorithm":
                row[field] = getattr(spec, field)
    return rows


def request_records(workloads: list[WorkloadSpec]) -> Records:
    """One request template per workload: its objectives (0 = none), overhead and what a miss costs."""
    rows = np.zeros(max(1, len(workloads)), REQUEST).view(np.recarray)
    for row, spec in zip(rows, workloads, strict=False):
        row.when_infeasible = WHEN_INFEASIBLE.index(spec.when_infeasible)
        row.overhead_us = spec.overhead_ms * US_PER_MS
        row.miss_usd = spec.miss_usd
        for objective in spec.objectives:
            field = objective.metric.replace("_ms", "_us")
            limit = objective.threshold_ms * US_PER_MS
            row[field] = limit if row[field] == NO_OBJECTIVE else min(row[field], limit)
    return rows
