"""The page: one file that loads nothing, runs nothing from outside, and that anybody can read."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
from outline import Node, outline

from gridctl.accounts.gate_report import GateReport, NamedGate, overall
from gridctl.accounts.gating import Subject, hold_gates
from gridctl.accounts.intervals import Ensemble
from gridctl.accounts.measures import Measures
from gridctl.accounts.summary import summarize
from gridctl.geography.place import Place
from gridctl.report.content import Report, report_of
from gridctl.report.page import page
from gridctl.report.time_charts import Fault
from gridctl.resources.gate_expression import parse_gate

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&\u202e]]>--><!--"


@pytest.fixture(scope="module")
def html(report: Report) -> str:
    return page(report)


@pytest.fixture(scope="module")
def tree(html: str) -> Node:
    return outline(html)


def test_the_page_has_every_section_in_order(tree: Node) -> None:
    titles = [node.text() for node in tree.all("h2")]
    assert titles == [
        "Summary",
        "Map",
        "Time to first token",
        "Load and cost over time",
        "Where the money went",
        "Where requests were served",
        "Tokenomics",
        "SLA",
        "How to make it again",
    ]


def test_the_summary_says_what_was_replayed_what_it_cost_and_what_missed(tree: Node) -> None:
    text = tree.text()
    assert "400 requests of 2 workloads from 3 places over 1 min 40 s, seed 1." in text
    # Two GPUs at 3.60 $/h for 100 s are 0.20 $; 399 answers of 10 tokens, 359 of them good.
    assert "It cost $0.2," in text
    assert f"${0.20 / 3590 * 1e6:.2f} per million output tokens of good requests" in text
    assert "by that measure this run was" in text
    assert "The same GPUs, all in the core, cost $0.4," in text
    assert "Bad requests: voice 21 of 200, mostly queue; chat 20 of 200, mostly queue." in text


def test_nothing_is_loaded_and_the_policy_allows_only_what_is_there(html: str, tree: Node) -> None:
    assert not re.search(r"https?://(?!www\.w3\.org)", html)
    assert not [n for n in tree.all() if {"src", "srcset", "action", "background", "style"} & set(n.attributes)]
    assert all(str(n.attributes["href"]).startswith("#") for n in tree.all() if "href" in n.attributes)
    assert not [n for n in tree.all() for key in n.attributes if key.startswith("on")]
    (policy,) = [
        n.attributes["content"] for n in tree.all("meta") if n.attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert (rules["default-src"], rules["base-uri"], rules["form-action"]) == ("'none'",) * 3
    assert "unsafe" not in policy
    for name, rule in (("style", "style-src"), ("script", "script-src")):
        (node,) = [n for n in tree.all(name) if n.attributes.get("type") != "application/json"]
        digest = base64.b64encode(hashlib.sha256(node.text().encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"


def test_hostile_names_are_text_everywhere(make_run: Callable) -> None:
    run = make_run(HOSTILE, trace=HOSTILE, workload=HOSTILE, origin=HOSTILE)
    faults = (Fault(HOSTILE, HOSTILE, 10.0, 20.0),)
    where = {HOSTILE: Place(HOSTILE, 48.0, 2.0, "FR"), "fr-paris-01": Place("p", 48.8, 2.3, "FR")}
    html = page(report_of(run, made_ns=0, places=where, faults=faults, commands=(HOSTILE,)))
    tree = outline(html)
    assert tree.all("img") == []
    assert len(tree.all("script")) == 2
    assert "<!--" not in html
    assert "\u202e" not in html
    told = json.loads(next(n for n in tree.all("script") if n.attributes.get("id") == "map-data").text())
    assert any("onerror=alert(2)" in row[0] for row in told)
    assert sum(n.text().count("onerror=alert(2)") for n in tree.all("h1")) == 1


def test_every_picture_has_a_name_and_says_in_words_what_it_shows(tree: Node) -> None:
    pictures = [n for n in tree.all("svg") if n.attributes.get("aria-hidden") != "true"]
    assert len(pictures) >= 7
    for node in pictures:
        assert node.attributes["role"] == "img"
        named = [
            n
            for n in tree.all("title", "desc")
            if n.attributes.get("id") in str(node.attributes["aria-labelledby"]).split()
        ]
        assert [n.name for n in named] == ["title", "desc"]
        assert all(n.text().strip() for n in named)


def test_headings_step_down_one_at_a_time_under_one_h1(tree: Node) -> None:
    levels = [int(n.name[1]) for n in tree.all("h1", "h2", "h3", "h4")]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))


def test_ids_are_unique_and_links_lead_somewhere(tree: Node) -> None:
    ids = [n.attributes["id"] for n in tree.all() if "id" in n.attributes]
    assert len(ids) == len(set(ids))
    for node in tree.all("a"):
        assert str(node.attributes["href"])[1:] in ids
    for node in tree.all():
        for name in str(node.attributes.get("aria-labelledby") or "").split():
            assert name in ids


def test_tables_have_captions_and_headed_columns_and_rows(tree: Node) -> None:
    tables = tree.all("table")
    assert len(tables) >= 6
    for node in tables:
        assert node.all("caption")[0].text()
        head, body = node.all("thead")[0], node.all("tbody")[0]
        columns = [n.attributes["scope"] for n in head.all("th")]
        assert set(columns) == {"col"}
        for row in body.all("tr"):
            assert row.children[0].attributes["scope"] == "row"
            assert len(row.children) == len(columns)


def test_landmarks_are_there_and_scrolling_frames_take_the_keyboard(tree: Node) -> None:
    for name in ("header", "nav", "main", "footer"):
        assert len(tree.all(name)) == 1
    assert tree.all("html")[0].attributes["lang"] == "en"
    assert tree.all("a")[0].attributes == {"class": "skip", "href": "#main"}
    for node in tree.all("div"):
        if node.attributes.get("class") == "scroll":
            assert (node.attributes["tabindex"], node.attributes["role"]) == ("0", "group")
            assert node.attributes["aria-label"]


def test_a_status_is_a_word_and_a_mark_beside_its_color(tree: Node) -> None:
    (table,) = [n for n in tree.all("table") if n.attributes.get("id") == "promises"]
    cells = [n.text() for n in table.all("td") if n.attributes.get("class") in ("good", "fair", "bad")]
    assert "✗ missed" in cells


def test_the_same_report_makes_the_same_bytes(report: Report, html: str) -> None:
    assert page(report) == html
    assert page(replace(report, made_ns=1_700_000_000_000_000_000)) != html


def test_a_run_without_places_times_or_answers_still_has_a_page(make_run: Callable) -> None:
    run = make_run(n=1)
    titles = [n.text() for n in outline(page(report_of(run, made_ns=0, places={}))).all("h2")]
    assert "Map" not in titles
    assert "Summary" in titles


def test_faults_are_listed_and_drawn(make_run: Callable, places: dict[str, Place]) -> None:
    faults = (Fault("fr-paris-01 lost", "site fr-paris-01", 20.0, 40.0), Fault("telemetry stale", "300 s", 60.0))
    tree = outline(page(report_of(make_run(), made_ns=0, places=places, faults=faults)))
    (table,) = [n for n in tree.all("table") if n.attributes.get("id") == "faults-table"]
    assert [n.text() for n in table.all("td")][:4] == ["fr-paris-01 lost", "site fr-paris-01", "20 s", "40 s"]
    (load,) = [n for n in tree.all("svg") if n.attributes.get("id") == "load"]
    bands = [n for n in load.all("rect") if n.attributes.get("class") == "fault"]
    assert len(bands) == 2
    # The axis is 306 units for 100 s: a fault of 20 s is a fifth of it.
    assert float(str(bands[0].attributes["width"])) == pytest.approx(306 / 5, abs=0.1)


def test_a_run_compared_with_stands_in_every_part(make_run: Callable, places: dict[str, Place]) -> None:
    made = report_of(make_run(), made_ns=0, places=places, compared=make_run("new", late_share=0.0))
    tree = outline(page(made))
    heads = {str(t.attributes.get("id")): [n.text() for n in t.all("thead")[0].all("th")] for t in tree.all("table")}
    assert heads["totals"][:4] == ["in total", "base", "new", "saving"]
    assert heads["promises"][-1] == "in new"
    assert any("run new" in n.text() for n in tree.all("li"))
    assert "not the same requests" not in tree.text()
    shorter = report_of(make_run(), made_ns=0, places=places, compared=make_run("new", n=300))
    assert "They are not the same requests: 400 requests against 300." in outline(page(shorter)).text()


def test_a_run_with_draws_has_ranges_beside_its_numbers(make_run: Callable, places: dict[str, Place]) -> None:
    draws = tuple(summarize(make_run(late_share=late), draw=k, seed=k) for k, late in ((1, 0.05), (2, 0.2)))
    ensemble = Ensemble(asked=3, drawn=("jitter", "arrivals"), draws=draws)
    tree = outline(page(report_of(make_run(), made_ns=0, places=places, ensemble=ensemble)))
    (tile,) = [n for n in tree.all("div") if n.all("dt") and n.all("dt")[0].text() == "Good requests"]
    # 20, 40 and 80 of 400 are late, and one is refused; two draws cover a third of what may come.
    assert [n.text() for n in tile.all("dd")] == ["89.8%", "draws 79.8%…94.8%"]
    text = tree.text()
    assert "3 replays: ranges are of 2 draws of jitter, arrivals" in text
    (table,) = [n for n in tree.all("table") if n.attributes.get("id") == "promises"]
    assert [n.text() for n in table.all("thead")[0].all("th")][-1] == "in 3 replays"


def test_gates_are_shown_with_words_and_marks(make_run: Callable, places: dict[str, Place]) -> None:
    run = make_run()
    named = [NamedGate(text, parse_gate(text)) for text in ("requests >= 400", "good >= 400", "ttft_ms.p99.9 < 9s")]
    results = hold_gates(named, Subject(Measures(run)), None)
    outcomes = [result.outcome for result in results]
    gates = GateReport(
        run="base",
        trace="hand",
        policy="default",
        digest="",
        created_ns=0,
        baseline=None,
        paired=False,
        outcome=overall(results),
        passed=outcomes.count("pass"),
        failed=outcomes.count("fail"),
        errors=outcomes.count("error"),
        items=results,
    )
    tree = outline(page(report_of(run, made_ns=0, places=places, gates=gates)))
    (table,) = [n for n in tree.all("table") if n.attributes.get("id") == "gates-table"]
    cells = [[n.text() for n in row.children] for row in table.all("tbody")[0].all("tr")]
    assert [row[:2] for row in cells] == [
        ["requests >= 400", "✓ pass"],
        ["good >= 400", "✗ fail"],
        ["ttft_ms.p99.9 < 9000 ms", "! error"],
    ]
    assert "1 passed, 1 failed, 1 could not be decided." in tree.text()
