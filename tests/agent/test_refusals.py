"""What an agent says when the orchestrator refuses: its reason, in one printable line, and no more of it than fits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from agentworld import Orchestrator, order_for, work_until

SITE = "fr-paris-01"
REPOSITORY = Path(__file__).resolve().parents[2]


def said_after(orchestrator: Orchestrator, tmp_path: Path, body: bytes) -> str:
    order = order_for(orchestrator, tmp_path / "agent")
    orchestrator.wish(SITE)
    orchestrator.refusals = [(422, {}, body)]
    said = work_until(order, lambda: 200 in orchestrator.statuses, "a sync that works")
    return next(line for line in said if "422" in line)


def test_the_orchestrators_own_words_are_passed_on(orchestrator: Orchestrator, tmp_path: Path) -> None:
    body = {"status": 422, "kind": "input", "what": "signatures need cryptography", "fix": "install it", "exit_code": 3}
    line = said_after(orchestrator, tmp_path, json.dumps(body).encode())
    assert line == "the orchestrator answers 422: signatures need cryptography; there: install it"


def test_words_meant_for_a_terminal_reach_it_as_spaces(orchestrator: Orchestrator, tmp_path: Path) -> None:
    line = said_after(orchestrator, tmp_path, json.dumps({"what": "red \x1b[31m\nnew line" + "x" * 20_000}).encode())
    assert line.startswith("the orchestrator answers 422")
    assert line.isprintable()
    assert len(line) < 400


def test_a_page_of_a_proxy_is_not_repeated(orchestrator: Orchestrator, tmp_path: Path) -> None:
    assert said_after(orchestrator, tmp_path, b"<html>not here") == "the orchestrator answers 422"


def test_an_empty_release_key_ends_the_command_at_once(tmp_path: Path) -> None:
    key, token = tmp_path / "key.pem", tmp_path / "token"
    key.write_text("")
    token.write_text("t")
    words = ["--url", "http://127.0.0.1:9", "--token-file", str(token), "--folder", str(tmp_path / "a")]
    done = subprocess.run(
        [sys.executable, "-m", "gridctl", "agent", "--site", SITE, *words, "--key", str(key)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 3
    assert "is no release key (an" in done.stderr
    assert "gridctl rollout key" in done.stderr
    assert not (tmp_path / "a").exists()
