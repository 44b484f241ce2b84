"""Answers of one version of a model's weights: purged by its digest, through gateway, keeper and a site's agent."""

from __future__ import annotations

import contextlib
import json
import urllib.request
from collections.abc import Callable
from pathlib import Path

from liveprograms import MockEngine, Orchestrator, gridctl, wait_for
from ports import free_port

Starter = Callable[..., Orchestrator]
FIRST, SECOND = "sha256:" + "0" * 64, "sha256:" + "1" * 64


def test_weights_answer_for_themselves_and_are_purged_by_their_digest(
    tmp_path: Path, programs: contextlib.ExitStack, orchestrate: Starter
) -> None:
    quick = ("--ttft-ms", "5", "--tpot-ms", "1", "--model-name", "tiny")
    engine = MockEngine.start_mock(tmp_path / "engine.log", *quick, port=free_port())
    programs.callback(engine.end)
    admin = f"http://127.0.0.1:{free_port()}"
    live = orchestrate({"paris": [engine.url]}, "--admin", admin.removeprefix("http://"))
    shown = json.loads(gridctl("workload", "get", "chat", "-o", "json", store=live.store).stdout)
    shown["spec"]["cache"] = {"mode": "exact"}
    (tmp_path / "cached.json").write_text(json.dumps(shown))
    assert gridctl("apply", "-f", str(tmp_path / "cached.json"), store=live.store).returncode == 0
    wait_for("the keeper", lambda: live.ask("cache", "status")["state"] == "up", 30)
    made = gridctl("token", "create", "agent-paris", "--role", "agent", "--site", "paris", store=live.store)

    def post(url: str, document: object, **headers: str) -> str:
        body, kind = json.dumps(document).encode(), {"content-type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(url, body, kind | headers), timeout=20) as answer:
            answer.read()
            return str(answer.headers.get("x-gridctl-cache", ""))

    def serves(digest: str, seq: int) -> None:
        """The site's agent says which weights its engine has; the workers follow a plan that says so."""
        held = {"model": "tiny", "committed": {"digest": digest, "variant": "bf16", "counter": seq}}
        report = {"boot_id": "paris-1", "seq": seq, "generation": 0, "actual": [held]}
        before = live.ask("status")["generation"]
        post(f"{admin}/v1/sites/paris/sync", report, authorization=f"Bearer {made.stdout.strip()}")
        wait_for("a plan with those weights", lambda: live.ask("status")["generation"] > before, 20)

    def asked(text: str) -> str:
        message = {"model": "tiny", "temperature": 0, "messages": [{"role": "user", "content": text}]}
        return post(f"{live.url}/v1/chat/completions", message).split("; age")[0]

    def forgotten(digest: str) -> int:
        return int(live.ask("cache", "purge", "--digest", digest)["entries"])

    for seq, (digest, text) in enumerate(((FIRST, "the first question"), (SECOND, "the second question")), start=1):
        serves(digest, seq)
        wait_for(f"{text} to be kept", lambda text=text: asked(text) == "hit; level=exact", 20)  # type: ignore[misc]
    wait_for("the servings to be written down", lambda: hits_of_tenant(live) >= 2, 20)
    told = gridctl("cache", "status", "--by", "tenant", store=live.store)
    assert "judged wrong" in told.stdout.lower(), told.stderr
    assert "default" in told.stdout
    # Other weights may answer otherwise: what the former ones said is not said for them.
    assert asked("the first question").startswith("miss")
    wait_for("its answer by the new weights", lambda: asked("the first question") == "hit; level=exact", 20)
    assert forgotten("sha256:" + "2" * 64) == 0
    assert forgotten(FIRST) == 1
    assert asked("the first question") == "hit; level=exact"
    assert asked("the second question") == "hit; level=exact"
    assert forgotten(SECOND) == 2
    assert asked("the second question").startswith("miss")


def hits_of_tenant(live: Orchestrator) -> int:
    """Answers that went to the only tenant there is."""
    tenants = live.ask("cache", "status")["tenants"]
    assert {one["tenant"] for one in tenants} <= {"default"}
    return sum(one["hits"] for one in tenants)
