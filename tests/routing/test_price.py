"""What a candidate costs: log-logistic misses and the three terms in dollars, by hand."""

from __future__ import annotations

import math

import pytest
from decisions import candidate_rows, workload
from hypothesis import given
from hypothesis import strategies as st

from gridctl.resources import Objective, PolicySpec, WorkloadSpec
from gridctl.routing.price import miss_probability, price_candidate
from gridctl.routing.rows import policy_records, request_records


@pytest.mark.parametrize(
    ("ratio", "shape", "expected"),
    [
        (1.0, 1, 1 / 2),
        (1.0, 64, 1 / 2),
        (2.0, 3, 8 / 9),
        (0.5, 8, 1 / 257),
        (3.0, 5, 243 / 244),
        (0.0, 1, 0.0),
    ],
)
def test_a_miss_is_log_logistic(ratio: float, shape: int, expected: float) -> None:
    assert miss_probability(ratio, shape) == pytest.approx(expected, rel=1e-15)


def test_a_hopeless_prediction_is_a_certain_miss_without_overflow() -> None:
    assert miss_probability(1e300, 64) == 1.0
    assert miss_probability(math.inf, 64) == 1.0
    assert 0.999 < miss_probability(100.0, 2) < 1.0


@given(st.floats(0, 1000), st.floats(0, 1000), st.integers(1, 64))
def test_a_later_prediction_is_never_less_likely_to_miss(first: float, second: float, shape: int) -> None:
    low, high = sorted((first, second))
    assert 0 <= miss_probability(low, shape) <= miss_probability(high, shape) <= 1


def test_the_client_waits_for_network_overhead_and_engine_and_every_term_is_in_dollars() -> None:
    spec = WorkloadSpec(
        objectives=(
            Objective(metric="ttft_ms", threshold_ms=310.0),
            Objective(metric="tpot_ms", threshold_ms=10.0),
        ),
        models=("m",),
        overhead_ms=35.0,
        miss_usd=0.004,
    )
    request = request_records([spec])
    request[0]["output_tokens"] = 11
    policy = PolicySpec(prediction_shape=2, gpu_weight=2.0, cash_weight=3.0, miss_weight=1.5)
    rows = candidate_rows([{"rtt": 20, "ttft": 100, "tpot": 5, "usd_gpu": 0.001, "usd_cash": 0.0001, "load": 0.5}])
    price_candidate(rows[0], request[0], policy_records([policy])[0])
    assert rows[0].client_ttft_us == 155_000  # 20 + 35 + 100
    assert rows[0].client_e2e_us == 205_000  # and ten more tokens of 5
    assert rows[0].worst_ratio == 0.5  # 155 of 310, 5 of 10
    # each objective is missed with 0.25 / 1.25 = 0.2, so either with 1 − 0.8² = 0.36
    assert rows[0].miss_probability == pytest.approx(0.36)
    assert rows[0].usd == pytest.approx(2 * 0.5 * 0.001 + 3 * 0.0001 + 1.5 * 0.004 * 0.36)


def test_an_answer_of_one_token_ends_with_its_first() -> None:
    request = request_records([workload(e2e_ms=100)])
    rows = candidate_rows([{"rtt": 10, "ttft": 40, "tpot": 30}])
    for tokens in (0, 1):
        request[0]["output_tokens"] = tokens
        price_candidate(rows[0], request[0], policy_records([PolicySpec()])[0])
        assert rows[0].client_e2e_us == 50_000
        assert rows[0].worst_ratio == 0.5


def test_the_strictest_of_several_thresholds_of_one_metric_counts() -> None:
    spec = WorkloadSpec(
        objectives=(
            Objective(metric="network_ms", threshold_ms=40.0, percentile=99.0),
            Objective(metric="network_ms", threshold_ms=20.0, percentile=50.0),
            Objective(metric="network_ms", threshold_ms=80.0, percentile=95.0),
        ),
        models=("m",),
    )
    rows = candidate_rows([{"rtt": 10, "ttft": 5000}])
    price_candidate(rows[0], request_records([spec])[0], policy_records([PolicySpec()])[0])
    assert rows[0].worst_ratio == 0.5
