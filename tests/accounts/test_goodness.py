"""Good, bad and the cause of each miss, request by request, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gridctl.accounts.clock import UNSERVED, client_clock
from gridctl.accounts.goodness import CAUSES, count_causes, judge, judge_objective
from gridctl.accounts.rows import OUTCOMES, REASONS
from gridctl.resources import Objective


def causes(run) -> list[str]:
    return [CAUSES[cause] for cause in judge(run).cause]


def test_client_clock_adds_up_by_hand(make_run, make_workload) -> None:
    run = make_run(
        [{"rtt_ms": 30, "queue_ms": 20, "compute_ms": 50, "decode_ms": 90, "output_tokens": 10}],
        workloads={"voice": make_workload(("ttft_ms", 500), overhead_ms=100.0)},
    )
    clock = client_clock(run)
    assert clock.network_ns.tolist() == [30_000_000]
    assert clock.ttft_ns.tolist() == [200_000_000]  # 30 + 100 + 20 + 50
    assert clock.tpot_ns.tolist() == [10_000_000]  # 90 / 9
    assert clock.e2e_ns.tolist() == [290_000_000]  # 200 + 90


def test_tpot_rounds_up_so_that_a_third_of_a_nanosecond_over_is_a_miss(make_run, make_workload) -> None:
    run = make_run(
        [{"decode_ns": 30_000_000, "output_tokens": 4}, {"decode_ns": 30_000_001, "output_tokens": 4}],
        workloads={"w": make_workload(("tpot_ms", 10.0))},
    )
    assert client_clock(run).tpot_ns.tolist() == [10_000_000, 10_000_001]
    assert judge(run).good.tolist() == [True, False]


def test_requests_not_served_are_later_than_any_threshold(make_run) -> None:
    run = make_run([{"outcome": "rejected"}, {"outcome": "failed", "rtt_ms": 3}])
    clock = client_clock(run)
    assert clock.ttft_ns.tolist() == clock.e2e_ns.tolist() == clock.network_ns.tolist() == [UNSERVED, UNSERVED]


def test_exactly_on_the_threshold_is_good_and_a_nanosecond_more_is_not(make_run) -> None:
    run = make_run([{"compute_ns": 500_000_000}, {"compute_ns": 500_000_001}])
    assert judge(run).good.tolist() == [True, False]


def test_one_token_answer_is_neither_good_nor_bad_on_tpot(make_run, make_workload) -> None:
    objective = Objective(metric="tpot_ms", threshold_ms=10.0)
    run = make_run(
        [
            {"output_tokens": 1},
            {"output_tokens": 2, "decode_ms": 11},
            {"output_tokens": 1, "outcome": "rejected"},
        ],
        workloads={"w": make_workload(("tpot_ms", 10.0))},
    )
    verdicts = judge_objective(run, client_clock(run), np.arange(3), objective)
    assert verdicts.applies.tolist() == [False, True, True]
    assert verdicts.met.tolist() == [False, False, False]
    assert judge(run).good.tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("request_", "cause"),
    [
        ({"outcome": "rejected", "reason": "infeasible"}, "rejected"),
        ({"outcome": "rejected", "reason": "jurisdiction"}, "rejected"),
        ({"outcome": "rejected", "reason": "outage"}, "outage"),
        ({"outcome": "failed", "reason": "outage"}, "outage"),
        ({"outcome": "failed", "reason": "too-long"}, "failed"),
        ({"rtt_ms": 401}, "network"),  # 401 + 100 overhead > 500 alone
        ({"rtt_ms": 401, "queue_ms": 900, "preemptions": 1}, "network"),
        ({"rtt_ms": 50, "queue_ms": 300, "compute_ms": 100}, "queue"),  # 550; without queue 250
        ({"rtt_ms": 50, "queue_ms": 300, "compute_ms": 100, "preemptions": 2}, "queue"),
        ({"rtt_ms": 50, "queue_ms": 10, "compute_ms": 400, "preemptions": 1}, "preemption"),  # 560; 550 without queue
        ({"rtt_ms": 50, "queue_ms": 900, "compute_ms": 351}, "compute"),  # 501 even without queue
        ({"rtt_ms": 50, "queue_ms": 1, "compute_ms": 350}, "queue"),  # 501; exactly 500 without queue
        ({"rtt_ms": 50, "queue_ms": 0, "compute_ms": 350}, ""),
    ],
)
def test_cause_of_a_late_first_token(make_run, make_workload, request_: dict[str, object], cause: str) -> None:
    run = make_run([request_], workloads={"voice": make_workload(("ttft_ms", 500), overhead_ms=100.0)})
    assert causes(run) == [cause]


@pytest.mark.parametrize(
    ("metric", "request_", "cause"),
    [
        ("network_ms", {"rtt_ms": 21, "queue_ms": 90, "preemptions": 1}, "network"),
        ("tpot_ms", {"decode_ms": 42, "output_tokens": 3}, "compute"),
        ("tpot_ms", {"decode_ms": 42, "output_tokens": 3, "preemptions": 1}, "preemption"),
        ("e2e_ms", {"rtt_ms": 21, "preemptions": 1}, "network"),
        ("e2e_ms", {"queue_ms": 10, "decode_ms": 15, "preemptions": 1}, "preemption"),
        ("e2e_ms", {"queue_ms": 10, "decode_ms": 15}, "queue"),
        ("e2e_ms", {"queue_ms": 10, "decode_ms": 25}, "compute"),
    ],
)
def test_cause_of_a_miss_of_20_ms_by_metric(make_run, make_workload, metric, request_, cause: str) -> None:
    assert causes(make_run([request_], workloads={"w": make_workload((metric, 20.0))})) == [cause]


def test_worst_missed_objective_names_the_cause(make_run, make_workload) -> None:
    spec = make_workload(("ttft_ms", 100.0), ("tpot_ms", 10.0))
    late_start = {"queue_ms": 300, "decode_ms": 20, "output_tokens": 2}  # 3.0 times, 2.0 times
    slow_pace = {"queue_ms": 300, "decode_ms": 40, "output_tokens": 2}  # 3.0 times, 4.0 times
    run = make_run([late_start, slow_pace], workloads={"w": spec})
    assert causes(run) == ["queue", "compute"]


def test_first_declared_objective_wins_among_equals(make_run, make_workload) -> None:
    request = {"queue_ms": 300, "decode_ms": 30, "output_tokens": 2}  # both 3 times over
    ttft_first = make_run([request], workloads={"w": make_workload(("ttft_ms", 100.0), ("tpot_ms", 10.0))})
    tpot_first = make_run([request], workloads={"w": make_workload(("tpot_ms", 10.0), ("ttft_ms", 100.0))})
    assert (causes(ttft_first), causes(tpot_first)) == (["queue"], ["compute"])


def test_each_request_is_judged_by_its_own_workload(make_run, make_workload) -> None:
    run = make_run(
        [{"compute_ms": 300}, {"compute_ms": 300, "workload": 1}],
        workloads={"fast": make_workload(("ttft_ms", 100)), "slow": make_workload(("ttft_ms", 1000))},
    )
    assert judge(run).good.tolist() == [False, True]


def test_request_without_a_workload_is_good_when_completed(make_run) -> None:
    run = make_run([{"workload": -1, "compute_ms": 9e6}, {"workload": -1, "outcome": "rejected"}])
    assert judge(run).good.tolist() == [True, False]


def test_causes_are_counted_most_frequent_first() -> None:
    assert list(count_causes(np.array([2, 2, 1, 0, 7, 2, 7], dtype=np.int8)).items()) == [
        ("queue", 3),
        ("failed", 2),
        ("network", 1),
    ]


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "outcome": st.sampled_from(OUTCOMES),
                "reason": st.sampled_from(REASONS),
                "rtt_ms": st.integers(0, 300),
                "queue_ms": st.integers(0, 300),
                "compute_ms": st.integers(0, 300),
                "decode_ms": st.integers(0, 300),
                "preemptions": st.integers(0, 1),
                "output_tokens": st.integers(1, 4),
            }
        ),
        max_size=12,
    )
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_bad_request_has_exactly_one_cause_and_no_good_one_has_any(make_run, make_workload, requests) -> None:
    spec = make_workload(("network_ms", 100.0), ("ttft_ms", 300.0), ("tpot_ms", 50.0), ("e2e_ms", 500.0))
    run = make_run(requests, workloads={"w": spec})
    judged = judge(run)
    assert ((judged.cause != 0) == ~judged.good).all()
    assert not judged.good[run.rows.outcome != 0].any()
