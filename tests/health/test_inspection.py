"""One site on one screen, and the load of the last seconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gridctl.errors import NotFoundError
from gridctl.health.facts import Readings
from gridctl.health.inspection import Direction, declared_site_report, happened, site_report
from gridctl.health.outcome import Outcome
from gridctl.health.reports import SiteReport
from gridctl.health.top import top_frame
from gridctl.registry import Change, Event
from gridctl.signals.board import Scraped
from gridctl.signals.directory import BackendRow, Directory, Objective, WorkloadRow
from gridctl.signals.finished import Finished
from gridctl.signals.meter import Meter
from gridctl.signals.rows import FRESH
from gridctl.signals.totals import read_totals

S = 1_000_000_000
MINUTE = 60 * S
NOW_NS = 10_000 * S
NOW_UNIX_NS = 1_800_000_000 * S


def event(version: int, age_ns: int, kind: str, name: str) -> Event:
    changes = (Change("spec.state", "active", "cordoned"),)
    return Event(version, NOW_UNIX_NS - age_ns, "ada", "updated", kind, name, "why not", changes)


def test_a_site_tells_its_state_its_engines_their_reports_and_probes(grid: Any) -> None:
    grid.well(1, 2)
    grid.out(0, at_s=9_400)
    grid.outcomes[0] = [
        Outcome(key="0", cause="refused", detail="no", at_ns=NOW_NS - at * S, latency_ms=1) for at in (9, 4)
    ]
    report = Scraped(NOW_NS - 2 * S, S, 3, 1, 250, 1000, 400_000, FRESH)
    grid.board.report(1, report)
    grid.board.slots[0, 1]["in_flight"] = 4
    found = site_report(grid.facts(), "paris")
    assert (found.state, found.city, found.is_live) == ("degraded", "Paris", True)
    assert found.cause == "paris-gpu: 3 probes in a row failed: nothing listens there"
    dead, well = found.engines
    assert (dead.state, dead.running, dead.kv_share, dead.telemetry_age_s) == ("ejected", None, None, None)
    assert [probe.at_unix_ns for probe in dead.probes] == [NOW_UNIX_NS - 9 * S, NOW_UNIX_NS - 4 * S]
    assert (well.state, well.running, well.waiting, well.in_flight) == ("healthy", 3, 1, 4)
    assert (well.kv_share, well.prefix_hit_share, well.telemetry_state) == (0.25, 0.4, "fresh")
    assert well.telemetry_age_s == pytest.approx(2.0)


def test_what_is_routed_there_is_told_as_a_share_with_promises_and_where_the_next_would_go(grid: Any) -> None:
    grid.well(0, 1, 2)
    grid.served({("chat", "paris"): (590, 6, 4), ("chat", "oslo"): (200, 0, 0)})
    found = site_report(grid.facts(), "paris", (), {"chat": Direction("oslo", "cheaper")})
    assert (found.requests, found.traffic_share) == (600, 0.75)
    (routed,) = found.routed
    assert (routed.workload, routed.requests, routed.share, routed.target) == ("chat", 600, 0.75, 0.99)
    assert routed.attainments[1].attained == pytest.approx(590 / 596)
    assert (routed.goes_to, routed.why) == ("oslo", "cheaper")


def test_changes_near_a_trouble_and_the_site_s_own_last_ones_are_told(grid: Any) -> None:
    events = [
        event(1, 400 * MINUTE, "Site", "paris"),
        event(2, 300 * MINUTE, "Site", "oslo"),
        event(3, 100 * MINUTE, "Policy", "default"),
        event(4, 31 * MINUTE, "Model", "tiny"),
        event(5, 29 * MINUTE, "Cluster", "paris-gpu"),
    ]
    told = happened(events, "paris", grid.resources, [NOW_UNIX_NS, NOW_UNIX_NS - 120 * MINUTE])
    assert [(one.about, one.is_here) for one in told] == [
        ("site/paris", True),
        ("policy/default", False),
        ("cluster/paris-gpu", True),
    ]
    assert told[0].fields == ("spec.state",)


@pytest.mark.parametrize("is_live", [True, False])
def test_an_unknown_site_is_not_found_with_the_nearest_name(grid: Any, is_live: bool) -> None:
    def report() -> SiteReport:
        if is_live:
            return site_report(grid.facts(), "pariss")
        return declared_site_report(grid.resources, "pariss", NOW_UNIX_NS)

    with pytest.raises(NotFoundError) as caught:
        report()
    assert caught.value.fix == "did you mean paris?"


def test_without_an_orchestrator_a_site_is_what_is_declared(grid: Any) -> None:
    found = declared_site_report(grid.resources, "paris", NOW_UNIX_NS, [event(1, MINUTE, "Site", "paris")])
    assert (found.is_live, found.state, found.requests, found.engines) == (False, "unknown", None, ())
    (cluster,) = found.clusters
    assert (cluster.name, cluster.gpus, cluster.engines) == ("paris-gpu", 2, 2)
    assert len(found.events) == 1


@pytest.fixture
def metered(grid: Any) -> Callable[..., None]:
    """Count finished requests: how many at a row, with that TTFT in ms, and whether they failed."""
    objectives = (Objective("ttft_ms", 500_000_000),)
    labels = tuple(BackendRow(one.site, one.cluster, one.model, one.variant, "edge") for one in grid.engines)
    rows = (WorkloadRow("other"), WorkloadRow("chat", objectives))
    grid.board.write_directory(Directory(rows, ("other", "tiny"), labels))
    meter = Meter(grid.board, 0)

    def count(requests: int, row: int, ttft_ms: float, outcome: str = "completed") -> None:
        for _ in range(requests):
            meter.finished(
                Finished(
                    workload="chat",
                    model="tiny",
                    backend=row,
                    outcome=outcome,
                    status=200,
                    arrival_ns=0,
                    first_token_ns=round(ttft_ms * 1e6),
                    last_token_ns=round(ttft_ms * 1e6) + 9_000_000,
                    end_ns=round(ttft_ms * 1e6) + 9_000_000,
                    output_tokens=10,
                    usd=0.001,
                    stream=True,
                    objective_misses=("ttft_ms",) if ttft_ms > 500 else (),
                )
            )

    return count


def test_rates_percentiles_promises_and_dollars_are_of_the_window(grid: Any, metered: Callable[..., None]) -> None:
    grid.well(0, 1, 2)
    metered(1000, 0, 900.0)  # before the window
    before = read_totals(grid.board)
    metered(97, 0, 100.0)
    metered(2, 1, 800.0)
    metered(1, 2, 100.0, "failed")
    grid.board.slots[0]["in_flight"] = np.array([3, 1, 2, 0])
    frame = top_frame(grid.facts(), "workload", (NOW_NS - 10 * S, before), read_totals(grid.board))
    (row,) = frame.rows
    assert (row.name, row.requests_per_s, row.failed_per_s) == ("chat", 10.0, 0.1)
    assert row.ttft_p50_ms == pytest.approx(100, rel=0.01)
    assert row.ttft_p99_ms == pytest.approx(800, rel=0.01)
    assert row.good_share == pytest.approx(0.97)
    assert row.target == 0.99
    assert row.output_tokens_per_s == pytest.approx(100)
    assert row.usd_per_hour == pytest.approx(0.1 / 10 * 3600)
    assert (frame.total.name, frame.total.in_flight) == ("*", 6)


def test_by_site_it_tells_load_promises_state_and_what_the_gpus_cost(grid: Any, metered: Callable[..., None]) -> None:
    grid.well(0, 2)
    grid.out(1)
    before = read_totals(grid.board)
    metered(30, 0, 100.0)
    metered(10, 1, 100.0, "failed")
    metered(20, 2, 100.0)
    facts = grid.facts()
    frame = top_frame(facts, "site", (NOW_NS - 10 * S, before), read_totals(grid.board))
    paris, oslo = frame.rows
    assert (paris.name, paris.requests_per_s, paris.failed_per_s, paris.state) == ("paris", 4.0, 1.0, "degraded")
    assert (paris.good_share, paris.usd_per_hour) == (0.75, None)
    assert paris.ttft_p50_ms == pytest.approx(100, rel=0.05)
    assert (paris.gpu_usd_per_hour, oslo.gpu_usd_per_hour) == (1.6, 1.5)  # the cluster's own price, the book's
    clusters = top_frame(facts, "cluster", (NOW_NS - 10 * S, before), read_totals(grid.board))
    assert [row.ttft_p99_ms for row in clusters.rows] == [pytest.approx(100, rel=0.05)] * 2
    assert [(row.name, row.state) for row in clusters.rows] == [("paris-gpu", "ejected"), ("oslo-gpu", "healthy")]
    assert (frame.engines, frame.engines_available) == (3, 2)


def test_the_reading_nearest_to_the_window_is_taken_and_none_younger_than_a_second(grid: Any) -> None:
    readings, totals = Readings(), read_totals(grid.board)
    assert readings.before(NOW_NS, 10) is None
    for second in (5, 10, 15, 20):
        readings.take(second * S, totals)
    assert readings.before(20 * S + 5, 10) == (10 * S, totals)
    assert readings.before(20 * S + 5, 1) == (15 * S, totals)
    assert readings.before(5 * S, 10) is None
