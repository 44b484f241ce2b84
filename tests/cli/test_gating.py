"""Gates and comparison as commands: exit codes, what is printed where, every format, the same bytes twice."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

KERNELS = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
REPOSITORY = Path(__file__).resolve().parents[2]
REQUESTS = 400
GATES = """\
# what CI holds
- usd <= baseline * 1.01
- answered: availability >= 99%
- late: ttft_ms.p50 < 0.001ms where workload=chat
"""


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the first test leaves the runs for the others."""
    return tmp_path_factory.mktemp("replayed") / "runs"


@pytest.fixture
def gridctl(grid: Callable, replayed: Path) -> Callable:
    """A shell on an applied grid with a file of gates and two runs of 400 requests: base, and fast at four times the
    speed."""
    grid.environment["XDG_CACHE_HOME"] = KERNELS
    lines = (
        f'{{"timestamp": {40 * number}, "input_length": {60 + number % 50}, "output_length": {2 + number % 7},'
        ' "origin": "fr-paris-01", "workload": "chat"}\n'
        for number in range(REQUESTS)
    )
    (grid.folder / "trace.jsonl").write_text("".join(lines))
    (grid.folder / "gates.yaml").write_text(GATES)
    runs = grid.folder / "grid" / ".gridctl" / "runs"
    if replayed.exists():
        shutil.copytree(replayed, runs, dirs_exist_ok=True)
        return grid
    for name, more in (("base", ()), ("fast", ("--speed", "4"))):
        ran = grid("replay", "run", "trace.jsonl", "--name", name, "--no-centralized", "-q", *more)
        assert ran.code == 0, ran.err
    shutil.copytree(runs, replayed)
    return grid


@pytest.mark.slow
@pytest.mark.parametrize(
    ("gates", "code", "outcomes"),
    [
        (["availability >= 99%"], 0, "pass"),
        (["availability >= 99%", "ttft_ms.p50 < 0.001ms"], 99, "pass fail"),
        (["availability >= 99%", "ttft_ms.p99.9 < 10s"], 3, "pass error"),
        (["ttft_ms.p50 < 0.001ms", "ttft_ms.p99.9 < 10s"], 3, "fail error"),
        (["ttft_ms.p99.9 < 10s allow undecided"], 0, "pass"),
        (["availability >= 99% where workload=cha"], 3, "error"),
        (["availability >= 99% in all draws"], 3, "error"),
    ],
)
def test_the_exit_code_is_the_worst_outcome_and_everything_is_printed_first(
    gridctl: Callable, gates: list[str], code: int, outcomes: str
) -> None:
    order = [word for gate in gates for word in ("--gate", gate)]
    ran = gridctl("replay", "gate", "base", *order, "-o", "json")
    assert ran.code == code, ran.err
    printed = json.loads(ran.out)
    assert [item["outcome"] for item in printed["items"]] == outcomes.split()
    assert printed["passed"] + printed["failed"] + printed["errors"] == len(gates)
    assert ("error: " in ran.err) == (code != 0)
    assert "Traceback" not in ran.err


