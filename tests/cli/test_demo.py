"""demo: the whole main job in one command, and nothing of the user's is touched."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

KERNELS = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")


@pytest.fixture
def demo(shell: Callable) -> Callable:
    """Runs the demo with the machine's compiled kernels."""
    return lambda *arguments: shell("demo", *arguments, XDG_CACHE_HOME=KERNELS)


def files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_it_prints_both_tables_as_the_commands_it_shows_do(demo: Callable, shell: Callable) -> None:
    ran = demo()
    assert ran.code == 0, ran.err
    assert "$ per M tokens, goodput" in ran.out
    assert "BASE.CENTRALIZED" in ran.out
    assert "all objectives" in ran.out
    assert "WORST SITE" in ran.out
    shown = [line for line in ran.err.splitlines() if line.startswith("$ ")]
    assert shown == [
        "$ gridctl init metro --example metro",
        "$ gridctl apply -f metro/",
        "$ gridctl replay run metro/trace.jsonl.gz --name base",
        "$ gridctl tokenomics base",
        "$ gridctl sla base --by workload",
    ]
    typed = [shell(*line.split()[2:], XDG_CACHE_HOME=KERNELS) for line in shown]
    assert [one.code for one in typed] == [0] * len(shown)
    assert ran.out == "\n".join(one.out for one in typed[-2:])


@pytest.mark.slow
def test_every_request_of_the_trace_is_accounted_for(demo: Callable) -> None:
    ran = demo("--seed", "7")
    total, completed, rejected, failed = (
        int(number.replace(",", ""))
        for number in re.search(
            r"([\d,]+) requests: ([\d,]+) completed, ([\d,]+) rejected, ([\d,]+) failed", ran.err
        ).groups()
    )
    assert total == completed + rejected + failed > 10_000
    assert "--seed 7" in ran.err


@pytest.mark.slow
def test_without_a_folder_nothing_is_kept_or_changed(demo: Callable, grid: Callable) -> None:
    """`grid` is chosen by GRIDCTL_STORE here: the demo works on its own all the same, and leaves it alone."""
    sites = grid("site", "list", "-o", "name").out
    before = files_below(grid.folder)
    ran = demo()
    assert ran.code == 0, ran.err
    assert files_below(grid.folder) == before
    assert grid("site", "list", "-o", "name").out == sites
    assert grid("run", "list", "-o", "name").out == ""


@pytest.mark.slow
def test_a_folder_is_kept_and_becomes_the_current_context(demo: Callable, shell: Callable) -> None:
    ran = demo("--folder", "mine")
    assert ran.code == 0, ran.err
    assert "$ gridctl apply -f mine/" in ran.err
    assert shell("run", "list", "-o", "name").out.split() == ["base", "base.centralized"]
    assert "de-frankfurt-01" in shell("site", "list", "-o", "name").out


def test_a_folder_that_is_not_empty_is_refused_before_anything_is_printed(demo: Callable, shell: Callable) -> None:
    (shell.folder / "mine").mkdir()
    (shell.folder / "mine" / "notes.txt").write_text("mine")
    ran = demo("--folder", "mine")
    assert (ran.code, ran.out) == (3, "")
    assert "not empty" in ran.err
    assert files_below(shell.folder / "mine") == {"notes.txt"}


def test_quiet_says_nothing_but_errors(demo: Callable, shell: Callable) -> None:
    (shell.folder / "mine").write_text("a file")
    ran = demo("--quiet", "--folder", "mine")
    assert (ran.code, ran.out) == (3, "")
    assert ran.err.startswith("error: ")
