"""Health on a screen: what a person reads, and that nothing from outside moves their cursor."""

from __future__ import annotations

from typing import Any

import pytest

from gridctl.health.reports import Affected, Counts, HealthReport, Problem, SiteReport, TopFrame, TopRow
from gridctl.render.health import health_text, problem_items, site_text, sorted_rows, top_text

S = 1_000_000_000
NOW = 1_800_000_000 * S

PROBLEM = Problem(
    severity="ticket",
    kind="ejected",
    about="cluster/paris-gpu",
    what="paris-gpu at paris gets no traffic",
    cause="3 probes in a row failed: nothing listens there",
    since_unix_ns=NOW - 250 * S,
    affects=Affected(workloads=("a", "b", "c", "d"), sites=("paris",), engines=1, traffic_share=0.345),
    do="gridctl site inspect paris",
    next="tried again in 20 s",
)


def report(**changed: Any) -> HealthReport:
    fields = {
        "grid": "demo",
        "at_unix_ns": NOW,
        "is_live": True,
        "verdict": "attention",
        "headline": "one thing",
        "problems": (PROBLEM,),
        "counts": Counts(engines={"healthy": 2, "ejected": 1}, sites={}),
    }
    return HealthReport(**{**fields, **changed})


def row(name: str, requests: float, **more: Any) -> TopRow:
    known = dict.fromkeys(TopRow.__struct_fields__)
    return TopRow(**{**known, "name": name, "requests_per_s": requests, "failed_per_s": 0.0, **more})


def frame(*rows: TopRow, by: Any = "workload") -> TopFrame:
    total = row("*", 12.34, in_flight=31, ttft_p99_ms=450.0)
    return TopFrame(at_unix_ns=NOW, window_s=10.0, by=by, engines=8, engines_available=7, rows=rows, total=total)


def test_a_problem_reads_what_since_when_why_affects_do_next() -> None:
    assert health_text(report(), "table") == (
        "grid demo: ATTENTION  one thing\n"
        "2027-01-15T08:00:00Z   engines: 2 healthy, 1 ejected\n"
        "\n"
        "TICKET  paris-gpu at paris gets no traffic  (for 4.2 min)\n"
        "  why      3 probes in a row failed: nothing listens there\n"
        "  affects  workloads a, b, c and 1 more; sites paris; 1 engine; 34.5% of the last hour's traffic\n"
        "  do       gridctl site inspect paris\n"
        "  next     tried again in 20 s\n"
    )


def test_words_from_outside_cannot_write_to_the_terminal() -> None:
    evil = "it serves \x1b[2J\r\nall is well"
    problem = Problem(severity="page", kind="x", about="x/y", what=evil, cause=evil, do=evil, next=evil)
    text = health_text(report(grid=evil, headline=evil, problems=(problem,)), "table")
    assert "\x1b" not in text
    assert "\r" not in text
    assert not any(line.startswith("all is well") for line in text.splitlines())


def test_colour_is_only_added() -> None:
    painted = health_text(report(), "table", lambda text, style: f"<{style}>{text}</>")
    assert "<yellow>ATTENTION</>" in painted
    assert "<red>TICKET</>" in painted
    assert "<" not in health_text(report(), "table")


def test_markdown_is_a_table_and_rows_carry_the_moment() -> None:
    assert "| severity" in health_text(report(), "markdown")
    (item,) = problem_items(report())
    assert (item["name"], item["since"]) == ("cluster/paris-gpu", "2027-01-15T07:55:50Z")


def test_a_screen_of_80_by_24_holds_the_head_and_as_many_rows_as_fit() -> None:
    rows = [
        row(f"a-workload-with-a-rather-long-name-{number}", 1e5, ttft_p50_ms=99.9, ttft_p99_ms=1e5, good_share=0.9999)
        for number in range(60)
    ]
    lines = top_text(frame(*rows), "table", width=80, height=24).splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    assert lines[0] == "08:00:00Z 10 s  7 of 8 engines  12.3 req/s  31 in flight  p99 450 ms"
    assert lines[1] == "21 of 60 rows"
    assert lines[2].split() == [
        "WORKLOAD",
        "REQ/S",
        "TTFT",
        "P50",
        "P99",
        "MS",
        "GOOD",
        "TARGET",
        "FAILED/S",
        "TOKENS/S",
        "$/H",
    ]


@pytest.mark.parametrize(
    ("sort", "names"),
    [
        ("requests", ["b", "a", "c"]),
        ("name", ["a", "b", "c"]),
        ("ttft", ["a", "b", "c"]),
        ("good", ["b", "a", "c"]),
        ("failed", ["c", "a", "b"]),
        ("usd", ["a", "b", "c"]),
    ],
)
def test_rows_come_worst_first_and_what_is_not_known_last(sort: Any, names: list[str]) -> None:
    rows = (
        row("a", 5.0, ttft_p99_ms=900.0, good_share=0.99, usd_per_hour=3.0),
        row("b", 9.0, ttft_p99_ms=100.0, good_share=0.5, gpu_usd_per_hour=2.0),
        row("c", 1.0, failed_per_s=1.0),
    )
    assert [one.name for one in sorted_rows(frame(*rows), sort)] == names


def test_a_site_without_an_orchestrator_reads_what_is_declared() -> None:
    known = dict.fromkeys(SiteReport.__struct_fields__)
    empty = dict.fromkeys(("clusters", "engines", "routed", "events", "problems"), ())
    found = SiteReport(
        **{
            **known,
            **empty,
            "name": "paris",
            "at_unix_ns": NOW,
            "is_live": False,
            "tier": "edge",
            "city": "Paris",
            "country": "FR",
            "state": "unknown",
            "cause": "nobody observes it",
            "next": "",
        }
    )
    assert site_text(found, "table") == "site paris  edge  Paris, FR  UNKNOWN\n  why      nobody observes it\n"


def test_sites_show_the_time_per_token_beside_that_to_the_first_on_a_screen_of_80() -> None:
    busy = row(
        "fr-paris-01", 1234.5, in_flight=99, ttft_p50_ms=99.9, ttft_p99_ms=999.0, tpot_p50_ms=21.5,
        tpot_p99_ms=40.0, good_share=0.9999, gpu_usd_per_hour=99.9, state="probation",
    )  # fmt: skip
    lines = top_text(frame(busy, by="site"), "table", width=80, height=24).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[2].split()[:7] == ["NAME", "STATE", "REQ/S", "IN", "FLIGHT", "TTFT", "P99"]
    assert lines[3].split()[3:7] == ["99", "99.9", "999", "21.5"]
