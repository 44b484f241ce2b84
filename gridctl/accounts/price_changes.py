"""Price changes: what a price that changed while a run lasted makes of its dollars.

A request pays the mean of the price over its time on its engine, from first scheduled to last token, as GPU time is
used evenly over it; a time of no length pays the price at its moment. Owned GPUs cost what they cost at each moment,
busy or not, so the idle ones carry the rest. A run without price changes is not touched by any of this.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gridctl.accounts.facts import FaultFacts, RunInfo
from gridctl.accounts.rows import Run
from gridctl.units import NS_PER_HOUR

Floats = NDArray[np.float64]
Spans = Sequence[tuple[int, int]]


def changes_of(info: RunInfo, price: str) -> tuple[FaultFacts, ...]:
    """The faults that changed a price."""
    return tuple(fault for fault in info.faults if fault.kind == "price" and fault.what == price)


def price_factors(run: Run, price: str) -> Floats | float:
    """By how much each request's price was multiplied, shape `(n,)`; 1 where no such price ever changed."""
    changes = changes_of(run.info, price)
    if not changes:
        return 1.0
    rows = run.rows
    begin = rows.arrival_ns + rows.rtt_ns // 2 + rows.queue_ns
    length = rows.compute_ns + rows.decode_ns
    factors = np.ones(len(rows))
    for change in changes:
        hit = np.zeros(len(run.info.engines) + 1, np.bool_)  # the last entry serves index −1
        hit[list(change.priced)] = True
        inside = np.minimum(begin + length, change.until_ns) - np.maximum(begin, change.at_ns)
        at_once = (begin >= change.at_ns) & (begin < change.until_ns)
        share = np.where(length > 0, np.clip(inside, 0, None) / np.maximum(length, 1), at_once)
        factors += np.where(hit[rows.engine], (change.amount - 1.0) * share, 0.0)
    return factors


def surplus_ns(run: Run, price: str) -> Floats:
    """Per engine, how much longer its GPUs would have had to be paid for at the price before, to cost as much more as
    the changes made them cost: GPUs × time × (factor − 1). Shape `(n_engines,)`."""
    more = np.zeros(len(run.info.engines))
    for change in changes_of(run.info, price):
        lasted = sum(overlap_ns(change, span) for span in run.spans_ns)
        for number in change.priced:
            more[number] += run.info.engines[number].gpus * lasted * (change.amount - 1.0)
    return more


def gpu_hour_surplus_usd(info: RunInfo, span_ns: tuple[int, int]) -> float:
    """What changes of the GPU-hour made owned GPUs cost more over a span of time."""
    return sum(
        info.engines[number].gpus
        * overlap_ns(change, span_ns)
        * (change.amount - 1.0)
        * info.engines[number].usd_per_gpu_hour
        / NS_PER_HOUR
        for change in changes_of(info, "gpu-hour")
        for number in change.priced
    )


def overlap_ns(change: FaultFacts, span_ns: tuple[int, int]) -> int:
    """How long a change holds within a span."""
    return max(0, min(change.until_ns, span_ns[1]) - max(change.at_ns, span_ns[0]))
