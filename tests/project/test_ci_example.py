"""The CI example does what it says: its script, its GitHub workflow and its GitLab file, run in such a repository."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from console import Terminal

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def repository(terminal: Terminal, root: Path) -> Path:
    """A repository as the example describes it: manifests and a trace in `grid/`, the example's files beside it."""
    folder = terminal.folder / "repository"
    shutil.copytree(root / "examples" / "ci", folder)
    shutil.copytree(root / "examples" / "metro", folder / "grid", ignore=shutil.ignore_patterns("README.md"))
    return folder


@pytest.fixture
def run(terminal: Terminal, repository: Path) -> Run:
    """Runs lines as a CI system does: one shell that stops at the first failure. Its `pip` has nothing to install."""
    pip = terminal.home / "bin" / "pip"
    pip.write_text("#!/bin/sh\nexit 0\n")
    pip.chmod(0o755)
    outside = ("GITHUB_", "POLICY", "CI")
    environment = {name: value for name, value in terminal.environment.items() if not name.startswith(outside)}

    def run(lines: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", lines],
            cwd=repository,
            env={**environment, **variables},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return run


@pytest.mark.slow
def test_the_script_refuses_the_change_and_leaves_its_reports(run: Run, repository: Path) -> None:
    ran = run("./gates.sh grid grid/trace.jsonl.gz nearest promises.yaml cost.yaml")
    assert ran.returncode == 99, ran.stderr
    assert "✗ fail   nobody-is-refused" in ran.stdout
    suite = ElementTree.parse(repository / "reports" / "gates.xml").getroot()[0]
    assert (suite.attrib["tests"], suite.attrib["errors"]) == ("8", "0")
    failed = {case.attrib["name"] for case in suite.iter("testcase") if case.find("failure") is not None}
    assert failed == {"good", "nobody-is-refused", "no-slower-than-today"}  # the promises, none of the costs
    assert "requests moved" in (repository / "reports" / "compare.md").read_text(encoding="utf-8")
    report = json.loads((repository / "reports" / "gates.json").read_text(encoding="utf-8"))
    assert (report["kind"], report["paired"], report["failed"]) == ("GateReport", True, 3)


def test_the_script_says_how_it_is_used_and_refuses_a_broken_gate_before_any_replay(run: Run, repository: Path) -> None:
    unused = run("./gates.sh grid")
    assert (unused.returncode, unused.stderr.startswith("Usage: gates.sh GRID TRACE POLICY GATES...")) == (2, True)
    (repository / "broken.yaml").write_text("- attainment >= 99\n")
    broken = run("./gates.sh grid grid/trace.jsonl.gz grid broken.yaml")
    assert broken.returncode == 3
    assert "broken.yaml:1:3" in broken.stderr
    assert not os.path.exists(repository / "reports" / "gates.xml")


@pytest.mark.slow
def test_the_github_workflow_passes_the_grid_s_own_policy(run: Run, repository: Path) -> None:
    workflow = yaml.safe_load((repository / ".github" / "workflows" / "gates.yml").read_text(encoding="utf-8"))
    assert True in workflow or "on" in workflow  # YAML 1.1 reads the key `on` as true; GitHub does not
    (job,) = workflow["jobs"].values()
    steps = [step for step in job["steps"] if "run" in step]
    assert len(steps) == 3
    assert all("uses" in step for step in job["steps"] if step not in steps)
    for step in steps:
        ran = run(step["run"], GITHUB_ACTIONS="true", GITHUB_STEP_SUMMARY=str(repository / "summary.md"))
        assert ran.returncode == 0, f"{step['run']}\n{ran.stderr}"
        assert "::error" not in ran.stderr
    assert "## ✓ all gates hold" in (repository / "summary.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_gitlab_file_refuses_the_change_and_names_the_report_it_leaves(run: Run, repository: Path) -> None:
    (job,) = yaml.safe_load((repository / ".gitlab-ci.yml").read_text(encoding="utf-8")).values()
    *before, last = [*job["before_script"], *job["script"]]
    for line in before:
        ran = run(line, POLICY="nearest")
        assert ran.returncode == 0, f"{line}\n{ran.stderr}"
    assert run(last, POLICY="nearest").returncode == 99
    assert (repository / job["artifacts"]["reports"]["junit"]).exists()
