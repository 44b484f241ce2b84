"""Runs side by side, and what moved between them: counted by hand on a handful of requests."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from gridctl.accounts.contrast import CONTRASTED, Pair, scopes_by
from gridctl.accounts.drawn import Drawn
from gridctl.accounts.intervals import Ensemble
from gridctl.accounts.measures import Measures
from gridctl.accounts.movement import movement
from gridctl.accounts.pairing import unpaired
from gridctl.accounts.rows import Run
from gridctl.accounts.summary import summarize
from gridctl.accounts.tables import TokenomicsRow
from gridctl.resources.gate import METRICS

MakeRun = Callable[..., Run]


def request(ttft_ms: float, engine: int = 0, **columns: object) -> dict[str, object]:
    said = {"queue_ms": ttft_ms, "engine": engine, "input_tokens": 100, "output_tokens": 1, "gpu_ns": 10**9}
    return said | columns


@pytest.fixture
def places(make_engine: Callable) -> list:
    """Paris at a dollar for 1,000 s of GPU time, Oslo at two, Rome at half."""
    prices = {"paris": 3.6, "oslo": 7.2, "rome": 1.8}
    return [make_engine(site=site, tier="edge", gpus=1, usd_per_gpu_hour=usd) for site, usd in prices.items()]


def test_every_number_of_the_tokenomics_table_is_compared() -> None:
    """Percentiles under their metric's name; what is left out is no number, or a name."""
    covered = {metric.replace("_ms.", "_") + "_ms" if "_ms.p" in metric else metric for metric in CONTRASTED}
    assert set(TokenomicsRow.__struct_fields__) - {"workload", "tier", "variant"} <= covered
    assert set(CONTRASTED) <= set(METRICS)


def test_pairs_are_told_by_the_requests_not_by_the_name_of_the_trace(make_run: MakeRun) -> None:
    base = [request(10.0, arrival_ns=5), request(20.0, arrival_ns=9)]
    run = make_run(base, regions=("EU", "NA"))
    assert unpaired(run, make_run([request(70.0, arrival_ns=5), request(1.0, arrival_ns=9)])) == ""
    assert unpaired(run, make_run([*base, request(1.0)])) == "2 requests against 3"
    assert "other times" in unpaired(run, make_run([request(10.0), request(20.0, arrival_ns=9)]))
    longer = [request(10.0, arrival_ns=5), request(20.0, arrival_ns=9, input_tokens=7)]
    assert "prompts have other lengths" in unpaired(run, make_run(longer))
    elsewhere = [request(10.0, arrival_ns=5), request(20.0, arrival_ns=9, origin=1)]
    assert "other origins" in unpaired(run, make_run(elsewhere, regions=("EU", "NA")))
    renumbered = [request(10.0, arrival_ns=5, origin=1), request(20.0, arrival_ns=9, origin=1)]
    assert unpaired(run, make_run(renumbered, regions=("NA", "EU"))) == ""


def test_a_shift_of_every_request_is_more_than_noise_and_chance_is_not(make_run: MakeRun) -> None:
    """A jitter of mean 0 moves the mean of every stretch a little, one way or the other."""
    source = np.random.default_rng(8)
    values = source.lognormal(4, 1, 600) + 50
    before = Measures(make_run([request(float(value)) for value in values]))
    later = Measures(make_run([request(float(value) + 2.0) for value in values], name="later"))
    jittered = source.permutation(np.where(np.arange(600) % 2 == 0, 30.0, -30.0))
    noisy = [request(float(value + jitter)) for value, jitter in zip(values, jittered, strict=True)]
    same = Pair(before, before, "").contrast("ttft_ms.p95", {})
    assert (same.verdict, same.difference, same.low, same.high) == ("same", 0.0, 0.0, 0.0)
    shifted = Pair(before, later, "").contrast("ttft_ms.p95", {})
    assert (shifted.verdict, shifted.method) == ("worse", "blocks")
    assert shifted.difference == pytest.approx(2.0)
    assert Pair(later, before, "").contrast("ttft_ms.p50", {}).verdict == "better"
    chance = Pair(before, Measures(make_run(noisy, name="noisy")), "").contrast("ttft_ms.mean", {})
    assert chance.verdict == "noise"
    assert chance.low is not None
    assert chance.high is not None
    assert chance.low < 0 < chance.high


def test_runs_of_other_requests_have_differences_and_no_verdict(make_run: MakeRun) -> None:
    one, other = Measures(make_run([request(10.0)] * 400)), Measures(make_run([request(30.0)] * 500, name="b"))
    found = Pair(one, other, "400 requests against 500").contrast("ttft_ms.p50", {})
    assert (found.difference, found.difference_share, found.verdict, found.low) == (20.0, 2.0, "unknown", None)