@pytest.mark.slow
def test_what_is_wrong_before_anything_is_held_leaves_stdout_empty(gridctl: Callable) -> None:
    (gridctl.folder / "wrong.yaml").write_text("- usd < 5\n- attainment >= 99\n- ttft_ms.p9 < 5\n")
    (gridctl.folder / "site.yaml").write_text(
        "apiVersion: gridctl/v1\nkind: Site\nmetadata: {name: a}\nspec: {lat: 1, lon: 1, country: FR, tier: edge}\n"
    )
    (gridctl.folder / "half.json").write_text('{"kind": "GateReport", "items": [')
    (gridctl.folder / "other.json").write_text('{"kind": "Run"}')
    for arguments, code, words in [
        (("--gate", "wrong.yaml"), 3, "wrong.yaml:2:3"),
        (("--gate", "wrong.yaml"), 3, "wrong.yaml:3:3"),
        (("--gate", "attainmant > 0.9"), 3, "did you mean attainment?"),
        (("--gate", "site.yaml"), 3, "Site a is no gate"),
        (("--gate", "gates.yml"), 3, "does not exist"),
        (("--gate", "gates.yaml"), 3, "gates.yaml:2"),  # compares with a baseline, and none was given
        (("--gate", "gates.yaml", "--gate", "gates.yaml", "--baseline", "base"), 3, "given twice"),
        (("--gate", "gates.yaml", "--baseline", "bas"), 4, "did you mean base?"),
        (("--gate", "gates.yaml", "--baseline", "gone.json"), 4, "no such baseline file"),
        (("--gate", "gates.yaml", "--baseline", "half.json"), 3, "no JSON"),
        (("--gate", "gates.yaml", "--baseline", "other.json"), 3, "no report of gridctl"),
        (("--gate", "usd < 5", "--junit", "no/such/folder.xml"), 3, "cannot write"),
        ((), 3, "the grid has no gates"),
    ]:
        ran = gridctl("replay", "gate", "base", *arguments)
        assert (ran.code, ran.out) == (code, ""), (arguments, ran.err)
        assert words in ran.err, (arguments, ran.err)
    assert gridctl("replay", "run", "trace.jsonl", "--baseline", "base").code == 2
    refused = gridctl("replay", "run", "trace.jsonl", "--name", "never", "--gate", "good > 1 in all draws")
    assert (refused.code, "--seeds 20" in refused.err) == (3, True)
    assert "never" not in gridctl("run", "list", "-o", "name").out


@pytest.mark.slow
def test_a_replay_with_gates_keeps_the_run_and_reports_everywhere(gridctl: Callable) -> None:
    order = (
        "replay", "run", "trace.jsonl", "--name", "new", "--no-centralized", "--gate", "gates.yaml",
        "--baseline", "base", "--junit", "out.xml", "--summary", "out.md", "-o", "json",
    )  # fmt: skip
    ran = gridctl(*order, GITHUB_ACTIONS="true", GITHUB_STEP_SUMMARY="step.md")
    assert ran.code == 99, ran.err
    printed = json.loads(ran.out)
    assert (printed["kind"], printed["name"], printed["gates"]["outcome"]) == ("Run", "new", "fail")
    assert [item["name"] for item in printed["gates"]["items"]] == ["usd-le-baseline-times-1.01", "answered", "late"]
    assert printed["gates"]["paired"] is True
    suite = ElementTree.parse(gridctl.folder / "out.xml").getroot()[0]
    assert (suite.attrib["tests"], suite.attrib["failures"], suite.attrib["errors"]) == ("3", "1", "0")
    assert "## ✗ a gate failed" in (gridctl.folder / "out.md").read_text(encoding="utf-8")
    assert not (gridctl.folder / "step.md").exists()
    assert "::error file=gates.yaml,line=4,title=gate late::fail: expected ttft_ms.p50 < 0.001 ms" in ran.err
    assert "new" in gridctl("run", "list", "-o", "name").out.split()

    (gridctl.folder / "step.md").write_text("before\n")
    again = gridctl(
        "replay", "gate", "new", "--gate", "gates.yaml", "--baseline", "base", GITHUB_STEP_SUMMARY="step.md"
    )
    assert again.code == 99
    assert (gridctl.folder / "step.md").read_text(encoding="utf-8").startswith("before\n## ✗ a gate failed")
    assert "::error" not in again.err
    assert "✗ fail   late" in again.out
    ascii_only = gridctl(
        "replay", "gate", "new", "--gate", "gates.yaml", "--baseline", "base", PYTHONIOENCODING="ascii"
    )
    assert ascii_only.code == 99


