"""Phased: the part of a run that arrived before, during or after its faults, as a run of its own for every table.

With several faults: before the first begins; while any lasts; all the time between and after them. Each request is in
exactly one of the three. Owned GPUs are paid for as long as the phase lasts; the last one ends with the run.
"""

from __future__ import annotations

from dataclasses import fields

import msgspec
import numpy as np

from gridctl.accounts.phases import PHASES
from gridctl.accounts.rows import COMPLETED, FAILED, REJECTED, Run, RunRows
from gridctl.errors import InputError, UsageError, did_you_mean

Spans = tuple[tuple[int, int], ...]


def check_phase(phase: str) -> str:
    """The phase of that name. Raises UsageError."""
    if phase not in PHASES:
        near = did_you_mean(phase, PHASES)
        raise UsageError(
            f"there is no phase {phase!r}",
            where="--phase",
            fix=f"did you mean {near}?" if near else f"one of: {', '.join(PHASES)}",
        )
    return phase


def phased(run: Run, phase: str, faults_of: Run | None = None) -> Run:
    """The run's requests of a phase; of the faults of `faults_of`, where the run has none itself.

    Raises InputError where there are no faults, UsageError for a word that is no phase."""
    check_phase(phase)
    faults = (faults_of or run).info.faults
    if not faults:
        raise InputError(
            f"run {run.info.name} has no faults, so no phases",
            where="--phase",
            fix="gridctl replay run TRACE --faults FILE",
        )
    during = _merged([(fault.at_ns, fault.until_ns) for fault in faults])
    begin = int(run.rows.arrival_ns[0]) if len(run.rows) else 0
    end = begin + run.info.window_ns
    spans = {
        "before": ((begin, during[0][0]),),
        "during": during,
        "after": tuple(zip([until for _, until in during], [*(at for at, _ in during[1:]), end], strict=True)),
    }[phase]
    clipped = tuple((max(begin, at), min(end, until)) for at, until in spans)
    clipped = tuple(span for span in clipped if span[1] > span[0])
    arrival_ns = run.rows.arrival_ns
    is_in = np.zeros(len(arrival_ns), np.bool_)
    for at, until in clipped:
        is_in |= (arrival_ns >= at) & (arrival_ns < until + (until == end))
    rows = RunRows(**{field.name: getattr(run.rows, field.name)[is_in] for field in fields(RunRows)})
    counts = np.bincount(rows.outcome, minlength=3)
    info = msgspec.structs.replace(
        run.info,
        window_ns=sum(until - at for at, until in clipped),
        requests=len(rows),
        completed=int(counts[COMPLETED]),
        rejected=int(counts[REJECTED]),
        failed=int(counts[FAILED]),
        input_tokens=int(rows.input_tokens.sum()),
        output_tokens=int(rows.output_tokens.sum()),
    )
    return Run(info, rows, clipped or ((begin, begin),))


def _merged(spans: list[tuple[int, int]]) -> Spans:
    """The spans' union, in order."""
    merged: list[tuple[int, int]] = []
    for at, until in sorted(spans):
        if merged and at <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], until))
        else:
            merged.append((at, until))
    return tuple(merged)
