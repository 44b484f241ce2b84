"""Overlay: an origin, a workload and a tenant for requests of traces that do not say, drawn from the grid's own mix.

Fills only what is missing; the model stays unsaid, because the workload decides which models may serve it. Every draw
is keyed by the request's index, or by its session, so a session keeps its origin, its tenant and, where its longest
request fits, its workload. Invariant: the same trace, grid and seed give the same columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gridctl.resources import Site, Workload
from gridctl.traces.population import origin_sites, tenant_table, workload_shares
from gridctl.traces.randomness import choices, uniforms
from gridctl.traces.trace import UNSAID, Trace

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Indices = NDArray[np.int32]

_ROWS_AT_ONCE = 65_536
_NO_LIMIT = 1 << 62
_SESSION_KEYS = 1 << 40  # keeps the draws of sessions apart from those of single requests


def overlay(trace: Trace, sites: Sequence[Site], workloads: Sequence[Workload], seed: int) -> Trace:
    """The trace with every missing origin, workload and tenant filled in.

    Origins: sites by population. Workloads: by traffic share among those whose token limits hold the request; when none
    does, those without limits, else the one with the largest limits. Tenants: the workload's, evenly. O(n · workloads).
    """
    holder, key = _holders(trace)
    filled = trace
    if sites and np.any(trace.origin == UNSAID):
        filled = _fill_origin(filled, sites, holder, key, seed)
    if workloads and np.any(trace.workload == UNSAID):
        filled = _fill_workload(filled, workloads, holder, key, seed)
    if workloads and np.any(trace.tenant == UNSAID):
        filled = _fill_tenant(filled, workloads, holder, key, seed)
    changed = [word for word in ("origin", "workload", "tenant") if getattr(filled, word) is not getattr(trace, word)]
    if not changed:
        return trace
    return replace(filled, notes=(*trace.notes, f"{', '.join(changed)} drawn from the grid's mix, seed {seed}"))


def _holders(trace: Trace) -> tuple[Ints, Ints]:
    """For each request who holds its draws (its session, or itself) as a number 0…h − 1, and each holder's key."""
    index = np.arange(len(trace))
    raw = np.where(trace.session == UNSAID, index, 0)
    has_session = trace.session != UNSAID
    raw = np.where(has_session, _SESSION_KEYS + trace.session, raw)
    key, holder = np.unique(raw, return_inverse=True)
    return holder.astype(np.int64), key


def _inherited(column: Indices, holder: Ints, holders: int) -> Indices:
    """Per holder what one of its requests (the first) says, or UNSAID."""
    said = np.flatnonzero(column != UNSAID)[::-1]  # written backwards, so that the first one stays
    value = np.full(holders, UNSAID, np.int32)
    value[holder[said]] = column[said]
    return value


def _filled(
    column: Indices, drawn: Ints, known: Sequence[str], names: Sequence[str]
) -> tuple[Indices, tuple[str, ...]]:
    """The column with `drawn` (indices into `names`) where it was unsaid, and the table of names it now needs."""
    missing = column == UNSAID
    used = np.unique(drawn[missing])
    table = {name: number for number, name in enumerate(known)}
    translate = np.zeros(len(names), np.int32)
    for number in used.tolist():
        translate[number] = table.setdefault(names[number], len(table))
    return np.where(missing, translate[drawn], column).astype(np.int32), tuple(table)


def _spread(column: Indices, holder: Ints, holders: int) -> Indices:
    """The column with what a session says at one request said at all of them."""
    return np.where(column == UNSAID, _inherited(column, holder, holders)[holder], column).astype(np.int32)


def _fill_origin(trace: Trace, sites: Sequence[Site], holder: Ints, key: Ints, seed: int) -> Trace:
    names, weights, _ = origin_sites(sites)
    drawn = choices(weights, uniforms(seed, "overlay/origin", key))[holder]
    column, table = _filled(_spread(trace.origin, holder, len(key)), drawn, trace.origins, names)
    return replace(trace, origin=column, origins=table)


