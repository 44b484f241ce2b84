"""Gate reports: JUnit that schemas accept, annotations that GitHub can undo, words that need no colour."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from junit_rules import ANT, JENKINS, complaints

from gridctl.accounts.gate_report import GateReport, GateResult, overall
from gridctl.render.annotations import annotation_lines
from gridctl.render.gates import ASCII_MARKS, summary, text
from gridctl.render.junit import junit

# Ant's schema: attributes a suite and a case must have, and no others of these elements' own.
SUITE = {"name", "timestamp", "hostname", "tests", "failures", "errors", "time", "package", "id"}
CHILDREN = ["properties", "testcase", "system-out", "system-err"]


def result(name: str, outcome: str, **fields: object) -> GateResult:
    said: dict[str, object] = {
        "gate": "ttft_ms.p95 < 200 ms where workload=voice",
        "reason": {"pass": "", "fail": "missed"}.get(outcome, "scope"),
        "message": "held", "fix": "", "metric": "ttft_ms.p95", "scope": {"workload": "voice"}, "op": "<",
        "expected": 200.0, "expected_text": "200 ms", "actual": 250.0, "baseline": None, "off_by": 50.0,
        "off_by_share": 0.25, "samples": 1234, "unserved": 7, "decided_by": "counts", "low": None, "high": None,
        "needed": None, "draws": None, "draws_held": None, "allowed_undecided": False, "line": 4,
        "file": "ci/gates.yaml",
    }  # fmt: skip
    return GateResult(name=name, outcome=outcome, **(said | fields))  # type: ignore[arg-type]


def report(*results: GateResult, **fields: object) -> GateReport:
    said: dict[str, object] = {
        "run": "new", "trace": "t", "policy": "p", "digest": "sha256:0", "created_ns": 0, "baseline": None,
        "paired": False, "outcome": overall(results), "passed": sum(one.outcome == "pass" for one in results),
        "failed": sum(one.outcome == "fail" for one in results),
        "errors": sum(one.outcome == "error" for one in results), "items": results,
    }  # fmt: skip
    return GateReport(**(said | fields))  # type: ignore[arg-type]


MIXED = report(result("a", "pass"), result("b", "fail"), result("c", "error", fix="did you mean d?"), baseline="base")


def check_junit(written: str) -> ElementTree.Element:
    """The parsed report, once everything the two schemas ask of it holds."""
    root = ElementTree.fromstring(written.encode())
    assert complaints(root, ANT) == []
    assert complaints(root, JENKINS) == []
    assert (root.tag, root.attrib) == ("testsuites", {})
    (suite,) = root
    assert set(suite.attrib) == SUITE
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", suite.attrib["timestamp"])
    assert re.fullmatch(r"\d+\.\d+", suite.attrib["time"])
    order = [CHILDREN.index(child.tag) for child in suite]
    assert order == sorted(order)
    cases = suite.findall("testcase")
    assert len(cases) == int(suite.attrib["tests"])
    for kind in ("failure", "error"):
        assert sum(case.find(kind) is not None for case in cases) == int(suite.attrib[f"{kind}s"])
    for case in cases:
        assert set(case.attrib) == {"name", "classname", "time"}
        assert len(case) <= 1
        for child in case:
            assert set(child.attrib) == {"message", "type"}
            assert child.attrib["type"]
    return root


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ('tests="3"', 'tests="three"', "@tests is 'three', not integer"),
        ('hostname="localhost" ', "", "lacks hostname"),
        ("<testsuites>", "<testsuites><note/>", "may not hold note"),
        ("<system-out/>", "", "holds 0 of system-out"),
        ("<system-out/>\n    <system-err/>", "<system-err/>\n    <system-out/>", "in another order"),
        ("<properties>", "<properties>text", "may not hold text"),
        ('id="0"', 'id="0" owner="me"', "may not have owner"),
    ],
)
def test_the_rules_find_what_a_schema_would(before: str, after: str, told: str) -> None:
    """A checker that finds nothing proves nothing."""
    written = junit(MIXED)
    assert before in written
    found = complaints(ElementTree.fromstring(written.replace(before, after).encode()), ANT)
    assert any(told in complaint for complaint in found), found


def test_junit_tells_failures_from_errors() -> None:
    root = check_junit(junit(MIXED))
    cases = {case.attrib["name"]: case for case in root.iter("testcase")}
    assert len(cases["a"]) == 0
    failure, error = cases["b"].find("failure"), cases["c"].find("error")
    assert failure is not None
    assert error is not None
    assert failure.attrib["message"].startswith("expected ttft_ms.p95 < 200 ms (workload=voice), actual 250 ms")
    assert "7 never answered are not in it" in (failure.text or "")
    assert "at: ci/gates.yaml:4" in (failure.text or "")
    assert "fix: did you mean d?" in (error.text or "")
    assert {one.attrib["name"]: one.attrib["value"] for one in root.iter("property")}["baseline"] == "base"


@given(st.text(), st.text(), st.text())
def test_junit_and_annotations_survive_any_text(message: str, trace: str, file: str) -> None:
    one = report(result("b", "fail", message=message, file=file or None), trace=trace)
    check_junit(junit(one))
    (line,) = annotation_lines(one).splitlines() or [""]
    assert re.match(r"::error [^\n\r]*?::", line)
    text(one, "markdown")
    assert "\n\n\n" not in summary(one)


def test_annotations_point_at_the_line_of_the_gate_and_escape_what_github_would_read() -> None:
    one = report(result("a", "pass"), result("b", "fail", file="a,b:c%.yaml", message="100%\nmore"))
    (line,) = annotation_lines(one).splitlines()
    assert line.startswith("::error file=a%2Cb%3Ac%25.yaml,line=4,title=gate b::fail: expected ttft_ms.p95 < 200 ms")
    assert line.endswith("100%25%0Amore; 7 never answered are not in it")
    unplaced = report(result("b", "error", file=None, line=None))
    assert annotation_lines(unplaced).startswith("::error title=gate b::error: ")


def test_outcomes_are_words_and_marks_have_an_ascii_form() -> None:
    printed = text(MIXED, "table", ASCII_MARKS)
    assert "1 passed, 1 failed, 1 undecided or broken of 3 gates, against base (as fixed numbers)" in printed
    assert re.search(r"^\+ pass +a  ", printed, re.MULTILINE)
    assert re.search(r"^x fail +b .*250 ms +\+25\.0% +1,234", printed, re.MULTILINE)
    assert re.search(r"^! error +c ", printed, re.MULTILINE)
    assert printed.isascii()
    assert "✓ pass" in text(MIXED, "table")


def test_the_moment_is_the_environment_s_where_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert 'timestamp="1970-01-02T00:00:00"' in junit(MIXED)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "tomorrow")
    assert 'timestamp="1970-01-01T00:00:00"' in junit(MIXED)
