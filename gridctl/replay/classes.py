"""Classes of request in a trace: the pairs of workload and model that occur, found in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gridctl.errors import InputError
from gridctl.grid.candidates import RequestClass, request_class
from gridctl.replay.prefixes import parts
from gridctl.resources import PolicySpec, WorkloadSpec
from gridctl.traces.trace import UNSAID, Trace, Traffic


@dataclass(frozen=True, slots=True)
class Classes:
    """The pairs that occur, in rising order of workload · `width` + model + 1."""

    pairs: NDArray[np.int64]
    width: int

    def of(self, rows: Trace) -> NDArray[np.int64]:
        """The class of each request."""
        return np.searchsorted(self.pairs, _pairs(rows, self.width)).astype(np.int64)

    def described(self, traffic: Traffic, workloads: Sequence[WorkloadSpec], policy: PolicySpec) -> list[RequestClass]:
        """The classes in words; `workloads` in the trace's order."""
        return [
            request_class(
                traffic.workloads[pair // self.width],
                workloads[pair // self.width],
                traffic.models[pair % self.width - 1] if pair % self.width else None,
                policy,
            )
            for pair in self.pairs.tolist()
        ]


def find_classes(traffic: Traffic) -> Classes:
    """Read the trace once. Raises InputError when a request does not say where it comes from or what it is for."""
    width = len(traffic.models) + 1
    found: set[int] = set()
    for rows, _ in parts(traffic):
        if int(rows.workload.min()) == UNSAID or int(rows.origin.min()) == UNSAID:
            raise InputError(
                "some requests have no origin or workload",
                where=f"trace {traffic.name}",
                fix="gridctl trace overlay IN OUT",
            )
        found.update(np.unique(_pairs(rows, width)).tolist())
    return Classes(np.array(sorted(found), np.int64), width)


def _pairs(rows: Trace, width: int) -> NDArray[np.int64]:
    pairs: NDArray[np.int64] = rows.workload.astype(np.int64) * width + rows.model + 1
    return pairs
