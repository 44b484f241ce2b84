"""Capacity: the largest load one engine keeps promises at, against trying; and what is kept on disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from smallgrids import trace, workload

from gridctl.grid.view import GridView
from gridctl.planning.capacity import (
    BINS_MS,
    PRECISION,
    SAMPLE,
    Bench,
    Capacity,
    Question,
    Task,
    _Alone,
    answer,
    bin_of,
    measure,
    sample,
)
from gridctl.planning.kinds import worth_asking
from gridctl.planning.offers import engine_offers
from gridctl.resources import Resource, Serverless


def bench_of(parts: list[Resource], ttft_ms: float = 100.0, **question: object) -> Bench:
    view = GridView(parts)
    (offer,) = engine_offers(view, ["toy"], ["m"])
    asked = sample(trace([{"input": 40, "output": 4}]), trace([{}]).arrival_ns)
    one = Question(workload(ttft_ms=ttft_ms), offer, "m", 0)
    if "offer" in question:
        one = replace(one, offer=question["offer"])  # type: ignore[arg-type]
    common = (*view.models.values(), *view.gpus.values())
    return Bench((one,), (asked,), common, "default", 1)


def whole(bench: Bench) -> Capacity:
    nearest = answer(bench, Task(0), lambda amount: None)
    return nearest if nearest.is_whole else answer(bench, Task(0, nearest), lambda amount: None)


def test_a_class_of_round_trips_ends_at_its_bin() -> None:
    assert bin_of([0.1, BINS_MS[0], BINS_MS[0] + 0.01, BINS_MS[-1] + 1]).tolist() == [0, 0, 1, len(BINS_MS)]  # type: ignore[arg-type]


def test_a_sample_has_its_size_however_few_requests_there_are() -> None:
    assert len(sample(trace([{}, {"at_ms": 5}]), trace([{}]).arrival_ns)) == SAMPLE


def test_the_engine_serves_the_capacity_and_not_much_more(parts: list[Resource]) -> None:
    bench = bench_of(parts)
    found = whole(bench)
    alone = _Alone(bench, bench.questions[0])
    assert alone._serves(BINS_MS[0], 0.01)  # tells what an answer takes alone
    assert alone._serves(BINS_MS[0], found.rps[0])
    assert not alone._serves(BINS_MS[0], found.rps[0] * PRECISION * 1.02)


def test_capacity_falls_with_distance_to_nothing_where_the_promise_ends(parts: list[Resource]) -> None:
    found = whole(bench_of(parts))
    assert list(found.rps) == sorted(found.rps, reverse=True)
    # 100 ms less 10 of last mile: a round trip of 85 leaves 5 for jitter, and one in a hundred jitters by 42 %.
    assert found.rps[BINS_MS.index(85.0)] == 0.0
    assert found.rps[BINS_MS.index(30.0)] > 0.0


def test_an_engine_too_slow_even_alone_serves_nothing_and_is_asked_once(parts: list[Resource]) -> None:
    found = answer(bench_of(parts, ttft_ms=10.5), Task(0), lambda amount: None)
    assert set(found.rps) == {0.0}
    assert (found.is_whole, found.replays) == (True, 1)


def test_a_function_is_paid_by_use(parts: list[Resource]) -> None:
    cpu = Serverless(variants=("m/bf16",), usd_per_ms=0.001, cold_start_ms=1.0)
    found = answer(bench_of(parts, ttft_ms=60_000.0, offer=cpu), Task(0), lambda amount: None)
    assert found.usd_per_request > 0
    assert found.rps[0] > 0


@pytest.mark.usefixtures("in_process")
def test_what_was_measured_is_not_measured_again(parts: list[Resource], tmp_path: Path) -> None:
    store = tmp_path / "capacities.json"
    bench = bench_of(parts)

    def ask(of: Bench) -> list[Capacity]:
        return measure(of, lambda near: [True] * len(near), store, jobs=1, executor="local", advanced=told.append)

    told: list[int] = []
    first = ask(bench)
    assert sum(told) == 2
    written = store.read_bytes()
    assert ask(bench) == first
    assert store.read_bytes() == written
    store.write_bytes(b"{")  # damaged: measured again, the same
    assert ask(bench) == first
    assert store.read_bytes() == written


def test_a_slower_variant_of_a_model_is_not_asked_far_away(view: GridView) -> None:
    (offer,) = engine_offers(view, ["toy"], ["m"])
    slower = replace(offer, variant="slow")
    other = replace(offer, model="n")
    asked = [Question(workload(), one, one.model, 0) for one in (offer, slower, other)]
    near = [Capacity((rate,) * len(BINS_MS), is_whole=False) for rate in (2.0, 1.0, 1.0)]
    assert worth_asking(asked, near) == [True, False, True]
