"""`gridctl agent`: run once, as a service, status and gc, in processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from agentworld import TOKEN, Orchestrator, Pushed, committed_digest, wait_for, wanted

from gridctl.agent.collecting import removable
from gridctl.agent.folder import AgentFolder
from gridctl.agent.journal import Journal
from gridctl.agent.versions import Versions

REPOSITORY = Path(__file__).resolve().parents[2]
SITE = "fr-paris-01"
DAY_S = 86_400.0


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "gridctl", "agent", *map(str, words)]


def gridctl(*words: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(
        command(*words), capture_output=True, text=True, timeout=60, check=False, env=environment, cwd=REPOSITORY
    )


@pytest.fixture
def flags(orchestrator: Orchestrator, tmp_path: Path) -> list[object]:
    (tmp_path / "token").write_text(TOKEN + "\n")
    (tmp_path / "release.pub").write_text(orchestrator.key.public_pem)
    return [
        "--site", SITE, "--url", orchestrator.url, "--token-file", tmp_path / "token", "--folder", tmp_path / "agent",
        "--key", tmp_path / "release.pub", "--keep-free", "0",
    ]  # fmt: skip


def test_once_brings_what_is_wanted_and_status_and_gc_show_it(
    orchestrator: Orchestrator, models: dict[str, Pushed], flags: list[object], tmp_path: Path
) -> None:
    for counter, name in enumerate(("one", "two", "three"), start=1):
        orchestrator.wish(SITE, wanted(models[name], "commit", counter))
        done = gridctl(*flags, "--once", "-o", "json")
        assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["kind"] == "AgentVersionList"
    assert {row["digest"] for row in told["items"]} == {models[name].digest for name in ("one", "two", "three")}

    folder = tmp_path / "agent"
    rows = json.loads(gridctl("status", "--folder", folder, "--verify", "-o", "json").stdout)["items"]
    assert [(row["role"], row["counter"], row["state"]) for row in rows] == [
        ("committed", 3, "verified"),
        ("previous", 2, "verified"),
        ("staged", None, "verified"),
    ]
    assert rows[0]["bytes"] == models["three"].total_bytes

    assert json.loads(gridctl("gc", "--folder", folder, "--dry-run", "-o", "json").stdout)["items"] == [], (
        "nothing of the last day goes"
    )
    here = AgentFolder(folder)
    found = removable(here, Versions(here), Journal(site=SITE), time.time() + 2 * DAY_S)
    one = {digest for item in found for digest in [item.digest] if item.what == "version"}
    assert one == {models["one"].digest}, "the committed and the previous version stay, whatever their age"
    kept = {digest for name in ("two", "three") for digest in models[name].files.values()}
    gone = {item.digest for item in found if item.what == "blob"}
    assert gone == set(models["one"].files.values()) - kept

    victim = folder / "models/llama" / models["three"].digest[7:] / "config.json"
    victim.chmod(0o644)
    victim.write_text("{}")
    done = gridctl("status", "--folder", folder, "--verify")
    assert done.returncode == 3
    assert "damaged" in done.stdout


def test_a_service_ends_in_order_on_sigterm(
    orchestrator: Orchestrator, models: dict[str, Pushed], flags: list[object], tmp_path: Path
) -> None:
    orchestrator.wish(SITE, wanted(models["one"], "commit", 1))
    process = subprocess.Popen(
        command("run", *flags), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY
    )
    try:
        wait_for(lambda: committed_digest(tmp_path / "agent") == models["one"].digest, "the commit")
        second = gridctl("run", *flags)
        assert second.returncode == 3
        assert f"process {process.pid}" in second.stderr
        process.send_signal(signal.SIGTERM)
        out, said = process.communicate(timeout=20)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0
    assert out == ""
    assert "serves v1" in said
    assert TOKEN not in said
    assert json.loads((tmp_path / "agent/journal.json").read_text())["is_clean"] is True


def test_once_fails_when_something_does(
    orchestrator: Orchestrator, models: dict[str, Pushed], flags: list[object]
) -> None:
    orchestrator.wish(SITE, wanted(models["one"], "commit", 1))
    done = gridctl(*flags, "--once", "--architecture", "qwen3")
    assert done.returncode == 5
    assert done.stdout == ""
    assert "llama: architecture" in done.stderr
    orchestrator.tokens = set()
    done = gridctl(*flags, "--once")
    assert done.returncode == 3
    assert "does not accept the token" in done.stderr


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("--url", "http://grid.example.com"), "not a URL to talk to"),
        (("--url", "ftp://x"), "not a URL to talk to"),
        (("--token-file", "/nowhere"), "token cannot be read"),
        (("--key", "/nowhere"), "key cannot be read"),
        (("--bandwidth", "0"), "nothing moves"),
        (("--interval", "0s"), "interval"),
        (("--reload-command", "'unclosed"), "not a command"),
        (("--engine-url", "localhost:8000"), "not a URL"),
    ],
    ids=["clear-text", "scheme", "token", "key", "bandwidth", "interval", "command", "engine"],
)
def test_wrong_flags_are_told_before_anything_is_made(
    change: tuple[str, str], words: str, flags: list[object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from gridctl.cli.main import main

    with pytest.raises(SystemExit) as ended:
        main(["agent", "run", *map(str, flags), *change])
    assert ended.value.code in (2, 3)
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.out == ""
    assert not (tmp_path / "agent").exists()
