"""`gridctl policy diff`: what differs, what it means, and an exit code for pipelines."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from test_schemas import hold

POLICY = """\
apiVersion: gridctl/v1
kind: Policy
metadata: {name: strict}
spec:
  miss_weight: 3
  telemetry: {period_ms: 250}
  overrides:
    chat: {reject_ratio: 2}
"""


@pytest.fixture
def policies(grid: Callable) -> Callable:
    grid.environment["XDG_CACHE_HOME"] = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    (grid.folder / "strict.yaml").write_text(POLICY)
    return grid


def test_every_field_that_differs_is_printed_with_its_meaning(policies: Callable) -> None:
    ran = policies("policy", "diff", "grid", "strict.yaml", "-o", "json")
    assert ran.code == 0, ran.err
    rows = hold(ran.out, "PolicyDifferenceList")["items"]
    assert [(row["field"], row["before"], row["after"]) for row in rows] == [
        ("spec.telemetry.period_ms", 1000.0, 250.0),
        ("spec.miss_weight", 1.0, 3.0),
        ("spec.overrides.chat.reject_ratio", None, 2.0),
    ]
    assert rows[0]["meaning"] == "Milliseconds between two scrapes of an engine."
    assert all(row["meaning"] for row in rows)


def test_the_exit_code_is_ten_only_where_something_differs_and_it_was_asked_for(policies: Callable) -> None:
    assert policies("policy", "diff", "strict.yaml", "grid", "--exit-code").code == 10
    same = policies("policy", "diff", "strict.yaml", "strict.yaml", "--exit-code")
    assert (same.code, same.err) == (0, "no differences\n")
    assert policies("policy", "diff", "strict.yaml", "grid").code == 0


def test_names_of_the_grid_are_compared_and_files_need_no_grid(policies: Callable, shell: Callable) -> None:
    assert policies("apply", "-f", "strict.yaml").code == 0
    rows = json.loads(policies("policy", "diff", "strict", "least-loaded", "-o", "json").out)["items"]
    assert rows[0]["field"] == "spec.algorithm"
    del policies.environment["GRIDCTL_STORE"]
    assert policies("policy", "diff", "strict.yaml", "nearest").code == 0
    assert policies("policy", "diff", "strict", "nearest").code == 4


def test_bad_policies_are_refused_where_they_are_wrong(policies: Callable) -> None:
    unknown = policies("policy", "diff", "grid", "strct")
    assert (unknown.code, unknown.out) == (4, "")
    (policies.folder / "bad.yaml").write_text(POLICY.replace("miss_weight: 3", "miss_weight: -3"))
    bad = policies("policy", "diff", "grid", "bad.yaml")
    assert (bad.code, bad.out) == (3, "")
    assert "bad.yaml:5:16" in bad.err
    (policies.folder / "bad.yaml").write_text(POLICY.replace("chat", "chatt"))
    replayed = policies("replay", "run", "t.jsonl", "--policy", "bad.yaml", "--dry-run")
    assert replayed.code != 0


def test_a_file_that_overrides_a_workload_that_is_not_there_is_refused_at_its_line(policies: Callable) -> None:
    (policies.folder / "bad.yaml").write_text(POLICY.replace("chat:", "chatt:"))
    (policies.folder / "t.jsonl").write_text('{"timestamp": 0, "input_length": 5, "output_length": 5}\n')
    ran = policies("replay", "run", "t.jsonl", "--policy", "bad.yaml")
    assert (ran.code, ran.out) == (3, "")
    assert "bad.yaml:8:12" in ran.err
    assert "did you mean chat?" in ran.err
