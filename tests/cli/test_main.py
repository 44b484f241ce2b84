"""The door: exit codes, global options, failures that leave stdout empty."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import gridctl
from gridctl.cli import failure
from gridctl.cli.main import hoisted
from gridctl.errors import GridctlError, InputError


def test_version_is_data(shell: Callable) -> None:
    ran = shell("--version")
    assert (ran.code, ran.out, ran.err) == (0, f"gridctl {gridctl.__version__}\n", "")


def test_the_package_runs_as_a_program(shell: Callable) -> None:
    ran = shell.python(
        "import runpy, sys; sys.argv = ['gridctl', '--version']; runpy.run_module('gridctl', run_name='__main__')"
    )
    assert (ran.code, ran.out) == (0, f"gridctl {gridctl.__version__}\n")


def test_no_arguments_print_help(shell: Callable) -> None:
    ran = shell()
    assert ran.code == 0
    assert ran.out.startswith("Usage: gridctl")
    assert ran.err == ""


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["sit"], 2, ["there is no command 'sit'", "did you mean site?"]),
        (["site"], 2, ["a verb is missing"]),
        (["site", "ls"], 2, ["did you mean list?"]),
        (["--stor", "x"], 2, ["there is no option --stor", "did you mean --store?"]),
        (["site", "list", "--outptu", "json"], 2, ["there is no option --outptu", "did you mean --output?"]),
        (["site", "list", "-o", "jsn"], 2, ["'jsn'", "did you mean json?"]),
        (["apply"], 2, ["missing option"]),
        (["--store", "a", "--context", "b", "site", "list"], 2, ["--store and --context"]),
        (["site", "list"], 4, ["no grid is chosen", "gridctl init NAME"]),
        (["--store", "nowhere", "site", "list"], 4, ["there is no grid folder nowhere"]),
        (["--store", "postgresql://h/d", "site", "list"], 3, ["keeps a grid in a folder"]),
        (["--context", "nowhere", "site", "list"], 4, ["there is no context 'nowhere'"]),
        (["explain", "site.teir"], 4, ["site.tier"]),
        (["help", "concpts"], 4, ["did you mean concepts?"]),
        (["validate", "-f", "missing.yaml"], 3, ["missing.yaml"]),
        (["config", "set", "color", "blue"], 3, ["color cannot be 'blue'"]),
    ],
)
def test_failures_say_what_where_and_fix_and_print_no_data(
    shell: Callable, arguments: list[str], code: int, words: list[str]
) -> None:
    ran = shell(*arguments)
    assert ran.code == code
    assert ran.out == ""
    assert ran.err.startswith("error: ")
    assert all(word in ran.err for word in words), ran.err


def test_missing_grid_resource_is_exit_4_with_the_nearest_name(grid: Callable) -> None:
    ran = grid("site", "get", "fr-pariss-01")
    assert (ran.code, ran.out) == (4, "")
    assert "did you mean fr-paris-01?" in ran.err


def test_global_options_stand_anywhere_before_a_double_dash() -> None:
    assert hoisted(["site", "list", "--store", "g", "-q"]) == ["--store", "g", "-q", "site", "list"]
    assert hoisted(["site", "list", "--store=g"]) == ["--store=g", "site", "list"]
    assert hoisted(["a", "--", "-q", "--store", "g"]) == ["a", "--", "-q", "--store", "g"]
    assert hoisted(["a", "--store"]) == ["--store", "a"]


def test_store_after_the_verb_is_honoured(grid: Callable) -> None:
    store = grid.environment.pop("GRIDCTL_STORE")
    assert grid("site", "list", "-o", "name", "--store", store).out == "fr-paris-01\nno-oslo-01\n"


def test_quiet_silences_notes_and_keeps_data(grid: Callable) -> None:
    ran = grid("site", "cordon", "fr-paris-01", "-q", "-o", "name")
    assert (ran.code, ran.out, ran.err) == (0, "fr-paris-01\n", "")


def test_errors_are_red_only_when_colour_is_wanted(shell: Callable) -> None:
    assert "\x1b[" not in shell("config", "get", "colr").err
    assert "\x1b[31merror:" in shell("--color", "always", "site", "get", "x").err
    assert "\x1b[" not in shell("--color", "always", "--color", "never", "site", "get", "x").err


def test_a_reader_that_closes_the_pipe_is_no_failure(grid: Callable) -> None:
    command = f"{sys.executable} -m gridctl gpu list -o json | head -c 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, env=grid.environment, cwd=grid.folder, check=True
    )
    assert done.stdout == "{0\n"
    assert done.stderr == ""


def test_a_full_disk_under_stdout_is_reported(grid: Callable) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    command = f"{sys.executable} -m gridctl gpu list > /dev/full"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, env=grid.environment, cwd=grid.folder, check=False
    )
    assert done.returncode == 3
    assert "cannot write the output" in done.stderr


def test_an_unforeseen_exception_is_our_bug_and_hides_its_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(failure.DEBUG_VARIABLE, raising=False)
    assert failure.report_bug(ValueError("odd\nsecond line")) == 1
    err = capsys.readouterr().err
    assert "ValueError: odd" in err
    assert "GRIDCTL_DEBUG=1" in err
    assert "second line" not in err
    monkeypatch.setenv(failure.DEBUG_VARIABLE, "1")
    assert failure.report_bug(ValueError("odd")) == 1
    assert "ValueError: odd" in capsys.readouterr().err


def test_related_errors_are_shown_up_to_twenty_and_then_counted(capsys: pytest.CaptureFixture[str]) -> None:
    error = InputError("first", related=[InputError(f"other {n}") for n in range(23)])
    assert failure.report(error) == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("error: ") == 21
    assert captured.err.endswith("and 3 more\n")


def test_text_from_outside_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    failure.report(GridctlError("bad \x1b[2J name", where="a\x07b"))
    err = capsys.readouterr().err
    assert "\x1b" not in err
    assert "\\x1b[2J" in err


def test_an_interrupt_exits_130(shell: Callable) -> None:
    code = (
        "import gridctl.cli.main as m, gridctl.cli.failure as f\n"
        "def stop(_): raise KeyboardInterrupt\n"
        "m._run = stop\n"
        "m.main(['site', 'list'])"
    )
    ran = shell.python(code)
    assert (ran.code, ran.out, ran.err) == (130, "", "interrupted\n")
