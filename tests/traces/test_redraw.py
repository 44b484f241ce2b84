"""Redrawn arrivals: what stays exactly, what stays in distribution, and that a queue fed by them behaves alike."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from gridctl.traces.redraw import WINDOW_GAPS, WINDOW_NS, _edges, redraw_arrivals
from gridctl.traces.trace import Trace
from gridctl.units import NS_PER_S

SECOND = NS_PER_S


def trace_at(arrival_ns: object) -> Trace:
    arrivals = np.array(arrival_ns, np.int64)
    n = len(arrivals)
    ones, unsaid = np.ones(n, np.int64), np.full(n, -1, np.int32)
    return Trace(
        name="hand",
        arrival_ns=arrivals,
        input_tokens=np.arange(1, n + 1),
        output_tokens=ones,
        origin=unsaid,
        workload=unsaid,
        tenant=unsaid,
        model=unsaid,
        session=unsaid.astype(np.int64),
        block_offsets=np.zeros(n + 1, np.int64),
        block_ids=np.zeros(0, np.int64),
    )


def renewal(seed: int, count: int, mean_s: float, variation: float) -> NDArray[np.int64]:
    """Arrivals with independent gamma gaps of that mean and coefficient of variation."""
    random = np.random.default_rng(seed)
    gaps = random.gamma(1 / variation**2, variation**2 * mean_s * SECOND, count)
    return np.concatenate([[0], np.cumsum(gaps)]).astype(np.int64)


def test_windows_last_a_minute_and_hold_enough_gaps_and_the_rest_joins_the_last() -> None:
    assert _edges(np.arange(201) * SECOND) == [0, 64, 128, 200]  # 60 s are 60 gaps: too few, so 64
    assert _edges(np.arange(201) * SECOND // 2) == [0, 200]  # 120 gaps are 60 s; the 80 after them only 40 s
    assert _edges(np.arange(241) * SECOND // 2) == [0, 120, 240]
    assert _edges(np.arange(10) * SECOND) == [0, 9]
    edges = _edges(renewal(3, 5_000, 0.2, 1.0))
    assert edges[0] == 0
    assert edges[-1] == 5_000
    assert min(np.diff(edges)) >= WINDOW_GAPS


def test_every_request_its_order_and_the_ends_of_every_window_stay() -> None:
    trace = trace_at(renewal(1, 4_000, 0.1, 1.5))
    drawn = redraw_arrivals(trace, 7)
    assert np.array_equal(drawn.input_tokens, trace.input_tokens)
    assert (np.diff(drawn.arrival_ns) >= 0).all()
    edges = _edges(trace.arrival_ns)
    assert len(edges) > 4
    assert np.array_equal(drawn.arrival_ns[edges], trace.arrival_ns[edges])
    assert np.abs(drawn.arrival_ns - trace.arrival_ns).max() <= 2 * WINDOW_NS
    assert not np.array_equal(drawn.arrival_ns, trace.arrival_ns)


def test_a_seed_gives_one_redraw_and_another_seed_another() -> None:
    trace = trace_at(renewal(1, 500, 0.1, 1.0))
    first, again, other = (redraw_arrivals(trace, seed).arrival_ns for seed in (2, 2, 3))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_equal_gaps_stay_equal() -> None:
    arrivals = np.arange(1_000, dtype=np.int64) * SECOND
    assert np.abs(redraw_arrivals(trace_at(arrivals), 5).arrival_ns - arrivals).max() <= 1  # a nanosecond of rounding


@pytest.mark.parametrize("arrivals", [[], [5], [5, 9], [7] * 100, [0] * 99 + [SECOND]])
def test_what_cannot_be_redrawn_stays(arrivals: list[int]) -> None:
    drawn = redraw_arrivals(trace_at(arrivals), 4).arrival_ns
    assert drawn[:1].tolist() == arrivals[:1]
    assert drawn[-1:].tolist() == arrivals[-1:]
    assert (np.diff(drawn) >= 0).all()


def test_thirty_days_do_not_overflow() -> None:
    month = 30 * 86_400 * SECOND
    drawn = redraw_arrivals(trace_at([0, 1, month // 2, month - 1, month]), 4).arrival_ns
    assert drawn[-1] == month
    assert (np.diff(drawn) >= 0).all()


@pytest.mark.parametrize("variation", [0.5, 1.0, 3.0])
def test_the_gaps_keep_their_mean_and_variation(variation: float) -> None:
    trace = trace_at(renewal(11, 20_000, 0.05, variation))
    own = np.diff(trace.arrival_ns)
    for seed in (1, 2, 3):
        gaps = np.diff(redraw_arrivals(trace, seed).arrival_ns)
        assert gaps.mean() == pytest.approx(own.mean(), rel=1e-9)
        assert gaps.std() / gaps.mean() == pytest.approx(variation, rel=0.08)


def test_bursts_keep_their_counts_dispersion() -> None:
    """Arrivals in clusters of a dozen: counts per second vary far more than Poisson's, in draws as in the trace."""
    random = np.random.default_rng(5)
    starts = np.sort(random.uniform(0, 1_200e9, 1_200))
    arrivals = np.sort((starts[:, None] + random.uniform(0, 0.3e9, (1_200, 12))).reshape(-1)).astype(np.int64)

    def dispersion(times: NDArray[np.int64]) -> float:
        found = np.bincount(times // SECOND)
        return float(found.var() / found.mean())

    assert dispersion(arrivals) > 8  # Poisson's is 1
    for seed in (1, 2, 3):
        drawn = redraw_arrivals(trace_at(arrivals), seed).arrival_ns
        assert dispersion(drawn) == pytest.approx(dispersion(arrivals), rel=0.15)


def test_a_queue_fed_by_redraws_waits_as_one_fed_by_fresh_traces_does() -> None:
    """Mean wait before a single server (Lindley), against independent traces with the same count in every minute."""

    def wait_s(arrivals: NDArray[np.int64]) -> float:
        steps = np.concatenate([[0.0], np.cumsum(0.16 - np.diff(arrivals) / SECOND)])
        return float((steps - np.minimum.accumulate(steps)).mean())

    def fresh(random: np.random.Generator) -> NDArray[np.int64]:
        minutes = [60e9 * minute + np.sort(random.uniform(0, 60e9, 300)) for minute in range(20)]
        return np.concatenate(minutes).astype(np.int64)

    random = np.random.default_rng(2)
    truth = np.array([wait_s(fresh(random)) for _ in range(100)])
    traces = [trace_at(fresh(random)) for _ in range(8)]
    drawn = np.array([[wait_s(redraw_arrivals(one, seed).arrival_ns) for seed in range(16)] for one in traces])
    assert drawn.mean() == pytest.approx(truth.mean(), rel=0.08)
    assert drawn.std(axis=1, ddof=1).mean() == pytest.approx(truth.std(ddof=1), rel=0.35)
