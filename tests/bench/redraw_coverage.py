"""How honest redrawn arrivals are: the spread they give a queue against that of fresh traces of the same process.

A single server with constant service (Lindley's recursion) is fed traces of gamma gaps, every minute holding exactly
its mean count, as a redraw keeps the load of every minute. For 200 fresh traces and 19 redraws of each of 20 traces it
prints, for the mean wait and its 99th percentile: the redraws' standard deviation over the fresh traces', the redraws'
mean over theirs, and how often a fresh trace falls within the redraws' range, which claims 90 %.

    python tests/bench/redraw_coverage.py
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gridctl.traces.redraw import redraw_arrivals
from gridctl.traces.trace import Trace

MINUTES = 20
FRESH, TRACES, DRAWS = 200, 20, 19
CASES = ((5, 1.0, 0.7), (5, 1.0, 0.9), (20, 1.0, 0.9), (50, 2.0, 0.8), (5, 3.0, 0.6))
"""Requests per second, coefficient of variation of the gaps, utilisation."""


def trace_of(arrival_ns: NDArray[np.int64]) -> Trace:
    """A trace that says nothing but when."""
    n = len(arrival_ns)
    ones, unsaid = np.ones(n, np.int64), np.full(n, -1, np.int32)
    return Trace(
        name="bench",
        arrival_ns=arrival_ns,
        input_tokens=ones,
        output_tokens=ones,
        origin=unsaid,
        workload=unsaid,
        tenant=unsaid,
        model=unsaid,
        session=unsaid.astype(np.int64),
        block_offsets=np.zeros(n + 1, np.int64),
        block_ids=np.zeros(0, np.int64),
    )


def fresh(random: np.random.Generator, rate: float, variation: float) -> NDArray[np.int64]:
    """Arrivals whose gaps are gamma, stretched so that every minute holds exactly its mean count."""
    parts = [np.zeros(1)]
    for minute in range(MINUTES):
        gaps = random.gamma(1 / variation**2, size=int(rate * 60))
        parts.append(60e9 * (minute + np.cumsum(gaps) / gaps.sum()))
    return np.concatenate(parts).astype(np.int64)


def waits(arrival_ns: NDArray[np.int64], service_s: float) -> tuple[float, float]:
    """Mean and 99th percentile of the wait before a single server of constant service, in seconds."""
    steps = np.concatenate([[0.0], np.cumsum(service_s - np.diff(arrival_ns) / 1e9)])
    waiting = steps - np.minimum.accumulate(steps)
    return float(waiting.mean()), float(np.quantile(waiting, 0.99))


def main() -> None:
    random = np.random.default_rng(1)
    print(f"{'rate':>5} {'cv':>4} {'load':>5}   {'spread':>13}   {'mean':>13}   {'within':>13}   (mean wait, p99 wait)")
    for rate, variation, load in CASES:
        service_s = load / rate
        truth = np.array([waits(fresh(random, rate, variation), service_s) for _ in range(FRESH)])
        spread, mean, within = [], [], []
        for _ in range(TRACES):
            base = trace_of(fresh(random, rate, variation))
            drawn = np.array([waits(redraw_arrivals(base, seed).arrival_ns, service_s) for seed in range(DRAWS)])
            others = np.array([waits(fresh(random, rate, variation), service_s) for _ in range(20)])
            spread.append(drawn.std(0, ddof=1) / truth.std(0))
            mean.append(drawn.mean(0) / truth.mean(0))
            within.append(((others >= drawn.min(0)) & (others <= drawn.max(0))).mean(0))
        cells = "   ".join(f"{a:6.2f} {b:6.2f}" for a, b in (np.mean(part, axis=0) for part in (spread, mean, within)))
        print(f"{rate:5} {variation:4} {load:5}   {cells}")


if __name__ == "__main__":
    main()
