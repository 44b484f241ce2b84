"""`gridctl sweep` as a command: every format, a kill in the middle, the same bytes, and bad files."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from test_schemas import hold

KERNELS = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
SWEEP = """\
apiVersion: gridctl/v1
kind: Sweep
metadata: {name: fleets}
spec:
  trace: trace.jsonl
  fleets:
    oslo: {clusters: tier=core, scale: [0.5, 1]}
  speeds: [1, 20]
  policies: [grid, nearest]
"""
KILLED = """
import os, signal
from gridctl.registry import sweeps
add, left = sweeps.Journal.add, [3]
def adding(self, line):
    add(self, line)
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
if __name__ == "__main__":
    sweeps.Journal.add = adding
    from gridctl.cli.main import main
    main(["sweep", "run", "sweep.yaml", "--jobs", "1", "--name", "killed"])
"""


@pytest.fixture
def gridctl(grid: Callable) -> Callable:
    """A shell on an applied grid, with the machine's compiled kernels, a trace of 60 requests and a sweep of 8."""
    grid.environment["XDG_CACHE_HOME"] = KERNELS
    lines = (
        f'{{"timestamp": {10 * number}, "input_length": {50 + number}, "output_length": {1 + number % 7}}}\n'
        for number in range(60)
    )
    (grid.folder / "trace.jsonl").write_text("".join(lines))
    (grid.folder / "sweep.yaml").write_text(SWEEP)
    return grid


def written(gridctl: Callable, text: str) -> str:
    (gridctl.folder / "bad.yaml").write_text(text)
    return "bad.yaml"


@pytest.mark.slow
def test_a_sweep_prints_every_format_keeps_its_schemas_and_is_kept_like_a_run(gridctl: Callable) -> None:
    dry = gridctl("sweep", "sweep.yaml", "--dry-run", "-o", "json")
    assert [one["scenario"] for one in hold(dry.out, "SweepPlanList")["items"]] == list(range(1, 9))
    assert "8 scenarios, 8 replays, about" in dry.err
    assert gridctl("sweep", "list", "-o", "name").out == ""

    ran = gridctl("sweep", "sweep.yaml", "--svg", "front.svg", "--jobs", "2", "--seeds", "2", "-o", "json")
    assert ran.code == 0, ran.err
    result = hold(ran.out, "SweepResult")
    assert (result["name"], result["replays"], result["replays_asked"]) == ("fleets", 16, 16)
    assert [one["values"] for one in result["items"]][:2] == [
        {"oslo": 0.5, "speed": 1.0, "policy": "grid"},
        {"oslo": 0.5, "speed": 1.0, "policy": "nearest"},
    ]
    assert any(one["on_front"] for one in result["items"])
    assert ElementTree.parse(gridctl.folder / "front.svg").getroot().get("role") == "img"

    table = gridctl("sweep", "show", "fleets").out
    assert table.splitlines()[0].split()[:4] == ["#", "OSLO", "SPEED", "POLICY"]
    assert "ON THE FRONT" in table.splitlines()[0]
    assert "share of requests that were good" in table
    command = [sys.executable, "-m", "gridctl", "sweep", "show", "fleets"]
    plain = {**gridctl.environment, "PYTHONIOENCODING": "ascii", "NO_COLOR": "1"}
    shown = subprocess.run(command, cwd=gridctl.folder, env=plain, capture_output=True, timeout=60, check=True).stdout
    assert b"\\" not in shown
    assert b"+--" in shown
    assert gridctl("sweep", "show", "-o", "markdown").out.startswith("|")
    rows = list(csv.DictReader(io.StringIO(gridctl("sweep", "show", "fleets", "-o", "csv").out)))
    assert [float(row["usd_per_mtok_goodput"]) for row in rows] == [
        one["numbers"]["usd_per_mtok_goodput"] for one in result["items"]
    ]
    assert gridctl("sweep", "show", "-o", "name").out.split() == [str(number) for number in range(1, 9)]
    chat = json.loads(gridctl("sweep", "show", "--workload", "chat", "-o", "json").out)
    assert [one["numbers"]["good"] for one in chat["items"]] == [one["numbers"]["good"] for one in result["items"]]
    pivot = gridctl("sweep", "pivot", "--rows", "oslo", "--columns", "speed", "--where", "policy=grid", "-o", "json")
    assert len(hold(pivot.out, "SweepPivot")["items"]) == 4
    shown = gridctl("sweep", "pivot", "--rows", "oslo", "--columns", "speed", "--where", "policy=grid")
    assert shown.out.splitlines()[0].split() == ["OSLO", "SPEED=1", "SPEED=20"]
    hold(gridctl("sweep", "list", "-o", "json").out, "SweepList")
    hold(gridctl("sweep", "get", "fleets", "-o", "json").out, "Sweep")
    assert gridctl("completion", "words", "--", "sweep", "show", "fl").out.split() == ["fleets"]
    assert gridctl("sweep", "delete", "fleets", "--yes").code == 0
    assert gridctl("sweep", "get", "fleets").code == 4


