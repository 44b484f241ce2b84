"""The live folder: one orchestrator at a time, and nothing a killed one left is believed."""

from __future__ import annotations

import os
import stat
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from gridctl.control.folder import ControlFile, LiveFolder, write_private
from gridctl.errors import InputError, StoreError
from gridctl.registry.lock import try_lock

FILE = ControlFile(
    pid=1, state="ready", data_url="http://x", admin="unix:/x", board="b", workers=1, version="1", started_unix_ns=1
)


@pytest.fixture
def folder(tmp_path: Path) -> LiveFolder:
    folder = LiveFolder(tmp_path / "grid.db")
    folder.make()
    return folder


def test_a_file_without_a_held_lock_is_what_a_killed_process_left(folder: LiveFolder) -> None:
    assert folder.running() is None
    folder.write(FILE)
    assert folder.running() is None
    with folder.held():
        assert folder.running() is None  # the new one has swept what the old one left
        folder.write(FILE)
        assert folder.running() == FILE
    assert folder.running() is None
    assert not folder.control.exists()


def test_one_who_looks_at_the_same_instant_is_not_taken_for_an_orchestrator(
    folder: LiveFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[ControlFile | None] = []

    def looked_at_twice(descriptor: int, *, shared: bool = False) -> bool:
        is_free = try_lock(descriptor, shared=shared)
        if not seen:
            seen.append(None)
            seen.append(folder.running())  # while the first still looks
        return is_free

    with folder.held():
        pass
    folder.write(FILE)  # as a killed one leaves it
    monkeypatch.setattr("gridctl.control.folder.try_lock", looked_at_twice)
    assert folder.running() is None
    assert seen == [None, None]


def test_what_a_killed_one_left_is_not_believed_while_the_next_one_begins(
    folder: LiveFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with folder.held():
        pass
    folder.write(FILE)  # as a killed one leaves it
    looked = ThreadPoolExecutor(1)
    swept: list[Future[ControlFile | None]] = []
    sweep, answered = LiveFolder._sweep, threading.Event()

    def late(self: LiveFolder) -> None:
        if not swept:
            swept.append(looked.submit(folder.running))
            swept[0].add_done_callback(lambda _: answered.set())
            assert not answered.wait(0.1), "it knows nothing before the folder is swept"
            sweep(self)

    monkeypatch.setattr(LiveFolder, "_sweep", late)
    with looked, folder.held():
        assert swept[0].result(30) is None


def test_only_one_holds_it_and_the_other_is_told_who(folder: LiveFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gridctl.control.folder.LOCK_PATIENCE_S", 0.05)
    with folder.held():
        folder.write(FILE)
        with pytest.raises(InputError, match="runs already: process 1, http://x"), folder.held():
            pass


def test_what_is_left_is_swept_even_after_an_error(folder: LiveFolder) -> None:
    def fail() -> None:
        with folder.held():
            folder.write(FILE)
            folder.plan(3).write_text("{}")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert sorted(path.name for path in folder.path.iterdir()) == ["lock", "log", "recordings"]


def test_a_file_of_another_version_is_said_to_be_one(folder: LiveFolder) -> None:
    with folder.held():
        folder.control.write_text('{"pid": "seven"}')
        with pytest.raises(StoreError, match="cannot be read"):
            folder.running()


def test_folders_and_files_are_their_owners_alone(folder: LiveFolder) -> None:
    write_private(folder.path / "x", b"secret")
    assert stat.S_IMODE((folder.path / "x").stat().st_mode) == 0o600
    for path in (folder.path, folder.log, folder.recordings):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_a_write_that_fails_leaves_the_old_file_and_no_other(folder: LiveFolder) -> None:
    target = folder.path / "taken"
    target.mkdir()
    (target / "inside").touch()
    with pytest.raises(StoreError):
        write_private(target, b"x")
    assert sorted(os.listdir(folder.path)) == ["log", "recordings", "taken"]


def test_a_socket_has_a_short_path_however_deep_the_grid_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    near, deep = LiveFolder(Path("/g/grid.db")), LiveFolder(Path("/" + "deep/" * 40) / "grid.db")
    assert near.socket == Path("/g/live/admin.sock")
    assert deep.socket.parent == Path("/run/user/7")
    assert len(str(deep.socket)) < 100
    assert deep.socket != LiveFolder(Path("/" + "deep/" * 41) / "grid.db").socket
