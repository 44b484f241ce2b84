"""The door: exit codes, global options, failures that leave stdout empty."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

import gridctl
from gridctl.cli import failure
from gridctl.cli.main import hoisted, root
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
        (["run", "compare", "a", "b"], 2, ["did you mean gridctl replay compare?"]),
        (["model", "rollout", "status"], 2, ["did you mean gridctl rollout?"]),
        (["site", "xyzzy"], 2, ["see: gridctl site --help"]),
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


COMMAND = f"{sys.executable} -m gridctl"


@pytest.mark.parametrize(
    ("closed", "code", "heard"),
    [(">&-", 0, ""), ("2>&-", 0, "/v1"), ("<&-", 0, "/v1"), ("<&- >&- 2>&-", 0, "")],
    ids=["stdout", "stderr", "stdin", "all"],
)
def test_closed_standard_streams_are_no_failure(grid: Any, closed: str, code: int, heard: str) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f"{COMMAND} site get no-oslo-01 -o json {closed}"],
        capture_output=True,
        text=True,
        cwd=grid.folder,
        env=grid.environment,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (code, "")
    assert heard in done.stdout
    missing = subprocess.run(
        ["/bin/sh", "-c", f"{COMMAND} site get nowhere {closed}"],
        capture_output=True,
        text=True,
        cwd=grid.folder,
        env=grid.environment,
        timeout=60,
        check=False,
    )
    assert missing.returncode == 4
    assert "Traceback" not in missing.stderr


def test_a_closed_stdout_is_not_given_to_a_file_that_is_opened_later(shell: Any) -> None:
    """Numbers 0 to 2 are taken before anything is opened, or data would be printed into a database."""
    code = (
        "import os, sys; from gridctl.cli import main; main._open_closed_streams(); "
        "sys.stdout.write('x'); sys.stdout.flush(); number = os.open('later', os.O_CREAT | os.O_WRONLY); "
        "sys.exit(number <= 2 or sys.stdin.read() != '')"
    )
    done = subprocess.run(
        ["/bin/sh", "-c", f'{sys.executable} -c "{code}" <&- >&-'],
        capture_output=True,
        text=True,
        cwd=shell.folder,
        env=shell.environment,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_time_limit_s_signal_unwinds_and_leaves_nothing_behind(shell: Any) -> None:
    """SIGTERM, as `timeout` sends it, in the middle of work that holds a temporary folder."""
    code = (
        "import sys, tempfile, pathlib; from gridctl.cli import main\n"
        "def work(arguments):\n"
        "    with tempfile.TemporaryDirectory(dir='.', prefix='work-'):\n"
        "        print('working', flush=True); sys.stdin.read()\n"
        "main._run = work\n"
        "sys.argv = ['gridctl', 'x']; main.main()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=shell.folder,
        env=shell.environment,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "working\n"
        assert len(list(shell.folder.glob("work-*"))) == 1
        process.terminate()
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (143, "interrupted\n")
    assert list(shell.folder.glob("work-*")) == []


def test_what_the_system_refuses_comes_with_a_fix() -> None:
    for number in (errno.ENOSPC, errno.EACCES, errno.EISDIR, errno.EIO):
        assert failure.system_error(OSError(number, "no", "there")).fix


def test_verbs_that_are_suggested_elsewhere_are_there() -> None:
    group = root()
    context = typer.Context(group, info_name="gridctl")
    for suggestion in failure.ELSEWHERE.values():
        _, noun, verb = suggestion.split()
        command: Any = group.get_command(context, noun)
        assert verb in command.list_commands(context)
