"""Series: a run's load, its goodness and its dollars over time, in bins of one width.

Requests, and what only they cost, count in the bin they arrived in. Owned GPUs are paid as time goes by; the
part of it that was busy is spread evenly over each request's time on its engine, so a bin may show slightly more busy
dollars than its GPUs cost, never the whole run. Invariant: requests and dollars summed over the bins are the run's.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from gridctl.accounts.goodness import judge
from gridctl.accounts.price_changes import gpu_hour_surplus_usd
from gridctl.accounts.rows import COMPLETED, Run
from gridctl.accounts.usd import Ledger, is_owned, ledger
from gridctl.units import NS_PER_HOUR, NS_PER_S

MOST_BINS = 96
"""Four an hour over a day, and about one for every seven pixels of a wide chart."""

_WIDTHS_S = (
    0.1,
    0.2,
    0.5,
    1,
    2,
    5,
    10,
    15,
    30,
    60,
    120,
    300,
    600,
    900,
    1800,
    3600,
    7200,
    10_800,
    21_600,
    43_200,
    86_400,
)


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """Columns with an entry per bin, from the first arrival on. The last bin may be cut short by the window's end."""

    bin_s: float
    length_s: tuple[float, ...]  # bin_s, but for the last; 0 where the run has no span of time
    requests: tuple[int, ...]  # that arrived in the bin
    good: tuple[int, ...]  # of these
    refused: tuple[int, ...]  # of these, rejected or failed
    output_tokens: tuple[int, ...]  # of completed requests that arrived in the bin
    gpu_usd: tuple[float, ...]  # owned GPUs, busy or idle
    gpu_busy_usd: tuple[float, ...]  # the busy part of it
    other_usd: tuple[float, ...]  # serverless, egress, fallback and energy


def series(run: Run, most_bins: int = MOST_BINS) -> Series:
    """The run over time, in at most `most_bins` bins of a round width. O(n)."""
    rows, window_ns = run.rows, run.info.window_ns
    width_ns = bin_width_ns(window_ns, most_bins)
    n = max(1, -(-window_ns // width_ns))
    start_ns = int(rows.arrival_ns[0]) if len(rows) else 0
    of = np.minimum((rows.arrival_ns - start_ns) // width_ns, n - 1)
    lengths_ns = np.full(n, width_ns, dtype=np.int64)
    lengths_ns[-1] = window_ns - (n - 1) * width_ns
    spent, completed = ledger(run), rows.outcome == COMPLETED
    paid_usd = sum(engine.gpus * engine.usd_per_gpu_hour for engine in run.info.engines if is_owned(engine))
    starts_ns = start_ns + np.arange(n) * width_ns
    dearer = [
        gpu_hour_surplus_usd(run.info, (begin, begin + length))
        for begin, length in zip(starts_ns.tolist(), lengths_ns.tolist(), strict=True)
    ]
    gpu_usd = lengths_ns * (paid_usd / NS_PER_HOUR) + dearer
    return Series(
        bin_s=width_ns / NS_PER_S,
        length_s=tuple((lengths_ns / NS_PER_S).tolist()),
        requests=_counts(of, n),
        good=_counts(of[judge(run).good], n),
        refused=_counts(of[~completed], n),
        output_tokens=tuple(int(v) for v in np.bincount(of, np.where(completed, rows.output_tokens, 0), n)),
        gpu_usd=tuple(gpu_usd.tolist()),
        gpu_busy_usd=tuple(_busy_usd(run, spent, start_ns, width_ns, n).tolist()),
        other_usd=tuple((np.bincount(of, _other_usd(spent), n) + _stranded_usd(spent, lengths_ns)).tolist()),
    )


def bin_width_ns(window_ns: int, most_bins: int) -> int:
    """The smallest round width of which at most `most_bins` cover the window.

    >>> bin_width_ns(9 * 60 * NS_PER_S, 96) / NS_PER_S, bin_width_ns(24 * NS_PER_HOUR, 96) / NS_PER_S
    (10.0, 900.0)
    """
    for width_s in _WIDTHS_S:
        width_ns = round(width_s * NS_PER_S)
        if width_ns * most_bins >= window_ns:
            return width_ns
    day_ns = 24 * NS_PER_HOUR
    return day_ns * -(-window_ns // (day_ns * most_bins))


def _counts(bins: NDArray[np.int64], n: int) -> tuple[int, ...]:
    return tuple(np.bincount(bins, minlength=n).tolist())


def _other_usd(spent: Ledger) -> NDArray[np.float64]:
    """What a request cost besides owned GPU time."""
    return spent.serverless_usd + spent.egress_usd + spent.fallback_usd + spent.energy_usd


def _stranded_usd(spent: Ledger, lengths_ns: NDArray[np.int64]) -> NDArray[np.float64]:
    """Energy of GPUs that served nobody, evenly over the window."""
    usd = sum(part.energy_usd for part in spent.stranded)
    whole_ns = int(lengths_ns.sum())
    return np.asarray(lengths_ns * (usd / whole_ns if whole_ns else 0.0), dtype=np.float64)


def _busy_usd(run: Run, spent: Ledger, start_ns: int, width_ns: int, n: int) -> NDArray[np.float64]:
    """Each request's busy dollars, spread evenly from when it was first scheduled to its last token."""
    rows = run.rows
    if not len(rows):
        return np.zeros(n)
    begin = np.clip(rows.arrival_ns - start_ns + rows.rtt_ns // 2 + rows.queue_ns, 0, n * width_ns - 1)
    end = np.clip(begin + rows.compute_ns + rows.decode_ns, begin + 1, n * width_ns)
    first, last = begin // width_ns, (end - 1) // width_ns
    rate = spent.gpu_busy_usd / (end - begin)
    within = first == last
    usd = np.bincount(first, np.where(within, spent.gpu_busy_usd, rate * ((first + 1) * width_ns - begin)), n)
    usd += np.bincount(last, np.where(within, 0.0, rate * (end - last * width_ns)), n)
    # Whole bins in between: a rate that begins after the first bin and ends before the last.
    steps = np.bincount(first + 1, np.where(within, 0.0, rate), n + 1) - np.bincount(
        last, np.where(within, 0.0, rate), n + 1
    )
    usd += np.maximum(np.cumsum(steps)[:n], 0.0) * width_ns
    return np.asarray(usd, dtype=np.float64)
