"""Intervals: which values they run between, what they cover, and what they say of rows that some draws do not have."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from fractions import Fraction

import msgspec
import numpy as np
import pytest

from gridctl.accounts.comparison import compare
from gridctl.accounts.facts import EngineFacts
from gridctl.accounts.intervals import (
    Ensemble,
    Range,
    coverage,
    interval,
    promise_ranges,
    rank,
    row_ranges,
    saving_ranges,
    sla_total_ranges,
    tokenomics_ranges,
)
from gridctl.accounts.rows import Run
from gridctl.accounts.sla import sla
from gridctl.accounts.summary import Summary, summarize, table_key
from gridctl.accounts.tokenomics import tokenomics
from gridctl.resources import Objective, WorkloadSpec

MS = 1_000_000


@pytest.fixture
def run(make_run: Callable[..., Run]) -> Run:
    """900 requests of two workloads, answered within 100…399 ms on two tiers, and ten of the second refused."""
    engines = [
        EngineFacts(
            kind="gpu",
            cluster=tier,
            site=tier,
            tier=tier,
            region="EU",
            model="m",
            variant="fp8",
            gpus=1,
            usd_per_gpu_hour=2.0,
        )
        for tier in ("edge", "core")
    ]
    requests = [
        {
            "workload": number % 2,
            "engine": number % 2,
            "input_tokens": 100,
            "output_tokens": 10,
            "compute_ms": 100 + number % 300,
            "decode_ms": 90,
            "gpu_ms": 5,
        }
        for number in range(900)
    ]
    refused = [{"workload": 0, "engine": -1, "outcome": "rejected", "reason": "infeasible", "input_tokens": 5}] * 10
    objective = (Objective(metric="ttft_ms", threshold_ms=500.0, percentile=95.0),)
    workloads = {
        "chat": WorkloadSpec(objectives=objective, models=("m",)),
        "voice": WorkloadSpec(objectives=objective, models=("m",)),
    }
    made: Run = make_run([*requests, *refused], engines=engines, workloads=workloads, window_s=60.0)
    return made


def later(run: Run, milliseconds: float) -> Run:
    """The run with every completed request queued for so much longer."""
    served = run.rows.outcome == 0
    queue = run.rows.queue_ns + np.where(served, int(milliseconds * MS), 0)
    return dataclasses.replace(run, rows=dataclasses.replace(run.rows, queue_ns=queue))


def ensemble(runs: list[Run], drawn: tuple[str, ...] = ("jitter",), first_seed: int = 2) -> Ensemble:
    draws = tuple(summarize(run, draw=n, seed=first_seed + n - 1) for n, run in enumerate(runs, 1))
    return Ensemble(asked=len(runs) + 1, drawn=drawn, draws=draws)


def test_the_rank_leaves_at_least_nine_in_ten_within_where_there_are_draws_enough() -> None:
    for draws in range(1, 500):
        left = Fraction(draws + 1 - 2 * rank(draws), draws + 1)
        assert coverage(draws) == pytest.approx(float(left))
        if draws >= 19:
            assert left >= Fraction(9, 10)
            assert Fraction(draws + 1 - 2 * (rank(draws) + 1), draws + 1) < Fraction(9, 10)
        else:
            assert rank(draws) == 1


def test_another_draw_falls_within_as_often_as_is_said() -> None:
    """4,000 samples of a skewed distribution: the share within is a binomial of the coverage, four deviations wide."""
    random = np.random.default_rng(3)
    for draws in (5, 19, 39):
        samples = np.exp(random.normal(size=(4_000, draws + 1)))
        within = 0
        for row in samples:
            between = interval(list(row[:-1]))
            assert between is not None
            assert between.low is not None
            assert between.high is not None
            within += between.low <= row[-1] <= between.high
        share = coverage(draws)
        assert within / 4_000 == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 4_000))


def test_values_that_are_not_there_do_not_count_and_infinite_ones_are_later_than_any() -> None:
    assert interval([None, None]) is None
    assert interval([3, None, 1]) == Range(low=1, high=3, draws=2)
    assert interval([5.0, math.inf]) == Range(low=5.0, high=None, draws=2, unserved=1)
    assert interval([math.inf]) == Range(low=None, high=None, draws=1, unserved=1)
    assert interval(list(range(39))) == Range(low=1, high=37, draws=39)


def test_summaries_hold_every_table_as_it_is_printed(run: Run) -> None:
    summary = summarize(run, draw=1, seed=2)
    assert msgspec.json.decode(msgspec.json.encode(summary), type=Summary) == summary
    for by in (["workload"], ["tier", "workload"], ["workload", "tier", "variant"], ["variant"]):
        assert summary.tokenomics[table_key(by)] == tokenomics(run, by).rows
    assert summary.total == tokenomics(run).total
    for by in (["workload"], ["workload", "region"], ["workload", "tenant", "region"]):
        assert summary.sla[table_key(by)] == sla(run, by).rows
    assert summary.sla_total == sla(run).total


def test_ranges_are_of_the_row_with_the_same_labels(run: Run) -> None:
    drawn = [later(run, wait) for wait in (10.0, 30.0, 20.0)]
    table = tokenomics(run)
    ranges = tokenomics_ranges(table, ("workload", "tier", "variant"), ensemble(drawn))
    assert len(ranges.items) == len(table.rows)
    for row, own in zip([*table.rows, table.total], [*ranges.items, ranges.total], strict=True):
        if row.ttft_p50_ms is None:
            assert "ttft_p50_ms" not in own
            continue
        assert own["ttft_p50_ms"].low == pytest.approx(row.ttft_p50_ms + 10)
        assert own["ttft_p50_ms"].high == pytest.approx(row.ttft_p50_ms + 30)
        assert (own["requests"].low, own["requests"].high) == (row.requests, row.requests)
    assert not {"workload", "tier", "variant"} & set(ranges.total)
    assert row_ranges("*", ensemble(drawn)) == ranges.total


def test_a_row_that_a_draw_does_not_have_was_zero_there_but_had_no_latency(run: Run) -> None:
    table = tokenomics(run, ["workload"])
    name = table.rows[0].workload
    whole = ensemble([run, run])
    key = table_key(["workload"])
    without = msgspec.structs.replace(
        whole.draws[1],
        tokenomics={**whole.draws[1].tokenomics, key: tuple(r for r in table.rows if r.workload != name)},
    )
    ranges = tokenomics_ranges(
        table, ["workload"], msgspec.structs.replace(whole, draws=(whole.draws[0], without))
    ).items[0]
    assert (ranges["requests"].low, ranges["requests"].high) == (0, table.rows[0].requests)
    assert ranges["usd"].low == 0
    if "ttft_p50_ms" in ranges:
        assert ranges["ttft_p50_ms"].draws == 1


def test_savings_are_compared_draw_by_draw(run: Run) -> None:
    """Both runs wait longer in the same draws, so the ratio moves less than either."""
    ours = ensemble([later(run, wait) for wait in (0.0, 100.0, 200.0)])
    theirs = ensemble([later(run, 50 + wait) for wait in (0.0, 100.0, 200.0)])
    (savings,) = saving_ranges(["*"], ours, theirs)
    pairs = [
        compare(tokenomics(later(run, wait)), tokenomics(later(run, 50 + wait)))[0] for wait in (0.0, 100.0, 200.0)
    ]
    expected = [next(d.saving_share for d in pair.differences if d.metric == "ttft_p50_ms") for pair in pairs]
    known = sorted(share for share in expected if share is not None)
    assert (savings.savings["ttft_p50_ms"].low, savings.savings["ttft_p50_ms"].high) == (known[0], known[-1])
    assert saving_ranges(["*"], ours, ensemble([run] * 3, first_seed=9)) == ()
    assert saving_ranges(["*"], ours, ensemble([run] * 3, drawn=("mix",))) == ()
    assert saving_ranges(["*"], ours, ensemble([run] * 2)) == ()


def test_verdicts_are_counted_over_all_replays_and_flips_are_seen(run: Run) -> None:
    drawn = ensemble([run, later(run, 10_000.0), later(run, 10_000.0)])
    rows = sla(run, ["workload"]).rows
    ranges = promise_ranges(rows, ["workload"], drawn)
    assert [(one.workload, one.objective) for one in ranges] == [(row.workload, row.objective) for row in rows]
    for own in ranges:
        assert sum(own.statuses.values()) == 4
        assert own.flips == (len(own.statuses) > 1)
        assert list(own.statuses.values()) == sorted(own.statuses.values(), reverse=True)
        assert not {"target", "threshold_ms", "percentile"} & set(own.ranges)
    flipping = {(one.workload, one.objective) for one in ranges if one.flips}
    assert ("voice", "ttft_ms ≤ 500") in flipping
    assert ("voice", "availability") not in flipping
    total = sla_total_ranges(drawn)
    assert total["good"].low is not None
    assert total["good"].low <= sla(run).total.good == total["good"].high


def test_a_percentile_never_served_is_later_than_any(run: Run) -> None:
    row = next(row for row in sla(run, ["workload"]).rows if row.percentile is not None and row.observed_ms is not None)
    unserved = msgspec.structs.replace(row, observed_ms=None, observed_unserved=True)
    first = summarize(run, draw=1, seed=2)
    key = table_key(["workload"])
    draws = (first, msgspec.structs.replace(first, sla={**first.sla, key: (unserved,)}))
    (ranges,) = promise_ranges([row], ["workload"], Ensemble(asked=3, drawn=("jitter",), draws=draws))
    assert ranges.ranges["observed_ms"] == Range(low=row.observed_ms, high=None, draws=2, unserved=1)


def test_draws_that_kept_no_such_table_have_no_ranges(run: Run) -> None:
    summary = summarize(run, draw=1, seed=2)
    bare = msgspec.structs.replace(summary, sla={})
    rows = sla(run, ["workload"]).rows
    assert promise_ranges(rows, ["workload"], Ensemble(asked=2, drawn=(), draws=(bare,))) == ()


def test_tables_of_too_many_rows_are_left_out_of_a_summary(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gridctl.accounts.summary.MOST_ROWS", 0)
    assert summarize(run, draw=1, seed=2).sla == {}
