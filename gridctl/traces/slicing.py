"""Slicing: a trace's rows chosen, cut, sped up, repeated or merged. Pure: every function makes a new Trace.

Invariant: the first arrival of what these functions return is 0, and requests stay in order of arrival.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gridctl.errors import InputError
from gridctl.traces.randomness import uniforms
from gridctl.traces.trace import Trace
from gridctl.units import NS_PER_S

_LONGEST_NS = 1 << 62
_OWN_SESSION = 1 << 40
"""Numbers of requests without a session start here, above those of sessions."""


def take(trace: Trace, rows: NDArray[np.int64]) -> Trace:
    """The rows at these indices, in the order given; arrival times are left as they are."""
    counts = np.diff(trace.block_offsets)[rows]
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    total = int(offsets[-1])
    source = np.arange(total) + np.repeat(trace.block_offsets[rows] - offsets[:-1], counts)
    prompts = None if trace.prompts is None else tuple(trace.prompts[int(row)] for row in rows)
    return replace(
        trace,
        arrival_ns=trace.arrival_ns[rows],
        input_tokens=trace.input_tokens[rows],
        output_tokens=trace.output_tokens[rows],
        origin=trace.origin[rows],
        workload=trace.workload[rows],
        tenant=trace.tenant[rows],
        model=trace.model[rows],
        session=trace.session[rows],
        block_offsets=offsets,
        block_ids=trace.block_ids[source],
        prompts=prompts,
        answers=None if trace.answers is None else trace.answers[rows],
    )


def scale_time(trace: Trace, speed: float) -> Trace:
    """The same requests `speed` times as fast: 2 halves every gap between arrivals, 0.5 doubles it."""
    if not 1e-6 <= speed <= 1e6:
        raise InputError(f"a speed of {speed} is outside 0.000001 to 1,000,000", where="--speed", fix="--speed 2")
    if speed == 1.0:
        return trace
    scaled = np.rint((trace.arrival_ns - trace.arrival_ns[0]) / speed)
    if scaled[-1] >= _LONGEST_NS:
        raise InputError("the slowed trace would last over a century", where="--speed", fix="use a larger --speed")
    return replace(trace, arrival_ns=scaled.astype(np.int64))


def cut(trace: Trace, start_s: float = 0.0, end_s: float | None = None, limit: int | None = None) -> Trace:
    """Requests that arrive in [start_s, end_s) after the first one, at most `limit` of them."""
    since_first = trace.arrival_ns - trace.arrival_ns[0]
    first = int(np.searchsorted(since_first, round(start_s * NS_PER_S), side="left"))
    last = len(trace) if end_s is None else int(np.searchsorted(since_first, round(end_s * NS_PER_S), side="left"))
    if limit is not None:
        last = min(last, first + limit)
    if first >= last:
        raise InputError(
            f"no request arrives in that span: the trace lasts {trace.duration_ns / NS_PER_S:.3f} s",
            where=trace.name,
            fix="widen --from and --until",
        )
    part = take(trace, np.arange(first, last))
    return replace(part, arrival_ns=part.arrival_ns - part.arrival_ns[0])


def thin(trace: Trace, share: float, seed: int) -> Trace:
    """About `share` of the requests, sessions kept or left whole, drawn with the seed; a smaller share is a part of a
    larger one. Raises InputError when nothing is left."""
    own = np.arange(len(trace), dtype=np.int64) + _OWN_SESSION
    keys = np.where(trace.session >= 0, trace.session, own)
    rows = np.flatnonzero(uniforms(seed, "thin", keys) < share)
    if not len(rows):
        raise InputError(
            f"a share of {share:g} leaves none of {len(trace)} requests", where=trace.name, fix="take a larger share"
        )
    part = take(trace, rows)
    return replace(part, arrival_ns=part.arrival_ns - part.arrival_ns[0])


def repeat(trace: Trace, times: int, *, shared_blocks: bool = False) -> Trace:
    """The trace `times` times in a row, one mean gap between two copies.

    Each copy is new traffic: its sessions, and its prefix blocks unless `shared_blocks`, are its own, so that
    repetition invents no reuse.
    """
    if times < 1:
        raise InputError(f"{times} repetitions: expected at least 1", where="times", fix="repeat at least once")
    gap = trace.duration_ns // max(1, len(trace) - 1)
    period = trace.duration_ns + max(1, gap)
    copies = [replace(trace, arrival_ns=trace.arrival_ns + copy * period) for copy in range(times)]
    return merge(copies, name=trace.name, shared_blocks=shared_blocks)


def merge(traces: Sequence[Trace], *, name: str | None = None, shared_blocks: bool = False) -> Trace:
    """All requests of the traces in one, by arrival; ties keep the order of the arguments.

    Sessions of different traces stay apart, and so do prefix blocks unless `shared_blocks`.
    """
    if not traces:
        raise InputError("nothing to merge", where="traces", fix="name at least one trace")
    sizes = {trace.block_tokens for trace in traces if len(trace.block_ids)}
    if len(sizes) > 1:
        raise InputError(
            f"prefix blocks differ in size: {sorted(sizes)} tokens",
            where=traces[0].name,
            fix="merge traces of one size",
        )
    tables = {column: _united([getattr(trace, f"{column}s") for trace in traces]) for column in _NAMED}
    joined = Trace(
        name=name or "+".join(trace.name for trace in traces),
        arrival_ns=np.concatenate([trace.arrival_ns for trace in traces]),
        input_tokens=np.concatenate([trace.input_tokens for trace in traces]),
        output_tokens=np.concatenate([trace.output_tokens for trace in traces]),
        origin=_renumbered(traces, "origin", tables["origin"]),
        workload=_renumbered(traces, "workload", tables["workload"]),
        tenant=_renumbered(traces, "tenant", tables["tenant"]),
        model=_renumbered(traces, "model", tables["model"]),
        session=_apart([trace.session for trace in traces]),
        block_offsets=_offsets(traces),
        block_ids=np.concatenate([t.block_ids for t in traces])
        if shared_blocks
        else _apart([t.block_ids for t in traces]),
        block_tokens=next(iter(sizes), traces[0].block_tokens),
        origins=tables["origin"],
        workloads=tables["workload"],
        tenants=tables["tenant"],
        models=tables["model"],
        prompts=_prompts(traces),
        answers=_answers(traces),
        notes=tuple(dict.fromkeys(note for trace in traces for note in trace.notes)),
    )
    ordered = take(joined, np.argsort(joined.arrival_ns, kind="stable"))
    return replace(ordered, arrival_ns=ordered.arrival_ns - ordered.arrival_ns[0])


_NAMED = ("origin", "workload", "tenant", "model")


def _united(tables: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for table in tables for name in table))


def _renumbered(traces: Sequence[Trace], column: str, table: tuple[str, ...]) -> NDArray[np.int32]:
    index = {name: number for number, name in enumerate(table)}
    parts = []
    for trace in traces:
        # one more entry than names, so that UNSAID (−1) looks itself up
        lookup = np.array([index[name] for name in getattr(trace, f"{column}s")] + [-1], np.int32)
        parts.append(lookup[getattr(trace, column)])
    return np.concatenate(parts)


def _apart(parts: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Concatenate id columns, shifting each above the largest id before it; negative ids (UNSAID) stay."""
    first = 0
    shifted = []
    for part in parts:
        shifted.append(np.where(part < 0, part, part + first))
        if len(part):
            first = max(first, int(shifted[-1].max()) + 1)
    return np.concatenate(shifted)


def _offsets(traces: Sequence[Trace]) -> NDArray[np.int64]:
    counts = np.concatenate([np.diff(trace.block_offsets) for trace in traces])
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])


def _answers(traces: Sequence[Trace]) -> NDArray[np.int64] | None:
    """Answers of different traces stay apart; copies of one trace want the same ones."""
    if all(trace.answers is None for trace in traces):
        return None
    columns = [np.full(len(trace), -1, np.int64) if trace.answers is None else trace.answers for trace in traces]
    is_copied = all(trace.answers is traces[0].answers for trace in traces)
    return np.concatenate(columns) if is_copied else _apart(columns)


def _prompts(traces: Sequence[Trace]) -> tuple[str, ...] | None:
    if all(trace.prompts is None for trace in traces):
        return None
    return tuple(text for trace in traces for text in (trace.prompts or ("",) * len(trace)))
