"""Statistics: what a trace asks for: how much, how bursty, how long, how much of it again.

Decides the definition of every figure `gridctl trace stat` prints; each is stated where it is computed. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gridctl.traces.reuse import prefix_reuse
from gridctl.traces.trace import UNSAID, Trace
from gridctl.units import NS_PER_S

PERCENTILES = (1, 5, 25, 50, 75, 90, 95, 99)
GROUPS = ("origin", "workload", "tenant", "model")


@dataclass(frozen=True, slots=True)
class Lengths:
    """Tokens of one kind: total, mean, extremes and nearest-rank percentiles (p50 is the ⌈n·50/100⌉-th smallest)."""

    total: int
    mean: float
    least: int
    most: int
    percentiles: dict[int, int]


@dataclass(frozen=True, slots=True)
class Group:
    """The requests of one origin, workload, tenant or model; an empty name gathers those that do not say."""

    column: str
    name: str
    requests: int
    share: float
    input_tokens: int
    output_tokens: int
    reused_share: float | None


@dataclass(frozen=True, slots=True)
class TraceStatistics:
    """Figures of a whole trace. Rates are requests per second; None where a figure needs more requests or time.

    `mean_rps` is (n − 1) over the time from first to last arrival. `peak_1s_rps` and `peak_10s_rps` are the most
    requests in any window [t, t + w) of that width, over w. `interarrival_cv` is the population standard deviation of
    the gaps between arrivals over their mean (1 for a Poisson process). `dispersion_1s` is the variance over the mean
    of the counts in consecutive whole seconds (1 for Poisson; Fano factor). `reused_share` is the share of prompt
    tokens a prefix cache that never forgets would hold (see `reuse`).
    """

    name: str
    requests: int
    duration_s: float
    mean_rps: float | None
    peak_1s_rps: float
    peak_10s_rps: float
    interarrival_cv: float | None
    dispersion_1s: float | None
    input: Lengths
    output: Lengths
    block_tokens: int
    blocks: int
    unique_blocks: int
    reused_tokens: int
    reused_share: float | None
    top_blocks: tuple[tuple[int, int], ...]
    sessions: int
    session_requests: int
    prompts: int
    unique_prompts: int
    groups: tuple[Group, ...]
    notes: tuple[str, ...]


def statistics(trace: Trace, top: int = 10) -> TraceStatistics:
    """Every figure of the trace; O(n log n) in requests and block ids."""
    reuse = prefix_reuse(trace, top)
    has_blocks = reuse.blocks > 0
    reused = int(reuse.reused_tokens.sum())
    said = trace.session[trace.session != UNSAID]
    texts = [text for text in trace.prompts or () if text]
    return TraceStatistics(
        name=trace.name,
        requests=len(trace),
        duration_s=trace.duration_ns / NS_PER_S,
        mean_rps=(len(trace) - 1) * NS_PER_S / trace.duration_ns if trace.duration_ns else None,
        peak_1s_rps=peak_rate(trace.arrival_ns, 1),
        peak_10s_rps=peak_rate(trace.arrival_ns, 10),
        interarrival_cv=interarrival_cv(trace.arrival_ns),
        dispersion_1s=dispersion(trace.arrival_ns, 1),
        input=lengths(trace.input_tokens),
        output=lengths(trace.output_tokens),
        block_tokens=trace.block_tokens,
        blocks=reuse.blocks,
        unique_blocks=reuse.unique_blocks,
        reused_tokens=reused,
        reused_share=reused / int(trace.input_tokens.sum()) if has_blocks else None,
        top_blocks=reuse.top_blocks,
        sessions=len(np.unique(said)),
        session_requests=len(said),
        prompts=len(texts),
        unique_prompts=len(set(texts)),
        groups=tuple(_groups(trace, reuse.reused_tokens if has_blocks else None)),
        notes=trace.notes,
    )


def lengths(tokens: NDArray[np.int64]) -> Lengths:
    """Total, mean, extremes and percentiles of token counts."""
    ordered = np.sort(tokens)
    total = int(ordered.sum())
    return Lengths(
        total=total,
        mean=total / len(ordered),
        least=int(ordered[0]),
        most=int(ordered[-1]),
        percentiles={p: nearest_rank(ordered, p) for p in PERCENTILES},
    )


def nearest_rank(ordered: NDArray[np.int64], percent: int) -> int:
    """The smallest value that at least `percent` % of the values do not exceed: the ⌈n·percent/100⌉-th.

    >>> nearest_rank(np.array([10, 20, 30, 40]), 50)
    20
    """
    rank = -(-len(ordered) * percent // 100)
    return int(ordered[max(rank, 1) - 1])


def peak_rate(arrival_ns: NDArray[np.int64], window_s: int) -> float:
    """Most requests in any window [t, t + window_s), over its width; the fullest window starts at an arrival."""
    ends = np.searchsorted(arrival_ns, arrival_ns + window_s * NS_PER_S, side="left")
    return int(np.max(ends - np.arange(len(arrival_ns)))) / window_s


def interarrival_cv(arrival_ns: NDArray[np.int64]) -> float | None:
    """Standard deviation over mean of the gaps; None for fewer than 3 requests or no time between them."""
    if len(arrival_ns) < 3 or arrival_ns[-1] == arrival_ns[0]:
        return None
    gaps = np.diff(arrival_ns).astype(np.float64)
    return float(np.std(gaps) / np.mean(gaps))


def dispersion(arrival_ns: NDArray[np.int64], window_s: int) -> float | None:
    """Variance over mean of requests per whole window from the first arrival on; None for fewer than 2 windows."""
    since_first = arrival_ns - arrival_ns[0]
    width = window_s * NS_PER_S
    windows = int(since_first[-1] // width)
    if windows < 2:
        return None
    counts = np.bincount(since_first[since_first < windows * width] // width, minlength=windows)
    return float(np.var(counts) / np.mean(counts))


def _groups(trace: Trace, reused: NDArray[np.int64] | None) -> list[Group]:
    groups: list[Group] = []
    for column in GROUPS:
        numbers = getattr(trace, column)
        if np.any(numbers != UNSAID):
            groups += _column_groups(trace, column, numbers, getattr(trace, f"{column}s"), reused)
    return groups


def _column_groups(
    trace: Trace, column: str, numbers: NDArray[np.int32], names: Sequence[str], reused: NDArray[np.int64] | None
) -> list[Group]:
    slots = numbers.astype(np.int64) + 1  # slot 0 gathers requests that do not say
    size = len(names) + 1
    requests = np.bincount(slots, minlength=size)
    inputs = _sums(slots, trace.input_tokens, size)
    outputs = _sums(slots, trace.output_tokens, size)
    known = None if reused is None else _sums(slots, reused, size)
    present = [slot for slot in range(size) if requests[slot]]
    present.sort(key=lambda slot: (-int(requests[slot]), names[slot - 1] if slot else ""))
    return [
        Group(
            column=column,
            name=names[slot - 1] if slot else "",
            requests=int(requests[slot]),
            share=int(requests[slot]) / len(trace),
            input_tokens=int(inputs[slot]),
            output_tokens=int(outputs[slot]),
            reused_share=None if known is None else int(known[slot]) / int(inputs[slot]),
        )
        for slot in present
    ]


def _sums(slots: NDArray[np.int64], values: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    sums = np.zeros(size, np.int64)
    np.add.at(sums, slots, values)  # exact integers, where bincount's weights are floats
    return sums
