"""The first screen: what is told of a grid in trouble, in which order, and what is not told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from gridctl.health.outcome import Outcome
from gridctl.health.panic import Panic
from gridctl.health.status import declared_report, health_report, site_state
from gridctl.health.words import State
from gridctl.resources import Workload

S = 1_000_000_000
NOW_UNIX_NS = 1_800_000_000 * S


def test_a_grid_that_is_well_says_so_in_one_sentence(grid: Any) -> None:
    grid.well(0, 1, 2)
    report = health_report(grid.facts())
    assert (report.verdict, report.headline, report.problems) == ("ok", "all is well; 3 of 3 engines available", ())
    assert (report.counts.engines, report.counts.sites) == ({"healthy": 3}, {"healthy": 2})


def test_a_dead_engine_is_told_with_cause_time_effect_command_and_what_comes_next(grid: Any) -> None:
    grid.well(1, 2)
    grid.out(0, at_s=9_400)
    grid.outcomes[0] = [
        Outcome(key="0", cause="refused", detail="nothing listens there", at_ns=9_400 * S, latency_ms=1)
    ]
    grid.served({("chat", "paris"): (700, 50, 0), ("chat", "oslo"): (250, 0, 0)})
    report = health_report(grid.facts())
    assert report.verdict == "attention"
    problem = next(one for one in report.problems if one.kind == "ejected")
    assert problem.what == "1 of 2 engines of paris-gpu at paris: each gets no traffic"
    assert problem.cause == "3 probes in a row failed: nothing listens there"
    assert problem.since_unix_ns == NOW_UNIX_NS - 600 * S
    assert (problem.affects.workloads, problem.affects.sites, problem.affects.engines) == (("chat",), ("paris",), 1)
    assert problem.affects.traffic_share == pytest.approx(0.75)
    assert problem.do == "start the engine at http://10.0.0.0:8000, or: gridctl cluster cordon paris-gpu"


def test_an_engine_nobody_has_heard_of_is_no_trouble_at_first_and_is_after_a_minute(grid: Any) -> None:
    grid.well(0, 1)
    (problem,) = health_report(grid.facts()).problems
    assert (problem.kind, problem.severity) == ("unknown", "warning")
    grid.more["now_ns"] = 8_059 * S
    assert [one.kind for one in health_report(grid.facts()).problems] == []


def test_nothing_heard_of_anybody_is_unknown_and_not_ok(grid: Any) -> None:
    grid.more["now_ns"] = 8_001 * S
    assert health_report(grid.facts()).verdict == "unknown"
    grid.engines = []
    assert health_report(grid.facts()).verdict == "unknown"


def test_a_workload_that_nobody_can_serve_is_a_page_and_comes_first(grid: Any) -> None:
    grid.out(0, 1, 2)
    grid.more["panics"] = {"tiny": Panic("last-resort", 0, 3)}
    report = health_report(grid.facts())
    assert report.verdict == "failing"
    assert [one.kind for one in report.problems][:2] == ["outage", "panic"]
    assert report.problems[0].what == "no engine can serve workload chat"
    assert report.headline.startswith("no engine can serve workload chat, and 3 more")


def test_a_burning_budget_is_told_with_the_sites_that_burn_it(grid: Any) -> None:
    grid.well(0, 1, 2)
    # 20 % bad at a promise of 99 %: burn 20, and all the budget of what was counted is spent.
    grid.served({("chat", "paris"): (800, 250, 0), ("chat", "oslo"): (200, 0, 0)})
    report = health_report(grid.facts())
    problem = next(one for one in report.problems if one.kind == "burn")
    assert (problem.severity, problem.about) == ("page", "workload/chat")
    assert problem.cause == "250 of 1250 requests were bad in 1 h"
    assert problem.affects.sites == ("paris",)
    assert problem.next == "its budget is spent"
    (found,) = report.budgets
    assert found.burn == pytest.approx(20)
    assert report.verdict == "failing"


def test_a_low_promise_has_capped_alarms_and_breaks_nothing(grid: Any, made: Callable[..., Any]) -> None:
    spec = {"models": ["tiny"], "attainment": 0.5, "objectives": [{"metric": "ttft_ms", "threshold_ms": 500}]}
    grid.resources[-2] = made(Workload, "chat", spec)
    grid.well(0, 1, 2)
    (found,) = health_report(grid.facts()).budgets
    assert [alarm.threshold for alarm in found.alarms] == pytest.approx([1.4, 1.4, 1.0])


def test_what_an_operator_took_out_is_told_and_is_no_fault(grid: Any) -> None:
    grid.well(0, 1, 2)
    oslo = grid.resources[1]
    grid.resources[1] = msgspec.structs.replace(oslo, spec=msgspec.structs.replace(oslo.spec, state="cordoned"))
    grid.conditions[2].operate("cordoned", 9_500 * S)
    report = health_report(grid.facts())
    (problem,) = report.problems
    assert (problem.severity, problem.what, problem.do) == (
        "info",
        "site oslo is cordoned",
        "gridctl site uncordon oslo",
    )
    assert report.verdict == "ok"
    assert report.counts.sites == {"healthy": 1, "cordoned": 1}


def test_troubles_of_the_orchestrator_itself_are_told(grid: Any) -> None:
    grid.well(0, 1, 2)
    grid.more["notices"] = (("worker 0 does not run", "gridctl status"),)
    report = health_report(grid.facts())
    assert [(one.kind, one.do) for one in report.problems] == [("orchestrator", "gridctl status")]
    assert report.verdict == "attention"


def test_without_an_orchestrator_nothing_is_called_well(grid: Any) -> None:
    report = declared_report("test", NOW_UNIX_NS, grid.resources)
    assert (report.is_live, report.verdict, report.problems) == (False, "unknown", ())
    paris = grid.resources[2]
    grid.resources[2] = msgspec.structs.replace(paris, spec=msgspec.structs.replace(paris.spec, state="down"))
    oslo = grid.resources[1]
    grid.resources[1] = msgspec.structs.replace(oslo, spec=msgspec.structs.replace(oslo.spec, state="draining"))
    report = declared_report("test", NOW_UNIX_NS, grid.resources)
    assert [(one.severity, one.about) for one in report.problems] == [
        ("page", "workload/chat"),
        ("info", "site/oslo"),
        ("info", "cluster/paris-gpu"),
    ]


@pytest.mark.parametrize(
    ("engines", "state"),
    [
        ([], "unknown"),
        (["healthy", "healthy"], "healthy"),
        (["healthy", "unknown"], "healthy"),
        (["healthy", "ejected"], "degraded"),
        (["degraded", "degraded"], "degraded"),
        (["ejected", "ejected"], "ejected"),
        (["ejected", "probation"], "probation"),
        (["cordoned", "cordoned"], "cordoned"),
        (["cordoned", "healthy"], "degraded"),
    ],
)
def test_a_site_is_what_its_engines_add_up_to(engines: list[State], state: State) -> None:
    assert site_state("active", engines) == state
    assert site_state("draining", engines) == "draining"
