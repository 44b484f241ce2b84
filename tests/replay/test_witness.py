"""A witness sees what was decided: captured rows decide alike, and a run that is not the replay's is refused."""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import pytest
from smallgrids import cluster, gpu, make_grid, make_policy, make_trace, model, site, trace, workload

from gridctl.accounts.rows import RunRows
from gridctl.errors import StoreError
from gridctl.grid.image import build_image
from gridctl.replay import stage as room
from gridctl.replay.recollection import recollect
from gridctl.replay.replay import replay
from gridctl.replay.witness import Sighting, witness
from gridctl.resources import Objective, PolicySpec
from gridctl.resources.policy import ALGORITHMS
from gridctl.routing.route import route

REQUESTS = 40
CASES = tuple(enumerate((*ALGORITHMS, *["grid"] * 12)))


def chosen_from(rows: np.recarray, sighting: Sighting) -> int | None:
    choice = int(route(rows, len(rows), sighting.request, sighting.policy))
    return int(rows.engine[choice]) if choice >= 0 else None


@pytest.mark.parametrize(("case", "algorithm"), CASES)
def test_captured_rows_given_to_the_router_again_choose_the_stored_engine(case: int, algorithm: str) -> None:
    pick = random.Random(case).randint
    resources = make_grid(pick)
    requests, policy, image = (
        make_trace(pick, resources, REQUESTS),
        make_policy(pick, algorithm),
        build_image(resources),
    )
    stored = replay(image, requests, policy, seed=case).rows
    for number in random.Random(case).sample(range(REQUESTS), 12):
        seen = witness(image, requests, policy, number, stored, seed=case)
        engine = int(stored.engine[number]) if stored.engine[number] >= 0 else None
        assert seen.engine == engine
        # What the router was given, and everybody priced, decide alike: passing candidates over changed nothing.
        assert chosen_from(seen.seen_rows.copy(), seen) == engine
        everybody = seen.rows[seen.has_row].copy().view(np.recarray)
        assert chosen_from(everybody, seen) == engine
        if algorithm == "grid":
            priced = {int(row.engine): row for row in everybody}
            weighed = ("ttft_us", "tpot_us", "cached_tokens", "usd", "worst_ratio", "miss_probability", "in_flight")
            for row in seen.seen_rows:
                assert [row[field] for field in weighed] == [priced[int(row.engine)][field] for field in weighed]


