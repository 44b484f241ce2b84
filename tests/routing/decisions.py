"""Candidate rows made by hand, and the router's answer to them: everything unsaid is near, free and available.

GPU time counts in full (`load` 1) unless a candidate says otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from gridctl.resources import Objective, PolicySpec, WorkloadSpec
from gridctl.routing.route import route
from gridctl.routing.rows import CANDIDATE, policy_records, request_records

Candidate = Mapping[str, float]
MS = 1000.0


def candidate_rows(candidates: Sequence[Candidate]) -> np.recarray:
    """Rows as a replay fills them; times are given in milliseconds: `rtt`, `ttft`, `tpot`."""
    rows = np.zeros(max(1, len(candidates)), CANDIDATE).view(np.recarray)
    for index, candidate in enumerate(candidates):
        values = {"engine": index, "is_available": 1, "prompt_tokens": 100, "load": 1.0} | dict(candidate)
        for field, value in values.items():
            if field in ("rtt", "ttft", "tpot"):
                rows[index][f"{field}_us"] = value * MS
            else:
                rows[index][field] = value
    return rows


def workload(when_infeasible: str = "serve-late", miss_usd: float = 0.002, **objectives: float) -> WorkloadSpec:
    """`workload(ttft_ms=100)`; 500 ms to the first token unless objectives are given."""
    chosen = objectives or {"ttft_ms": 500.0}
    return WorkloadSpec(
        objectives=tuple(Objective(metric=metric, threshold_ms=limit) for metric, limit in chosen.items()),
        models=("m",),
        when_infeasible=when_infeasible,
        miss_usd=miss_usd,
    )


def decide(
    rows: np.recarray, policy: PolicySpec, spec: WorkloadSpec | None = None, *, output_tokens: int = 1, **request: int
) -> int:
    """What `route` answers; `request` may hold `draw`, `turn` and `session`."""
    records = request_records([spec or workload()])
    records[0]["output_tokens"] = output_tokens
    for field, value in request.items():
        records[0][field] = value
    return int(route(rows, len(rows), records[0], policy_records([policy])[0]))


def choose(candidates: Sequence[Candidate], algorithm: str, **request: int) -> int:
    """The index chosen among candidates by an algorithm with default numbers."""
    return decide(candidate_rows(candidates), PolicySpec(algorithm=algorithm), **request)