@pytest.mark.slow
def test_every_format_prints_every_gate(gridctl: Callable) -> None:
    order = ("replay", "gate", "base", "--gate", "gates.yaml", "--baseline", "base", "-o")
    rows = list(csv.DictReader(io.StringIO(gridctl(*order, "csv").out)))
    assert [(row["name"], row["outcome"], row["line"]) for row in rows][1:] == [
        ("answered", "pass", "3"),
        ("late", "fail", "4"),
    ]
    assert gridctl(*order, "name").out.split() == [row["name"] for row in rows]
    assert [json.loads(line)["name"] for line in gridctl(*order, "jsonl").out.splitlines()] == [r["name"] for r in rows]
    for output in ("wide", "yaml"):
        ran = gridctl(*order, output)
        assert ran.code == 99
        assert all(word in ran.out for word in ("answered", "late", "pass", "fail")), output


@pytest.mark.slow
def test_a_report_of_an_earlier_run_is_a_baseline(gridctl: Callable) -> None:
    gates = ("--gate", "usd <= baseline * 1.01", "--gate", "ttft_ms.p50 <= baseline")
    first = gridctl("replay", "gate", "base", *gates, "--baseline", "base", "-o", "json")
    assert first.code == 0, first.err
    (gridctl.folder / "before.json").write_text(first.out)
    (gridctl.folder / "table.json").write_text(gridctl("tokenomics", "base", "-o", "json").out)
    for file in ("before.json", "table.json"):
        again = gridctl("replay", "gate", "base", "--gate", "usd <= baseline * 1.01", "--baseline", file, "-o", "json")
        assert again.code == 0, again.err
        item = json.loads(again.out)["items"][0]
        assert item["baseline"] == item["actual"]
        missing = gridctl("replay", "gate", "base", "--gate", "e2e_ms.p90 <= baseline", "--baseline", file)
        assert (missing.code, "has no e2e_ms.p90" in missing.err) == (3, True)


@pytest.mark.slow
def test_gates_of_the_grid_are_held_without_naming_them_and_draws_count(gridctl: Callable) -> None:
    text = (
        "apiVersion: gridctl/v1\nkind: Gate\nmetadata: {name: answered}\n"
        "spec: {metric: availability, op: '>=', value: 0.99, workload: chat}\n"
    )
    applied = gridctl("apply", "-f", "-", stdin=text)
    assert applied.code == 0, applied.err
    assert gridctl("replay", "gate", "base", "-o", "name").out == "answered\n"
    drawn = gridctl("replay", "run", "trace.jsonl", "--name", "drawn", "--seeds", "4", "--no-centralized", "-q",
                    "--gate", "availability >= 99% in all draws", "-o", "json")  # fmt: skip
    assert drawn.code == 0, drawn.err
    item = json.loads(drawn.out)["gates"]["items"][0]
    assert (item["draws_held"], item["draws"], item["decided_by"]) == (3, 3, "share of draws")


def test_gates_are_checked_offline(shell: Callable) -> None:
    (shell.folder / "gates.yaml").write_text(GATES)
    assert shell("validate", "-f", "gates.yaml").out.split() == ["KIND", "RESOURCES", "Gate", "3"]
    ran = shell("replay", "gate", "--gate", "gates.yaml", "--gate", "usd < 5", "--dry-run", "-o", "json")
    assert ran.code == 0, ran.err
    assert [item["line"] for item in json.loads(ran.out)["items"]] == [2, 3, 4, None]
    (shell.folder / "gates.yaml").write_text(
        "apiVersion: gridctl/v1\nkind: Gate\nmetadata: {name: g}\nspec: {metric: attainment, op: '>=', value: 99}\n"
    )
    for command in (("validate", "-f", "gates.yaml"), ("replay", "gate", "--gate", "gates.yaml", "--dry-run")):
        refused = shell(*command)
        assert (refused.code, refused.out) == (3, "")
        assert "gates.yaml:4" in refused.err
        assert "did you mean 99%?" in refused.err


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1, max_size=60))
def test_no_expression_is_more_than_refused(shell: Callable, text: str) -> None:
    for gate in (f"{text} < 5", f"usd < {text}", f"usd < 5 where {text}"):
        ran = shell("replay", "gate", f"--gate={gate}", "--dry-run")
        assert ran.code in (0, 3), ran.err
        assert "Traceback" not in ran.err
        assert "unexpectedly" not in ran.err