@pytest.mark.parametrize(("case", "algorithm"), CASES[6:12])
def test_looking_further_away_and_in_smaller_pieces_changes_nothing(
    case: int, algorithm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pick = random.Random(case).randint
    resources = make_grid(pick)
    requests, policy, image = (
        make_trace(pick, resources, REQUESTS),
        make_policy(pick, algorithm),
        build_image(resources),
    )
    stored = replay(image, requests, policy, seed=case).rows
    plain = recollect(witness(image, requests, policy, 30, stored, seed=case), "p")
    monkeypatch.setattr(room, "CHUNK_REQUESTS", 7)
    told: list[int] = []
    everywhere = range(len(image.engines) - 1)
    seen = witness(image, requests, policy, 30, stored, seed=case, beside=everywhere, advanced=told.append)
    wide = recollect(seen, "p")
    assert told == [7, 7, 7, 7, 2]
    assert wide.candidates[: len(plain.candidates)] == plain.candidates
    assert {one.engine for one in wide.candidates} >= set(everywhere)
    assert (wide.chosen, wide.runner_up, wide.passed_over) == (plain.chosen, plain.runner_up, plain.passed_over)


def test_a_run_that_another_gridctl_made_is_refused_at_its_first_other_decision() -> None:
    parts = [gpu(), model(), site("paris"), cluster("a", "paris"), cluster("b", "paris"), workload()]
    image, requests = build_image(parts), trace([{"at_ms": 5 * number} for number in range(20)])
    stored = replay(image, requests, PolicySpec()).rows
    for field, value in (("engine", 1 - stored.engine[7]), ("rtt_ns", stored.rtt_ns[7] + 1), ("outcome", 1)):
        column = getattr(stored, field).copy()
        column[7] = value
        altered: RunRows = dataclasses.replace(stored, **{field: column})
        with pytest.raises(StoreError, match=f"{field} of request 7 differs"):
            witness(image, requests, PolicySpec(), 12, altered, seed=1)
        witness(image, requests, PolicySpec(), 6, altered, seed=1)
    column = stored.engine.copy()
    column[7] = 1 - column[7]
    with pytest.raises(StoreError, match=r"decision .* of request 7 differs"):
        witness(image, requests, PolicySpec(), 7, dataclasses.replace(stored, engine=column), seed=1)


def test_every_fate_is_told_by_its_word() -> None:
    """One request from Paris: each other engine is out for a reason of its own."""
    parts = [
        gpu(),
        model(),
        model("n"),
        site("paris"),
        site("lyon", lat=45.76, lon=4.84),
        site("berlin", "DE", lat=52.5, lon=13.4),
        site("nice", lat=43.7, lon=7.3, state="cordoned"),
        cluster("near", "paris"),
        cluster("next", "lyon"),
        cluster("abroad", "berlin"),
        cluster("shut", "nice"),
        workload(rule="same-country", objectives=(Objective(metric="ttft_ms", threshold_ms=5000.0),)),
    ]
    image, requests = build_image(parts), trace([{}])
    stored = replay(image, requests, PolicySpec()).rows
    seen = witness(image, requests, PolicySpec(), 0, stored, seed=1, beside=range(len(image.engines)))
    decision = recollect(seen, "p")
    fates = {one.site: (one.status, one.reason) for one in decision.candidates}
    assert fates["paris"] == ("chosen", "chosen")
    assert fates["lyon"][0] == "runner-up"
    assert fates["berlin"] == ("refused", "jurisdiction")
    assert fates["nice"] == ("refused", "outage")
    assert decision.passed_over == {"jurisdiction": 1, "outage": 1}
    told = {one.site: one.because for one in decision.candidates}
    assert told["nice"] == "site cordoned"
    assert "paris is in FR, berlin in DE" in told["berlin"]


def test_dollars_latency_and_chances_add_up() -> None:
    """usd = cash + gpu + miss; ttft = rtt + overhead + queue + prefill; P(miss) by the formula of the price module."""
    for case in range(8):
        pick = random.Random(case).randint
        resources = make_grid(pick)
        policy = PolicySpec(gpu_weight=float(case % 2), prediction_shape=2)
        requests, image = make_trace(pick, resources, REQUESTS), build_image(resources)
        stored = replay(image, requests, policy).rows
        decision = recollect(witness(image, requests, policy, 33, stored, seed=1), "p")
        for one in decision.candidates:
            if one.forecast is None:
                continue
            forecast = one.forecast
            assert forecast.cash_usd + forecast.gpu_usd + forecast.miss_usd == pytest.approx(forecast.usd, rel=1e-12)
            parts = one.rtt_ms + decision.overhead_ms + forecast.queue_ms + forecast.prefill_ms
            assert parts == pytest.approx(forecast.ttft_ms, rel=1e-9)
            met = 1.0
            for objective in forecast.objectives:
                square = min(objective.predicted_ms / objective.limit_ms, 100.0) ** 2
                assert objective.miss_probability == pytest.approx(square / (1 + square), rel=1e-9)
                met *= 1 - square / (1 + square)
            assert forecast.miss_probability == pytest.approx(1 - met, rel=1e-6, abs=1e-12)
            if one.bound is not None:
                assert one.bound.usd <= forecast.usd
                assert one.bound.worst_ratio <= forecast.worst_ratio


def test_the_router_saw_the_last_scrape_and_its_own_count() -> None:
    """Scrapes every 100 ms from 0 on, seen 20 ms late: at 110 ms the one of 0 ms, which is 110 ms old."""
    parts = [gpu(), model(), site("paris"), cluster("a", "paris"), workload()]
    image, requests = build_image(parts), trace([{"output": 400}, {"output": 400}, {"at_ms": 110}, {"at_ms": 125}])
    for counts in ("local", "none"):
        policy = make_telemetry(counts)
        stored = replay(image, requests, policy).rows
        seen = [
            recollect(witness(image, requests, policy, at, stored, seed=1), "p").candidates[0].telemetry
            for at in (2, 3)
        ]
        assert [one.scrape_age_ms for one in seen] == [110.0, 25.0]
        assert [one.state for one in seen] == ["fresh", "fresh"]
        assert [one.true_in_flight for one in seen] == [2, 3]
        # At 0 ms nobody had arrived; at 100 ms both were in the batch.
        assert [one.seen_in_flight for one in seen] == ([2, 3] if counts == "local" else [0, 2])
        assert seen[0].seen_kv_tokens == 0
        assert 0 < seen[1].seen_kv_tokens <= seen[1].true_kv_tokens
    first = recollect(witness(image, requests, policy, 0, stored, seed=1), "p").candidates[0].telemetry
    assert (first.state, first.scrape_age_ms) == ("missing", None)


def make_telemetry(counts: str) -> PolicySpec:
    from gridctl.resources.policy import Telemetry

    return PolicySpec(telemetry=Telemetry(period_ms=100.0, delay_ms=20.0, in_flight=counts))
