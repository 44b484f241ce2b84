"""Series: requests and dollars over time, by hand and by conservation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from gridctl.accounts.series import bin_width_ns, series
from gridctl.accounts.tokenomics import tokenomics

HOUR_S = 3600.0


def test_requests_fall_into_the_bin_they_arrived_in(make_run: Callable) -> None:
    arrivals_ms = (5_000, 5_900, 6_100, 14_900)  # the run begins at 5 s
    run = make_run(
        [{"arrival_ms": at, "compute_ms": 1, "input_tokens": 1, "output_tokens": 7} for at in arrivals_ms],
        window_s=10.0,
    )
    found = series(run, most_bins=10)
    assert found.bin_s == 1.0
    assert found.requests == (2, 1, 0, 0, 0, 0, 0, 0, 0, 1)
    assert found.good == found.requests
    assert found.output_tokens == (14, 7, 0, 0, 0, 0, 0, 0, 0, 7)


def test_the_last_bin_ends_with_the_window(make_run: Callable) -> None:
    found = series(make_run([{"arrival_ms": 0}], window_s=25.0), most_bins=3)
    assert (found.bin_s, found.length_s) == (10.0, (10.0, 10.0, 5.0))


def test_owned_gpus_are_paid_evenly_and_busy_ones_where_they_worked(make_run: Callable, make_engine: Callable) -> None:
    engine = make_engine(gpus=1, usd_per_gpu_hour=HOUR_S)  # a dollar a second
    work = {"arrival_ms": 500, "compute_ms": 1_000, "decode_ms": 1_000, "gpu_ms": 1_000, "output_tokens": 2}
    found = series(make_run([{"arrival_ms": 0}, work], engines=[engine], window_s=4.0), most_bins=4)
    assert found.gpu_usd == pytest.approx((1.0, 1.0, 1.0, 1.0))
    # One GPU-second spread over 0.5 s to 2.5 s: half a dollar a second.
    assert found.gpu_busy_usd == pytest.approx((0.25, 0.5, 0.25, 0.0))


def test_dollars_over_time_are_the_tables_dollars(make_run: Callable, make_engine: Callable) -> None:
    random = np.random.default_rng(7)
    engines = [
        make_engine(gpus=2, usd_per_gpu_hour=3.0, busy_watts=500, idle_watts=80, usd_per_kwh=0.2),
        make_engine(kind="unused", tier="edge", gpus=1, usd_per_gpu_hour=1.0, idle_watts=50, usd_per_kwh=0.3),
        make_engine(kind="serverless", tier="edge", usd_per_serverless_ms=1e-5, egress_usd_per_gb=0.1),
        make_engine(kind="api", tier="api", site="", usd_per_mtok_input=1.0, usd_per_mtok_output=2.0),
    ]
    requests = []
    for at in range(300):
        engine = int(random.choice([0, 2, 3, -1]))
        requests.append(
            {
                "arrival_ms": at * 30,
                "engine": engine,
                "outcome": "rejected" if engine < 0 else "completed",
                "rtt_ms": 5 if engine >= 0 else 0,
                "queue_ms": int(random.integers(0, 900)) if engine >= 0 else 0,
                "compute_ms": int(random.integers(1, 900)) if engine >= 0 else 0,
                "decode_ms": int(random.integers(0, 5_000)) if engine >= 0 else 0,
                "gpu_ms": int(random.integers(1, 400)) if engine == 0 else 0,
                "serverless_ms": 40 if engine == 2 else 0,
                "input_tokens": 100,
                "output_tokens": 20,
            }
        )
    run = make_run(requests, engines=engines, window_s=20.0)
    found, total = series(run), tokenomics(run).total
    assert sum(found.requests) == total.requests
    assert sum(found.good) == total.good
    assert sum(found.refused) == total.rejected + total.failed
    assert sum(found.gpu_usd) == pytest.approx(total.gpu_busy_usd + total.gpu_idle_usd)
    assert sum(found.gpu_busy_usd) == pytest.approx(total.gpu_busy_usd)
    assert sum(found.gpu_usd) + sum(found.other_usd) == pytest.approx(total.usd)


@pytest.mark.parametrize("window_s", [0.0, 1e-9, 0.09, 1.0, 61.0, 3_600.0, 86_400.0, 40 * 86_400.0])
def test_no_window_takes_more_bins_than_asked_for(window_s: float) -> None:
    window_ns = round(window_s * 1e9)
    width_ns = bin_width_ns(window_ns, 96)
    assert width_ns > 0
    assert -(-window_ns // width_ns) <= 96


def test_an_empty_run_has_one_empty_bin(make_run: Callable) -> None:
    found = series(make_run([], window_s=0.0))
    assert (found.requests, found.gpu_usd, found.length_s) == ((0,), (0.0,), (0.0,))
