"""Detached starts: what one that must fail leaves alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from gridctl.control.folder import ControlFile, LiveFolder
from gridctl.errors import InputError
from gridctl.orchestrator.context import home_of
from gridctl.orchestrator.detaching import LOG, LOG_BEFORE, detached


def test_a_second_start_says_who_runs_and_leaves_its_log_alone(tmp_path: Path) -> None:
    home = home_of(tmp_path / "grid", "test")
    home.runs.mkdir(parents=True)
    folder = LiveFolder(home.database)
    folder.make()
    log = folder.log / LOG
    log.write_text("what the one that runs has said\n", encoding="utf-8")
    running = ControlFile(
        pid=4711,
        state="ready",
        data_url="http://127.0.0.1:8080",
        admin="unix:admin.sock",
        board="board",
        workers=1,
        version="0",
        started_unix_ns=0,
    )
    with folder.held():
        folder.write(running)
        with pytest.raises(InputError, match=r"runs already: process 4711, http://127\.0\.0\.1:8080") as raised:
            detached(home, ["--version"])
    assert raised.value.where == str(folder.lock)
    assert raised.value.fix is not None
    assert "gridctl down" in raised.value.fix
    assert log.read_text(encoding="utf-8") == "what the one that runs has said\n"


def test_what_a_crashed_one_has_said_stays_beside_the_new_log(tmp_path: Path) -> None:
    home = home_of(tmp_path / "grid", "test")
    home.runs.mkdir(parents=True)
    folder = LiveFolder(home.database)
    folder.make()
    (folder.log / LOG).write_text("its last words\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"^gridctl \d"):
        detached(home, ["--version"])
    assert (folder.log / LOG_BEFORE).read_text(encoding="utf-8") == "its last words\n"
