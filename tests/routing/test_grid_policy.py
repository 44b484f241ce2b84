"""The `grid` policy on rows made by hand, and how its choice may react to prices and to more engines."""

from __future__ import annotations

from decisions import Candidate, candidate_rows, decide, workload
from hypothesis import given, settings
from hypothesis import strategies as st

from gridctl.resources import PolicySpec, WorkloadSpec
from gridctl.routing.route import NOBODY, REFUSED
from gridctl.routing.rows import FUNCTION, PUBLIC_API

NUMBERS = {"algorithm": "grid", "gpu_weight": 1.0, "prediction_shape": 8, "reject_ratio": 1.5}
GRID = PolicySpec(**NUMBERS)
MEETS, LATE, HOPELESS = {"ttft": 50}, {"ttft": 600}, {"ttft": 5000}  # of 500 ms


def grid(candidates: list[Candidate], spec: WorkloadSpec | None = None, **numbers: float) -> int:
    return decide(candidate_rows(candidates), PolicySpec(**(NUMBERS | numbers)), spec)


def test_the_cheapest_that_meets_the_objective_wins() -> None:
    rows = [
        {**MEETS, "usd_gpu": 0.0003},
        {**MEETS, "usd_gpu": 0.0001, "rtt": 90},
        {**MEETS, "usd_cash": 0.0002},
    ]
    assert grid(rows) == 1


def test_an_expected_miss_is_paid_for() -> None:
    cheap_and_late, dear_and_timely = {**LATE, "usd_gpu": 0.0001}, {**MEETS, "usd_gpu": 0.0015}
    # late: 1.2⁸ = 4.3 to 1, so 0.81 · 0.002 = 0.00162 on top of 0.0001
    assert grid([cheap_and_late, dear_and_timely]) == 1


def test_a_cold_site_loses_to_a_warm_prefix() -> None:
    """Same engines: the warm one computes 100 of 1,000 tokens, so it takes a tenth of the GPU time."""
    cold = {"rtt": 5, "ttft": 200, "usd_gpu": 0.0010, "cached_tokens": 0, "prompt_tokens": 1000}
    warm = {"rtt": 25, "ttft": 20, "usd_gpu": 0.0001, "cached_tokens": 900, "prompt_tokens": 1000}
    assert grid([cold, warm]) == 1


def test_gpu_time_of_an_idle_engine_is_free_and_dearer_the_fuller_its_batch() -> None:
    """Owned GPUs are paid for anyway; 0.0010 · 0.25 is less than 0.0003, 0.0010 · 0.5 is more."""
    steady = {**MEETS, "usd_cash": 0.0003}
    assert grid([steady, {**MEETS, "usd_gpu": 0.0010, "load": 0.0}]) == 1
    assert grid([steady, {**MEETS, "usd_gpu": 0.0010, "load": 0.25}]) == 1
    assert grid([steady, {**MEETS, "usd_gpu": 0.0010, "load": 0.5}]) == 0


def test_equal_costs_go_to_the_nearer() -> None:
    assert grid([{"rtt": 20}, {"rtt": 10}, {"rtt": 30}], workload(tpot_ms=100)) == 1


def test_functions_and_the_api_are_chosen_only_when_allowed() -> None:
    function, public = {**MEETS, "kind": FUNCTION}, {**MEETS, "kind": PUBLIC_API}
    assert grid([function]) == 0
    assert grid([function], allow_serverless=False) == NOBODY
    assert grid([public]) == 0
    assert grid([public], allow_fallback=False) == NOBODY
    assert grid([function, public, {**MEETS, "usd_gpu": 1.0}], allow_serverless=False, allow_fallback=False) == 2


def test_when_nothing_meets_the_least_late_serves() -> None:
    rows = [{"ttft": 900}, {"ttft": 700, "usd_gpu": 5.0}, {"ttft": 800}]
    assert grid(rows, workload("serve-late")) == 1
    assert grid(rows, workload("fallback")) == 1  # there is no API here


def test_when_nothing_meets_the_api_serves_those_who_asked_for_it() -> None:
    rows = [{"ttft": 900}, {"ttft": 800, "kind": PUBLIC_API, "usd_cash": 0.5}]
    assert grid(rows, workload("fallback")) == 1
    assert grid(rows, workload("fallback"), allow_fallback=False) == 0
    assert grid(rows, workload("serve-late")) == 0


