"""Declared: what the grid says of the names a trace uses, and what it says nothing of."""

from __future__ import annotations

from gridctl.errors import InputError, did_you_mean
from gridctl.grid.view import GridView
from gridctl.resources import WorkloadSpec
from gridctl.traces.trace import Traffic
from gridctl.units import NS_PER_S

LONGEST_TRACE_NS = 30 * 86_400 * NS_PER_S
"""30 days: virtual time is counted in picoseconds, and engines must be able to finish what the trace leaves."""


def workload_specs(view: GridView, trace: Traffic) -> dict[str, WorkloadSpec]:
    """The declared workload of every name the trace uses, in the trace's order."""
    specs: dict[str, WorkloadSpec] = {}
    for name in trace.workloads:
        if name not in view.workloads:
            close = did_you_mean(name, view.workloads)
            raise InputError(
                f"the trace names workload {name}, which the grid does not have",
                where=f"trace {trace.name}",
                fix=f"did you mean {close}?" if close else "gridctl workload list",
            )
        specs[name] = view.workloads[name].spec
    for name in trace.models:
        if name not in view.models:
            close = did_you_mean(name, view.models)
            raise InputError(
                f"the trace names model {name}, which the grid does not have",
                where=f"trace {trace.name}",
                fix=f"did you mean {close}?" if close else "gridctl model list",
            )
    if trace.duration_ns > LONGEST_TRACE_NS:
        raise InputError(
            "the trace spans more than 30 days", where=f"trace {trace.name}", fix="slice it: --from, --until, --speed"
        )
    return specs
