"""Completion: committed scripts are the generated ones; words come from the grammar and the registry."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from gridctl.cli.completion import SCRIPTS

COMPLETIONS = Path(__file__).resolve().parents[2] / "completions"


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_committed_script_is_what_the_command_prints(shell: Callable, name: str) -> None:
    assert (COMPLETIONS / f"gridctl.{name}").read_text(encoding="utf-8") == shell("completion", name).out


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_script_is_valid_for_its_shell(name: str) -> None:
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    subprocess.run([name, "-n", str(COMPLETIONS / f"gridctl.{name}")], check=True)


def _words(grid: Callable, *line: str) -> list[str]:
    ran = grid("completion", "words", "--", *line)
    assert (ran.code, ran.err) == (0, "")
    return [row.split("\t")[0] for row in ran.out.splitlines()]


def test_words_follow_the_grammar(grid: Callable) -> None:
    assert _words(grid, "si") == ["site"]
    assert {"list", "cordon"} <= set(_words(grid, "site", ""))
    assert _words(grid, "site", "list", "-o", "js") == ["json", "jsonl"]
    assert "--selector" in _words(grid, "site", "list", "--s")
    assert _words(grid, "get", "work") == ["workload"]


def test_resource_names_come_from_the_registry(grid: Callable) -> None:
    assert _words(grid, "site", "get", "fr") == ["fr-paris-01"]
    assert _words(grid, "get", "sites", "") == ["fr-paris-01", "no-oslo-01"]
    store = grid.environment.pop("GRIDCTL_STORE")
    assert _words(grid, "--store", store, "cluster", "drain", "") == ["oslo-gpu"]


def test_without_a_grid_or_with_nonsense_there_is_silence(shell: Callable) -> None:
    for line in (["site", "get", ""], ["nonsense", ""], ["site", "list", "--nonsense", ""]):
        ran = shell("completion", "words", "--", *line)
        assert (ran.code, ran.err) == (0, "")


def test_bash_completes_through_the_script(grid: Callable, tmp_path: Path) -> None:
    if shutil.which("bash") is None:
        pytest.skip("bash is not installed")
    import sys

    program = tmp_path / "bin" / "gridctl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m gridctl "$@"\n')
    program.chmod(0o755)
    script = (
        f"PATH={program.parent}:$PATH; source {COMPLETIONS / 'gridctl.bash'}; "
        "COMP_WORDS=(gridctl site get fr); COMP_CWORD=3; _gridctl; echo ${COMPREPLY[@]}"
    )
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, env=grid.environment, cwd=grid.folder, check=True
    )
    assert done.stdout == "fr-paris-01\n"