@pytest.mark.slow
def test_compare_prints_numbers_flows_and_verdicts_in_every_format(gridctl: Callable) -> None:
    # Least-loaded shares the requests out over both engines; the cluster is the same.
    ran = gridctl(
        "replay", "run", "trace.jsonl", "--name", "spread", "--policy", "round-robin", "--no-centralized", "-q"
    )
    assert ran.code == 0, ran.err
    printed = json.loads(gridctl("replay", "compare", "base", "spread", "--by", "workload", "-o", "json").out)
    assert (printed["kind"], printed["baseline"], printed["runs"][0]["paired"]) == ("RunComparison", "base", True)
    assert {tuple(item["scope"].items()) for item in printed["items"]} == {(), (("workload", "chat"),)}
    movement = printed["movements"][0]
    assert sum(flow["requests"] for flow in movement["flows"]) == movement["moved"]
    requests = [item for item in printed["items"] if item["metric"] == "requests" and not item["scope"]]
    assert (requests[0]["value"], requests[0]["difference"], requests[0]["verdict"]) == (REQUESTS, 0, "same")
    rows = list(csv.DictReader(io.StringIO(gridctl("replay", "compare", "base", "spread", "-o", "csv").out)))
    assert len(rows) == len(printed["items"]) / 2
    for output in ("table", "wide", "markdown"):
        assert (
            "spread against base: the same requests" in gridctl("replay", "compare", "base", "spread", "-o", output).out
        )
    assert gridctl("replay", "compare", "base", "spread", "fast", "-o", "name").out.split() == [
        "base",
        "spread",
        "fast",
    ]


@pytest.mark.slow
def test_runs_of_different_requests_are_compared_by_totals_with_a_clear_word(gridctl: Callable) -> None:
    ran = gridctl("replay", "compare", "base", "fast")
    assert ran.code == 0
    assert "not the same requests (the requests arrive at other times), so totals only and no verdicts" in ran.out
    assert "no pairs, no verdicts, no flows" in ran.err
    assert "moved" not in ran.out
    assert gridctl("replay", "compare", "base").code == 2
    assert gridctl("replay", "compare", "base", "base").code == 2
    assert gridctl("replay", "compare", "base", "fst").code == 4
    assert gridctl("replay", "compare", "base", "fast", "--by", "tier").code == 2


@pytest.mark.slow
def test_the_same_inputs_give_the_same_bytes_whatever_hashes_strings(gridctl: Callable) -> None:
    """In processes of their own: a set or a dictionary in hash order would show."""
    orders = [
        ["replay", "run", "trace.jsonl", "--name", "same", "--replace", "--gate", "gates.yaml", "--baseline", "base",
         "--junit", "j.xml", "--summary", "s.md", "-o", "json"],
        ["replay", "gate", "same", "--gate", "gates.yaml", "--baseline", "base", "-o", "markdown"],
        ["replay", "compare", "base", "same", "fast", "--by", "workload,region", "-o", "json"],
        ["replay", "compare", "base", "same", "-o", "markdown"],
        ["tokenomics", "same", "-o", "json"],
        ["sla", "same", "-o", "markdown"],
    ]  # fmt: skip
    printed: list[list[bytes]] = []
    for hashing in ("1", "4321"):
        environment = {**gridctl.environment, "PYTHONHASHSEED": hashing, "SOURCE_DATE_EPOCH": "1700000000"}
        outputs = []
        for order in orders:
            done = subprocess.run(
                [sys.executable, "-m", "gridctl", *order], cwd=gridctl.folder, env=environment, capture_output=True,
                timeout=120, check=False,
            )  # fmt: skip
            assert done.returncode in (0, 99), done.stderr
            outputs.append(done.stdout)
        outputs += [(gridctl.folder / name).read_bytes() for name in ("j.xml", "s.md")]
        printed.append(outputs)
    assert printed[0] == printed[1]
    assert b"1700000000000000000" in printed[0][0]
