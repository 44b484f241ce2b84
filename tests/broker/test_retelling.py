"""A kept decision told in words says what its rows say: who was chosen, who was next, and what was seen of each."""

from __future__ import annotations

import numpy as np
import pytest

from gridctl.broker.retelling import Circumstances, retell
from gridctl.broker.rows import FACTS
from gridctl.broker.seen import Seen
from gridctl.errors import InputError
from gridctl.resources import Objective, PolicySpec, WorkloadSpec
from gridctl.routing.route import REFUSED, route
from gridctl.routing.rows import CANDIDATE, policy_records, request_records
from gridctl.signals.rows import FRESH, NEVER, STALE
from gridctl.traces.recorded import RecordedEngine

ABOUT = Circumstances("default", "Paris", "chat", "acme", 12.5)
ENGINES = [
    RecordedEngine(site=name, cluster=name, variant="fp8", replica=0, model="m", tier=tier, kv_capacity_tokens=1000)
    for name, tier in (("paris", "edge"), ("lyon", "edge"), ("core", "core"))
]


def seen(ttft_ms: list[float], cash: list[float], when_infeasible: str = "serve-late") -> Seen:
    """Three engines 10, 20 and 30 ms away, for a first token within 200 ms; reports 1 s and 9 s old, and none."""
    rows = np.zeros(3, CANDIDATE).view(np.recarray)
    rows.engine, rows.is_available, rows.in_flight = range(3), 1, [3, 4, 5]
    rows.rtt_us, rows.ttft_us = [10_000, 20_000, 30_000], np.array(ttft_ms) * 1000
    rows.usd_cash, rows.prompt_tokens, rows.cached_tokens, rows.tpot_us = cash, 64, 16, 10_000
    spec = WorkloadSpec(
        objectives=(Objective(metric="ttft_ms", threshold_ms=200),), models=("m",), when_infeasible=when_infeasible
    )
    request, policy = request_records([spec])[0], policy_records([PolicySpec(reject_ratio=1.5)])[0]
    request.output_tokens = 20
    facts = np.zeros((3, FACTS))
    facts[:, 2], facts[:, 3] = [100, 200, 300], [500, 250, 0]
    facts[:, 4], facts[:, 5] = [1e6, 9e6, -1], [FRESH, STALE, NEVER]
    return Seen(rows, facts, request, policy, int(route(rows, 3, request, policy)))


def test_the_cheapest_is_chosen_and_the_next_cheapest_is_next() -> None:
    told = retell(seen([50, 50, 50], [0.02, 0.01, 0.03]), ENGINES, ABOUT)
    assert [(one.site, one.status, one.reason) for one in told.candidates] == [
        ("paris", "runner-up", "dearer"),
        ("lyon", "chosen", "chosen"),
        ("core", "weighed", "dearer"),
    ]
    assert (told.chosen, told.runner_up, told.outcome) == (1, 0, "routed")
    assert told.candidates[2].usd_more == pytest.approx(0.02, abs=1e-4)  # and a slightly likelier miss
    assert (told.workload, told.tenant, told.prompt_tokens, told.expected_output_tokens) == ("chat", "acme", 64, 20)


def test_what_was_seen_of_an_engine_is_told_with_its_age() -> None:
    told = retell(seen([50, 50, 50], [0.02, 0.01, 0.03]), ENGINES, ABOUT)
    telemetry = [one.telemetry for one in told.candidates]
    assert [(one.state, one.scrape_age_ms) for one in telemetry if one] == [
        ("fresh", 1000.0),
        ("stale", 9000.0),
        ("missing", None),
    ]
    assert [(one.seen_in_flight, one.seen_pending_tokens, one.seen_kv_tokens) for one in telemetry if one] == [
        (3, 100, 500),
        (4, 200, 250),
        (5, 300, 0),
    ]
    assert all(one.true_in_flight is None for one in telemetry if one)


def test_the_parts_of_a_wait_that_are_not_known_apart_are_none() -> None:
    forecast = retell(seen([50, 60, 70], [0.0, 0.0, 0.0]), ENGINES, ABOUT).candidates[1].forecast
    assert forecast is not None
    assert (forecast.queue_ms, forecast.prefill_ms) == (None, None)
    assert forecast.ttft_ms == 80.0
    assert forecast.e2e_ms == 80.0 + 19 * 10.0


def test_a_refusal_is_told_as_one() -> None:
    told = retell(seen([900, 800, 700], [0.0, 0.0, 0.0], "reject"), ENGINES, ABOUT)
    assert (told.chosen, told.runner_up, told.outcome, told.reason) == (None, None, "rejected", "infeasible")
    assert {one.reason for one in told.candidates} == {"misses"}
    assert route(*_refused()) == REFUSED


def _refused() -> tuple[np.recarray, int, np.record, np.record]:
    kept = seen([900, 800, 700], [0.0, 0.0, 0.0], "reject")
    return kept.rows, 3, kept.request, kept.policy


def test_rows_that_number_engines_nobody_named_are_refused() -> None:
    with pytest.raises(InputError, match="engine 2 of 2"):
        retell(seen([50, 50, 50], [0.0, 0.0, 0.0]), ENGINES[:2], ABOUT)