def _fill_workload(trace: Trace, workloads: Sequence[Workload], holder: Ints, key: Ints, seed: int) -> Trace:
    ordered, shares = workload_shares(workloads)
    limits_in, limits_out = token_limits(ordered)
    longest_in, longest_out = np.zeros(len(key), np.int64), np.zeros(len(key), np.int64)
    np.maximum.at(longest_in, holder, trace.input_tokens)
    np.maximum.at(longest_out, holder, trace.output_tokens)
    # a session whose longest request fits nowhere is placed request by request
    whole = np.zeros(len(key), bool)
    for most_in, most_out, share in zip(limits_in, limits_out, shares, strict=True):
        whole |= (longest_in <= most_in) & (longest_out <= most_out) & (share > 0)
    input_tokens = np.where(whole[holder], longest_in[holder], trace.input_tokens)
    output_tokens = np.where(whole[holder], longest_out[holder], trace.output_tokens)
    uniform = uniforms(seed, "overlay/workload", key)[holder]
    drawn = fitting_workloads(input_tokens, output_tokens, limits_in, limits_out, shares, uniform)
    column, table = _filled(
        _spread(trace.workload, holder, len(key)), drawn, trace.workloads, tuple(w.name for w in ordered)
    )
    return replace(trace, workload=column, workloads=table)


def token_limits(workloads: Sequence[Workload]) -> tuple[Ints, Ints]:
    """The longest input and output each workload holds."""
    traffic = [workload.spec.traffic for workload in workloads]
    return (
        np.array([limits.max_input_tokens or _NO_LIMIT for limits in traffic], np.int64),
        np.array([limits.max_output_tokens or _NO_LIMIT for limits in traffic], np.int64),
    )


def fitting_workloads(
    input_tokens: Ints, output_tokens: Ints, limits_in: Ints, limits_out: Ints, shares: Floats, uniform: Floats
) -> Ints:
    """An index of a workload per request, by share among those whose limits hold it (see `token_limits`)."""
    chosen = np.empty(len(input_tokens), np.int64)
    for first in range(0, len(chosen), _ROWS_AT_ONCE):
        rows = slice(first, first + _ROWS_AT_ONCE)
        fits = (input_tokens[rows, None] <= limits_in) & (output_tokens[rows, None] <= limits_out)
        weights = np.where(fits, shares, 0.0)
        nowhere = ~weights.any(axis=1)
        if nowhere.any():
            weights[nowhere] = _last_resort(limits_in, limits_out, shares)
        total = np.cumsum(weights, axis=1)
        point = uniform[rows] * total[:, -1]
        picked = np.sum(total <= point[:, None], axis=1)
        # rounding at the very end must not pick a workload of weight 0
        last = weights.shape[1] - 1 - np.argmax(weights[:, ::-1] > 0, axis=1)
        chosen[rows] = np.minimum(picked, last)
    return chosen


def _last_resort(limits_in: Ints, limits_out: Ints, shares: Floats) -> Floats:
    """Weights for a request no workload's limits hold: the unlimited ones by share, else the widest one alone."""
    unlimited = np.where((limits_in == _NO_LIMIT) & (limits_out == _NO_LIMIT), shares, 0.0)
    if unlimited.any():
        return unlimited
    # a share of 0 asks for no traffic at all; equal limits go to the first by name
    widest = np.lexsort((-np.arange(len(shares)), limits_out, limits_in, shares > 0))[-1]
    return np.where(np.arange(len(shares)) == widest, 1.0, 0.0)


def _fill_tenant(trace: Trace, workloads: Sequence[Workload], holder: Ints, key: Ints, seed: int) -> Trace:
    ordered, _ = workload_shares(workloads)
    names, owned = tenant_table(ordered)
    index = {workload.name: number for number, workload in enumerate(ordered)}
    uniform = uniforms(seed, "overlay/tenant", key)[holder]
    column = _spread(trace.tenant, holder, len(key))
    drawn = np.zeros(len(trace), np.int64)
    unknown = np.ones(len(trace), bool)
    for number, name in enumerate(trace.workloads):
        if name not in index:
            continue
        rows = trace.workload == number
        tenants = owned[index[name]]
        drawn[rows] = tenants[(uniform[rows] * len(tenants)).astype(np.int64)]
        unknown &= ~rows
    filled, table = _filled(column, drawn, trace.tenants, names)
    return replace(trace, tenant=np.where(unknown, column, filled).astype(np.int32), tenants=table)
