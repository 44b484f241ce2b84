"""Attainment, budgets, bounds and verdicts of tiny runs, worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gridctl.accounts.rows import OUTCOMES
from gridctl.accounts.site_misses import worst_sites
from gridctl.accounts.sla import sla, status
from gridctl.errors import UsageError


def only(rows, **labels: str):
    (found,) = [row for row in rows if all(getattr(row, key) == value for key, value in labels.items())]
    return found


def test_four_requests_by_hand(make_run, make_workload) -> None:
    """TTFT 100, 400, 600 ms and one refused, under 500 ms at p99."""
    run = make_run(
        [{"compute_ms": 100}, {"compute_ms": 400}, {"queue_ms": 600}, {"outcome": "rejected", "reason": "outage"}],
        workloads={"chat": make_workload(("ttft_ms", 500), attainment=0.5, availability=0.9)},
    )
    table = sla(run)
    row = only(table.workloads, objective="ttft_ms ≤ 500")
    assert (row.tenant, row.region, row.target, row.percentile, row.threshold_ms) == ("*", "*", 0.99, 99.0, 500.0)
    assert (row.requests, row.applicable, row.good, row.bad, row.attained) == (4, 4, 2, 2, 0.5)
    assert row.budget_requests == 0.04
    assert row.burn == pytest.approx(50.0)  # half are bad, one in a hundred may be
    assert row.budget_left_share == pytest.approx(-49.0)
    assert row.causes == {"queue": 1, "outage": 1}
    assert (row.observed_ms, row.observed_unserved) == (None, True)  # rank 4 of 4 is the refused one
    together = only(table.workloads, objective="all objectives")
    assert (together.target, together.good, together.burn, together.percentile) == (0.5, 2, 1.0, None)
    available = only(table.workloads, objective="availability")
    assert (available.target, available.good, available.bad, available.main_cause) == (0.9, 3, 1, "outage")
    assert (table.total.good, table.total.completed, table.total.attained, table.total.available) == (2, 3, 0.5, 0.75)


def test_shares_are_pooled_never_averaged(make_run) -> None:
    """3 of 3 good in EU and 0 of 1 in NA: 75 % together, while the average of the two shares says 50 %."""
    requests = [{"compute_ms": 1}] * 3 + [{"compute_ms": 900, "origin": 1}]
    table = sla(make_run(requests, regions=("EU", "NA")))
    assert only(table.workloads, objective="all objectives").attained == 0.75
    assert only(table.rows, objective="all objectives", region="EU").attained == 1.0
    assert only(table.rows, objective="all objectives", region="NA").attained == 0.0


def test_two_origins_of_one_region_are_one_row(make_run) -> None:
    table = sla(make_run([{}, {"origin": 1}], regions=("EU", "EU")))
    assert [row.requests for row in table.rows] == [2, 2, 2]


def test_tenants_are_told_apart(make_run) -> None:
    table = sla(make_run([{}, {"tenant": 1}, {"tenant": 1}], tenants=("acme", "zeta")), by=("workload", "tenant"))
    counts = {(row.tenant, row.region): row.requests for row in table.rows}
    assert counts == {("acme", "*"): 1, ("zeta", "*"): 2}


def test_one_token_answers_count_neither_way_on_tpot(make_run, make_workload) -> None:
    requests = [{"output_tokens": 1}, {"output_tokens": 2, "decode_ms": 5}, {"output_tokens": 2, "decode_ms": 50}]
    table = sla(make_run(requests, workloads={"w": make_workload(("tpot_ms", 10))}))
    row = only(table.workloads, objective="tpot_ms ≤ 10")
    assert (row.requests, row.applicable, row.good, row.bad, row.observed_ms) == (3, 2, 1, 1, 50.0)


def test_workload_nobody_asked_for_has_no_data(make_run, make_workload) -> None:
    specs = {"asked": make_workload(("ttft_ms", 1)), "unasked": make_workload(("ttft_ms", 1))}
    rows = [row for row in sla(make_run([{}], workloads=specs)).workloads if row.workload == "unasked"]
    assert [(row.status, row.applicable, row.attained, row.burn) for row in rows] == [("no-data", 0, None, None)] * 3


def test_empty_run_has_no_data_anywhere(make_run) -> None:
    table = sla(make_run([]))
    assert {row.status for row in table.workloads} == {"no-data"}
    assert (table.total.attained, table.total.available) == (None, None)


@pytest.mark.parametrize(
    ("applicable", "bad", "verdict"),
    [
        (0, 0, "no-data"),
        (298, 0, "undecided"),
        (299, 0, "met"),
        (472, 1, "undecided"),
        (473, 1, "met"),
        (300, 3, "undecided"),  # 99.0 % seen, 97.1–99.8 % possible
        (100, 2, "undecided"),  # 98 % seen, but two bad requests are an accident
        (100, 4, "missed"),  # four are not: at most 98.9 % is possible
        (400, 5, "missed"),  # five are a rate
        (1, 1, "missed"),  # at most 97.5 % is possible
        (10_000, 101, "missed"),
    ],
)
def test_status_of_99_percent(applicable: int, bad: int, verdict: str) -> None:
    assert status(applicable, bad, 0.99) == verdict


def test_row_says_how_many_requests_would_prove_it(make_run) -> None:
    row = sla(make_run([{}] * 10 + [{"compute_ms": 501}])).workloads[0]
    assert (row.status, row.requests_to_prove, row.requests_to_bound) == ("undecided", 473, 368)


def test_bounds_are_the_order_statistics_of_the_table(make_run) -> None:
    """TTFT 1…1000 ms: the p99 is the 990th, bounded by the 983rd and the 997th."""
    row = sla(make_run([{"compute_ms": time} for time in range(1000, 0, -1)])).workloads[0]
    assert (row.observed_low_ms, row.observed_ms, row.observed_high_ms) == (983.0, 990.0, 997.0)


def test_small_sample_has_a_percentile_but_no_upper_bound(make_run) -> None:
    row = sla(make_run([{"compute_ms": time} for time in range(1, 301)])).workloads[0]
    assert (row.observed_low_ms, row.observed_ms, row.observed_high_ms) == (293.0, 297.0, None)
    assert row.applicable < row.requests_to_bound


def test_interval_is_clopper_pearson(make_run) -> None:
    row = sla(make_run([{}] * 297 + [{"compute_ms": 501}] * 3)).workloads[0]
    assert (f"{row.attained_low:.3f}", row.attained, f"{row.attained_high:.3f}") == ("0.971", 0.99, "0.998")
    assert (row.budget_requests, row.budget_left_share, row.burn) == (3.0, 0.0, 1.0)


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "outcome": st.sampled_from(OUTCOMES),
                "compute_ms": st.integers(0, 20),
                "decode_ms": st.integers(0, 20),
                "output_tokens": st.integers(1, 3),
                "origin": st.integers(0, 1),
                "tenant": st.integers(-1, 1),
            }
        ),
        max_size=30,
    ),
    st.sampled_from([50.0, 90.0, 99.0]),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_percentile_within_threshold_says_the_same_as_target_attained(
    make_run, make_objectives, requests, percentile: float
) -> None:
    table = sla(
        make_run(requests, workloads={"w": make_objectives(percentile)}, tenants=("a", "b"), regions=("EU", "NA"))
    )
    for row in (*table.workloads, *table.rows):
        assert row.good + row.bad == row.applicable
        assert sum(row.causes.values()) == row.bad
        if row.percentile is not None and row.applicable:
            within = not row.observed_unserved and row.observed_ms <= row.threshold_ms
            assert within == (row.good * 100 >= row.percentile * row.applicable)
    pooled = [row for row in table.workloads if row.objective == "all objectives"]
    finer = [row for row in table.rows if row.objective == "all objectives"]
    assert sum(row.good for row in pooled) == sum(row.good for row in finer) == table.total.good


@pytest.fixture
def make_objectives(make_workload):
    """TTFT and TPOT within 10 ms at a percentile."""
    import msgspec

    def build(percentile: float):
        spec = make_workload(("ttft_ms", 10), ("tpot_ms", 5))
        moved = tuple(msgspec.structs.replace(objective, percentile=percentile) for objective in spec.objectives)
        return msgspec.structs.replace(spec, objectives=moved)

    return build


def test_worst_sites_are_ordered_by_bad_requests_and_say_why(make_run, make_engine) -> None:
    engines = (make_engine(site="paris", tier="edge"), make_engine(site="lyon", tier="edge"), make_engine(site="core"))
    late, far = {"queue_ms": 900}, {"rtt_ms": 900}
    requests = [
        late | {"engine": 0},
        late | {"engine": 1},
        far | {"engine": 1},
        late | {"engine": 1},
        {"engine": 1},
        {"engine": 2},
        {"engine": -1, "outcome": "rejected", "reason": "outage"},
    ]
    run = make_run(requests, engines=engines)
    worst = worst_sites(run, 10)
    assert [(row.site, row.bad, row.requests, row.main_cause) for row in worst] == [
        ("lyon", 3, 4, "queue"),
        ("-", 1, 1, "outage"),
        ("paris", 1, 1, "queue"),
    ]
    assert (worst[0].tier, worst[0].bad_share, worst[0].main_workload) == ("edge", 0.75, "chat")
    assert worst[0].causes == {"queue": 2, "network": 1}
    assert [row.site for row in worst_sites(run, 1)] == ["lyon"]
    assert worst_sites(run, 0) == ()


@pytest.mark.parametrize("by", [("tenant",), ("workload", "reigon"), ()])
def test_wrong_dimensions_are_usage_errors(make_run, by: tuple[str, ...]) -> None:
    with pytest.raises(UsageError):
        sla(make_run([{}]), by=by)
