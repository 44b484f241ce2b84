"""What may go from a site's folder, asked while an agent changes it: what went meanwhile is no error."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from gridctl.agent import collecting
from gridctl.agent.collecting import removable
from gridctl.agent.folder import AgentFolder, files_below, is_folder
from gridctl.agent.journal import Journal
from gridctl.agent.versions import Versions

DAY_S = 86_400.0
LATER_S = 2 * DAY_S


@pytest.fixture
def folder(tmp_path: Path) -> AgentFolder:
    folder = AgentFolder(tmp_path / "agent")
    folder.make()
    return folder


def test_files_are_told_with_their_status_and_links_and_removed_ones_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    for name in ("a", "b", "below/c"):
        (tmp_path / name).write_bytes(b"123")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    looking = files_below(tmp_path)
    first, status = next(looking)
    assert status.st_size == 3
    ({tmp_path / "a", tmp_path / "b"} - {first}).pop().unlink()
    assert [path for path, _ in looking] == [tmp_path / "below" / "c"]
    assert list(files_below(tmp_path / "nowhere")) == []


def test_what_an_agent_removes_while_a_command_looks_is_left_out(
    folder: AgentFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, gone = folder.stage("kept", "1" * 64), folder.stage("gone", "2" * 64)
    version = folder.version("chat", "3" * 64)
    for path in (kept, gone, version):
        path.mkdir(parents=True)
        (path / "weights").write_bytes(b"12345")
    versions = Versions(folder)
    shutil.rmtree(version)

    def seen_as_it_goes(path: Path) -> bool:
        found = is_folder(path)
        if path.name == "gone":
            shutil.rmtree(path)
        return found

    monkeypatch.setattr(collecting, "is_folder", seen_as_it_goes)
    found = removable(folder, versions, Journal(site="paris"), time.time() + LATER_S)
    assert [(item.what, item.path, item.bytes) for item in found] == [("transfer", kept, 5)]