def test_a_hopeless_request_is_refused_only_for_workloads_that_prefer_it() -> None:
    rows = [HOPELESS, {"ttft": 4000}]
    assert grid(rows, workload("reject")) == REFUSED
    assert grid(rows, workload("reject"), allow_reject=False) == 1
    assert grid(rows, workload("serve-late")) == 1
    assert grid(rows, workload("fallback")) == 1


def test_a_narrow_miss_is_served_and_the_ratio_says_what_narrow_is() -> None:
    rows = [{"ttft": 740}]  # 1.48 times 500
    assert grid(rows, workload("reject")) == 0
    assert grid(rows, workload("reject"), reject_ratio=1.4) == REFUSED
    assert grid([{"ttft": 750}], workload("reject")) == 0  # exactly 1.5 times


def test_an_unavailable_engine_that_would_meet_does_not_keep_others_from_being_refused() -> None:
    assert grid([{**MEETS, "is_available": 0}, HOPELESS], workload("reject")) == REFUSED


requests = st.builds(
    workload,
    st.sampled_from(("serve-late", "fallback", "reject")),
    st.sampled_from((0.0, 0.002, 0.1)),
    ttft_ms=st.sampled_from((50.0, 300.0, 2000.0)),
    tpot_ms=st.sampled_from((10.0, 100.0)),
)
candidates = st.fixed_dictionaries(
    {
        "kind": st.sampled_from((0, 0, 1, 2)),
        "is_available": st.sampled_from((1, 1, 1, 0)),
        "rtt": st.sampled_from((1.0, 20.0, 150.0)),
        "ttft": st.sampled_from((5.0, 100.0, 250.0, 1000.0, 9000.0)),
        "tpot": st.sampled_from((5.0, 50.0, 150.0)),
        "usd_gpu": st.sampled_from((0.0, 0.0001, 0.001, 0.01)),
        "usd_cash": st.sampled_from((0.0, 0.0001, 0.001, 0.01)),
    }
)
lists = (
    st.lists(candidates, min_size=1, max_size=6)
    .map(lambda rows: [row for index, row in enumerate(rows) if row["kind"] != PUBLIC_API or index == 0])
    .filter(bool)
)
"""As a grid has it: at most one public API, first because its round trip is none."""


@settings(max_examples=300, deadline=None)
@given(
    lists, requests, st.integers(0, 5), st.sampled_from(("usd_gpu", "usd_cash")), st.sampled_from((1e-5, 0.005, 1.0))
)
def test_a_dearer_candidate_is_never_chosen_more(
    rows: list[Candidate], spec: WorkloadSpec, which: int, price: str, more: float
) -> None:
    which %= len(rows)
    before = grid(rows, spec)
    dearer = [dict(row) for row in rows]
    dearer[which][price] += more
    after = grid(dearer, spec)
    if before != which:
        assert after != which


@settings(max_examples=300, deadline=None)
@given(lists, requests, st.integers(0, 5))
def test_a_second_identical_candidate_changes_neither_cost_nor_refusal(
    rows: list[Candidate], spec: WorkloadSpec, which: int
) -> None:
    twin = rows[which % len(rows)]
    if twin["kind"] == PUBLIC_API:
        return
    before, after = candidate_rows(rows), candidate_rows([*rows, {**twin, "engine": 77}])
    first, second = decide(before, GRID, spec), decide(after, GRID, spec)
    assert (first < 0) == (second < 0)
    if first >= 0:
        assert after[second].usd == before[first].usd
    else:
        assert first == second


@settings(max_examples=300, deadline=None)
@given(lists, requests, candidates)
def test_one_more_gpu_engine_never_raises_the_cost_of_a_request_that_was_met(
    rows: list[Candidate], spec: WorkloadSpec, newcomer: dict
) -> None:
    before = candidate_rows(rows)
    first = decide(before, GRID, spec)
    if first < 0 or before[first].worst_ratio > 1:
        return
    after = candidate_rows([*rows, {**newcomer, "kind": 0, "is_available": 1}])
    second = decide(after, GRID, spec)
    assert second >= 0, "it was met before, now it is refused"
    assert after[second].usd <= before[first].usd