@pytest.mark.slow
def test_a_kill_costs_what_was_under_way_and_resuming_gives_the_same_bytes(gridctl: Callable) -> None:
    (gridctl.folder / "killed.py").write_text(KILLED)
    done = subprocess.run(
        [sys.executable, "killed.py"], cwd=gridctl.folder, env=gridctl.environment, capture_output=True, timeout=120
    )
    assert done.returncode == -9, done.stderr
    kept = json.loads(gridctl("sweep", "get", "killed", "-o", "json").out)
    assert (kept["replays"], kept["replays_asked"]) == (3, 8)
    again = gridctl("sweep", "run", "sweep.yaml", "--name", "killed")
    assert again.code == 3
    assert "sweep killed has 3 of 8 replays: it was interrupted" in again.err
    assert "--resume" in again.err
    journal = gridctl.folder / "grid" / ".gridctl" / "sweeps" / "killed" / "results.jsonl"
    before = journal.read_bytes()
    journal.write_bytes(before + b'{"key": "cut o')
    fixed = {"SOURCE_DATE_EPOCH": "0"}
    resumed = gridctl("sweep", "run", "sweep.yaml", "--name", "killed", "--resume", "-o", "json", **fixed)
    assert resumed.code == 0, resumed.err
    assert journal.read_bytes().startswith(before)
    whole = gridctl("sweep", "run", "sweep.yaml", "--name", "whole", "--jobs", "2", "-o", "json", **fixed)
    assert whole.out.replace('"whole"', '"killed"') == resumed.out
    svgs = []
    for hashing, name in (("1", "killed"), ("77", "killed")):
        gridctl("sweep", "show", name, "--svg", f"{hashing}.svg", PYTHONHASHSEED=hashing)
        svgs.append((gridctl.folder / f"{hashing}.svg").read_bytes())
    assert svgs[0] == svgs[1]


@pytest.mark.slow
def test_scenarios_that_are_no_whole_grid_are_named_and_the_exit_code_says_so(gridctl: Callable) -> None:
    text = SWEEP.replace("  speeds: [1, 20]\n", "").replace("  policies: [grid, nearest]\n", "")
    path = written(gridctl, text + "  set:\n    cluster/oslo-gpu spec.gpus: [1, 4]\n")
    ran = gridctl("sweep", "run", path, "--jobs", "1")
    assert ran.code == 3
    assert "invalid" in ran.out
    assert "2 of 4 scenarios were not replayed" not in ran.out
    assert "its deployments need" in ran.err
    assert gridctl("sweep", "run", path, "--replace", "--skip-invalid", "--jobs", "1").code == 0


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (("scale: [0.5, 1]", "scale: []"), 3, "bad.yaml:7:40"),
        (("tier=core", "tier=croe"), 3, "bad.yaml:7:22"),
        (("speeds: [1, 20]", "speeds: [0]"), 3, "spec.speeds[0] is 0; it must be 0.001 to 1000"),
        (("speeds: [1, 20]", "speeds: [1, 1]"), 3, "the axis speed has 1 twice"),
        (("speeds:", "speed:"), 3, "did you mean speeds?"),
        (("grid, nearest", "gird, nearest"), 3, "did you mean grid?"),
        (("kind: Sweep", "kind: Swep"), 3, "did you mean Sweep?"),
        (("  trace: trace.jsonl\n", ""), 2, "the sweep names no traffic"),
        (("trace: trace.jsonl", "trace: trase.jsonl"), 4, "trase.jsonl"),
        (("  policies: [grid, nearest]", "  set: {workload/chat spec.overhead: [1]}"), 3, "bad.yaml:9:9"),
        (("  policies: [grid, nearest]", "  set: {workload/chat spec.overhead_ms: [1, -1]}"), 3, "bad.yaml:9:45"),
        (("  policies: [grid, nearest]", "  set: {workload/chat spec.overhead_ms: []}"), 3, "has no values"),
        (("  policies: [grid, nearest]", "  rates: [1]"), 3, "rates are of generated traffic"),
        (("  policies: [grid, nearest]", "  prices: [spot]"), 3, "price book spot does not exist"),
    ],
)
def test_a_bad_file_is_refused_where_it_is_wrong_before_any_work(
    gridctl: Callable, change: tuple[str, str], code: int, words: str
) -> None:
    assert change[0] in SWEEP
    ran = gridctl("sweep", "run", written(gridctl, SWEEP.replace(*change)))
    assert (ran.code, ran.out) == (code, "")
    assert words in ran.err
    assert not (gridctl.folder / "grid" / ".gridctl" / "sweeps").exists()


def test_more_than_ten_thousand_replays_are_asked_about_first(gridctl: Callable) -> None:
    many = SWEEP.replace("[1, 20]", str([1 + number / 1000 for number in range(101)]))
    ran = gridctl("sweep", "run", written(gridctl, many), "--seeds", "100", "--dry-run")
    assert ran.code == 2
    assert "the sweep asks for 40,400 replays" in ran.err
    assert "--yes" in ran.err


def test_a_sweep_is_no_manifest_and_may_lie_beside_them(gridctl: Callable, manifest: Path) -> None:
    folder = gridctl.folder / "manifests"
    folder.mkdir()
    (folder / "grid.yaml").write_text(manifest.read_text())
    (folder / "sweep.yaml").write_text(SWEEP)
    assert gridctl("validate", "-f", str(folder)).code == 0
    alone = gridctl("apply", "-f", "sweep.yaml")
    assert alone.code == 3
    assert "gridctl sweep run sweep.yaml" in alone.err
    manifests = gridctl("sweep", "run", "grid.yaml")
    assert manifests.code == 3
    assert "not one sweep" in manifests.err


def test_without_sweeps_there_is_a_word_about_the_first(gridctl: Callable) -> None:
    assert "no sweeps yet" in gridctl("sweep", "list").err
    assert gridctl("sweep", "show").code == 4
    assert gridctl("sweep", "delete", "none").code == 4
    assert gridctl("sweep", "nothing.yaml").code == 3
    assert gridctl("sweep", "shwo").code == 2
