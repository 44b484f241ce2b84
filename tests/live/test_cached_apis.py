"""Kept answers at the Messages and Responses APIs: `gridctl up` before a mock engine, read as bytes and by the official
clients, which run in the Python that GRIDCTL_SDK_PYTHON names; without one that test is skipped."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from livegrid import write_grid
from liveprograms import MockEngine, Orchestrator, apply_grid, wait_for

SAID = [{"role": "user", "content": "tell me of the edge"}]
ASKED: dict[str, dict[str, Any]] = {
    # The mock engine ends a message by itself only where it meets a stop sequence.
    "/v1/messages": {"model": "tiny", "max_tokens": 64, "messages": SAID, "temperature": 0, "stop_sequences": [" "]},
    "/v1/responses": {"model": "tiny", "input": SAID, "store": False, "temperature": 0},
}


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[MockEngine, Orchestrator]]:
    folder = tmp_path_factory.mktemp("apis")
    with contextlib.ExitStack() as stack:
        engine = MockEngine.start_mock(
            folder / "engine.log", "--ttft-ms", "5", "--tpot-ms", "1", "--model-name", "tiny"
        )
        stack.callback(engine.end)
        manifests = folder / "grid"
        manifests.mkdir()
        write_grid(manifests / "grid.yaml", {"paris": [engine.url]})
        documents = [json.loads(one) for one in (manifests / "grid.yaml").read_text().split("---\n")]
        for one in documents:
            if one["kind"] == "Workload":
                one["spec"]["cache"] = {"mode": "exact"}
        (manifests / "grid.yaml").write_text("---\n".join(json.dumps(one) + "\n" for one in documents))
        store = folder / "store"
        apply_grid(store, manifests)
        orchestrator = Orchestrator.start(folder, store, "--default-origin", "paris", "--anonymous")
        stack.callback(orchestrator.end)
        orchestrator.wait_until_ready()
        wait_for("the keeper", lambda: orchestrator.ask("cache", "status")["state"] == "up", 30)
        yield engine, orchestrator


def ask(orchestrator: Orchestrator, path: str, **more: Any) -> httpx.Response:
    answer = httpx.post(orchestrator.url + path, json={**ASKED[path], **more}, timeout=30)
    assert answer.status_code == 200, answer.text
    return answer


def kept(orchestrator: Orchestrator, path: str) -> httpx.Response:
    """Ask until the answer is kept."""

    def look() -> httpx.Response | None:
        answer = ask(orchestrator, path)
        return answer if answer.headers["x-gridctl-cache"].startswith("hit") else None

    return wait_for(f"a hit at {path}", look, 20, every_s=0.1)


def events_of(body: bytes) -> list[dict[str, Any]]:
    """The events, pieces of text that follow each other as one."""
    made: list[dict[str, Any]] = []
    for line in body.split(b"\n"):
        if not line.startswith(b"data: "):
            continue
        said = json.loads(line[6:])
        said.pop("sequence_number", None)
        if made and said["type"] == made[-1]["type"] == "response.output_text.delta":
            made[-1]["delta"] += said["delta"]
        elif made and said["type"] == made[-1]["type"] == "content_block_delta":
            made[-1]["delta"]["text"] += said["delta"]["text"]
        else:
            made.append(said)
    return made


def without_ids(said: Any) -> Any:
    """What was said, without what is another one in every answer."""
    if isinstance(said, dict):
        return {name: without_ids(value) for name, value in said.items() if name not in ("id", "item_id", "created_at")}
    return [without_ids(one) for one in said] if isinstance(said, list) else said


@pytest.mark.parametrize("path", list(ASKED))
def test_a_kept_answer_is_what_the_engine_says_whole_and_streamed(
    grid: tuple[MockEngine, Orchestrator], path: str
) -> None:
    engine, orchestrator = grid
    asked = ASKED[path]
    direct = httpx.post(engine.url + path, json=asked)
    streamed = httpx.post(engine.url + path, json={**asked, "stream": True})
    hit = kept(orchestrator, path)
    stream = ask(orchestrator, path, stream=True)
    assert without_ids(hit.json()) == without_ids(direct.json())
    assert stream.headers["x-gridctl-cache"].startswith("hit; level=exact")
    assert stream.headers["content-type"].startswith("text/event-stream")
    names = [line for line in stream.text.split("\n") if line.startswith("event: ")]
    assert names == [
        f"event: {json.loads(line[6:])['type']}" for line in stream.text.split("\n") if line[:5] == "data:"
    ]
    assert without_ids(events_of(stream.content)) == without_ids(events_of(streamed.content))
    told = orchestrator.ask("explain", "request", stream.headers["x-request-id"])
    assert told["output_tokens"] == (direct.json()["usage"]["output_tokens"])


def test_official_clients_of_both_apis_understand_kept_answers(grid: tuple[MockEngine, Orchestrator]) -> None:
    python = os.environ.get("GRIDCTL_SDK_PYTHON")
    if python is None:
        pytest.skip("GRIDCTL_SDK_PYTHON names no Python with anthropic and openai")
    engine, orchestrator = grid
    texts = {}
    for path in ASKED:
        kept(orchestrator, path)
        said = httpx.post(engine.url + path, json=ASKED[path]).json()
        texts[path] = (said["content"] if path == "/v1/messages" else said["output"][0]["content"])[0]["text"]
    clients = Path(__file__).with_name("sdkcache.py")

    def look() -> dict[str, Any] | None:
        """The version that the client says in its head parts its messages from those above: its own are to be kept."""
        done = subprocess.run(
            [python, str(clients), orchestrator.url, "tiny"], capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found if all(word.startswith("hit") for one in found.values() for word in one["words"]) else None

    told = wait_for("kept answers at both", look, 60)
    for path, name in (("/v1/messages", "messages"), ("/v1/responses", "responses")):
        assert told[name]["texts"] == [texts[path]] * 2
        assert all(word.startswith("hit; level=exact") for word in told[name]["words"]), told[name]
        assert len(set(told[name]["ids"])) == 2, "each request has an id of its own"
    assert told["messages"]["stops"] == ["stop_sequence", "stop_sequence", " ", " "]
    assert told["messages"]["kinds"] == ["message_start", "message_stop"]
    assert told["responses"]["states"] == ["completed", "completed"]
    assert told["responses"]["kinds"] == ["response.created", "response.completed"]