def test_too_few_requests_have_no_verdict(make_run: MakeRun) -> None:
    one, other = Measures(make_run([request(10.0)] * 40)), Measures(make_run([request(30.0)] * 40, name="b"))
    assert Pair(one, other, "").contrast("ttft_ms.p50", {}).verdict == "too-few"


def test_runs_drawn_alike_are_compared_draw_by_draw(make_run: MakeRun, make_engine: Callable) -> None:
    """Ours is 5 ms slower in each of twelve draws that differ by far more than that among themselves."""

    def drawn(added_ms: float) -> tuple[Measures, Drawn]:
        runs = [make_run([request(100.0 * k + added_ms)] * 10, engines=[make_engine()]) for k in range(1, 14)]
        summaries = tuple(summarize(run, draw=number, seed=number) for number, run in enumerate(runs[1:], start=1))
        return Measures(runs[0]), Drawn(Ensemble(asked=13, drawn=("jitter",), draws=summaries))

    (base, base_drawn), (ours, ours_drawn) = drawn(0.0), drawn(5.0)
    found = Pair(base, ours, "", base_drawn, ours_drawn).contrast("ttft_ms.p99", {})
    assert (found.method, found.low, found.high, found.verdict) == ("draws", 5.0, 5.0, "worse")


def test_scopes_are_everything_and_each_combination_any_run_has(make_run: MakeRun, make_workload: Callable) -> None:
    specs = {"voice": make_workload(), "chat": make_workload()}
    one = make_run([request(1.0), request(1.0, workload=1, origin=1)], workloads=specs, regions=("EU", "NA"))
    assert scopes_by([Measures(one)], ["workload", "region"]) == [
        {},
        {"workload": "chat", "region": "NA"},
        {"workload": "voice", "region": "EU"},
    ]
    assert scopes_by([Measures(one)], []) == [{}]


def test_what_moved_where_and_what_came_of_it(make_run: MakeRun, places: list) -> None:
    """Own dollars: a second of GPU time is $0.001 in Paris, $0.002 in Oslo, $0.0005 in Rome. Late is over 500 ms."""
    paris, oslo, rome = 0, 1, 2
    refused = {"outcome": "rejected", "reason": "infeasible", "engine": -1, "input_tokens": 100, "output_tokens": 1}
    before = [
        request(100.0, paris),  # stays
        request(100.0, paris),  # to Rome: cheaper and faster
        request(100.0, paris),  # to Rome: cheaper
        request(100.0, paris),  # to Oslo: faster
        request(100.0, paris),  # to Oslo: dearer and slower
        request(600.0, paris),  # to Oslo, was late
        request(100.0, paris),  # to Oslo, late now
        refused,  # served now
        request(100.0, paris),  # refused now
        {**refused, "reason": "no-model"},  # still refused
    ]
    after = [
        request(130.0, paris), request(90.0, rome), request(110.0, rome), request(90.0, oslo), request(110.0, oslo),
        request(200.0, oslo), request(700.0, oslo), request(100.0, rome), refused, refused,
    ]  # fmt: skip
    base, run = make_run(before, engines=places), make_run(after, engines=places, name="new")
    found = movement(base, run, "site", 2)
    assert (found.requests, found.moved, found.moved_share) == (10, 8, 0.8)
    assert found.reasons == {
        "cheaper": 1, "cheaper and faster": 1, "dearer and slower": 1, "faster": 1, "refused now: infeasible": 1,
        "served now": 1, "was good, now late": 1, "was late, now good": 1,
    }  # fmt: skip
    flows = {(flow.before, flow.after): flow for flow in found.flows}
    assert {pair: flow.requests for pair, flow in flows.items()} == {
        ("paris", "oslo"): 4, ("paris", "rome"): 2, ("(rejected)", "rome"): 1, ("paris", "(rejected)"): 1,
    }  # fmt: skip
    to_oslo = flows["paris", "oslo"]
    assert to_oslo.ttft_ms_change == pytest.approx((-10 + 10 - 400 + 600) / 4)
    assert to_oslo.usd_change == pytest.approx(4 * 0.001)
    assert to_oslo.share == pytest.approx(0.4)
    assert flows["paris", "(rejected)"].ttft_ms_change is None
    assert sum(flow.requests for flow in found.flows) == found.moved
    assert [(mover.id, mover.ttft_ms_change) for mover in found.movers] == [(6, 600.0), (5, -400.0)]
    assert found.movers[0].reason == "was good, now late"
    assert movement(base, run, "tier", 0).moved == 2  # all three are of one tier: only refusals are moves


def test_a_run_beside_itself_moves_nothing(make_run: MakeRun, places: list) -> None:
    run = make_run([request(10.0 * number, number % 3) for number in range(50)], engines=places)
    found = movement(run, run, "site", 5)
    assert (found.moved, found.flows, found.movers, found.reasons) == (0, (), (), {})
