"""Lag: whether the generator kept up, for a load that was sent late measures the generator.

The rule: of the requests of a workload, those at the percentile that an objective speaks of left within 1 % of that
objective. It counts for objectives on a time that sending is part of: to the first token, end to end. A run that breaks
it is void. Turns of a session are counted from the moment they were intended for, so waiting for an answer is no lag;
waiting for a free connection is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gridctl.accounts.percentiles import percentiles
from gridctl.resources import WorkloadSpec
from gridctl.units import NS_PER_MS

ALLOWED_SHARE = 0.01
COUNTED = ("ttft_ms", "e2e_ms")


@dataclass(frozen=True, slots=True)
class Lag:
    """How late the requests of a load left, in milliseconds; `broken` names what the rule says of each workload that
    breaks it."""

    p50_ms: float
    p99_ms: float
    most_ms: float
    broken: tuple[str, ...]


def lag_of(
    lag_ns: NDArray[np.int64],
    workload: NDArray[np.int32],
    names: tuple[str, ...],
    specs: Mapping[str, WorkloadSpec],
) -> Lag:
    """Judge the lag of every request, shape `(n,)`; `workload` indexes `names`."""
    if not len(lag_ns):
        return Lag(0.0, 0.0, 0.0, ())
    broken = []
    for index, name in enumerate(names):
        members = lag_ns[workload == index]
        spec = specs.get(name)
        for objective in spec.objectives if spec and len(members) else ():
            late = _at(members, objective.percentile)
            allowed = objective.threshold_ms * ALLOWED_SHARE
            if objective.metric in COUNTED and late > allowed:
                what = f"{objective.metric} p{objective.percentile:g}"
                broken.append(f"{name} {what}: {late:.2f} ms late, {allowed:.2f} ms allowed")
    return Lag(_at(lag_ns, 50.0), _at(lag_ns, 99.0), int(lag_ns.max()) / NS_PER_MS, tuple(broken))


def _at(lag_ns: NDArray[np.int64], percentile: float) -> float:
    """A percentile of some lags, in milliseconds."""
    (found,) = percentiles(lag_ns, (percentile,))
    return (found or 0) / NS_PER_MS
