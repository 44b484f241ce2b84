"""The Messages and Responses APIs through the gateway, byte for byte, and hedges: `gridctl up` before mock engines.

The official clients run in the Python that GRIDCTL_SDK_PYTHON names, which has `anthropic` and `openai`; without one
that test is skipped, and the others read the bytes themselves.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from liveprograms import MockEngine, Starter

TIMES = ("--ttft-ms", "20", "--tpot-ms", "1", "--model-name", "tiny")
SAID = [{"role": "user", "content": "tell me of the edge"}]
ASKED: dict[str, dict[str, Any]] = {
    "/v1/messages": {"model": "tiny", "max_tokens": 6, "messages": SAID, "system": [{"type": "text", "text": "brief"}]},
    "/v1/responses": {"model": "tiny", "max_output_tokens": 6, "input": SAID, "instructions": "brief"},
}


@pytest.fixture
def mock_engine(tmp_path: Path, programs: contextlib.ExitStack) -> Callable[[str], MockEngine]:
    """Start a mock engine."""

    def start(name: str) -> MockEngine:
        engine = MockEngine.start_mock(tmp_path / f"{name}.log", *TIMES)
        programs.callback(engine.end)
        return engine

    return start


def same_but_ids(body: bytes) -> bytes:
    """A body without what is another one in every answer: its ids and when it was made."""
    return re.sub(rb"(msg|resp)_[0-9a-f]{24}|\"created_at\":\d+", b"", body)


def test_messages_and_responses_pass_the_gateway_byte_for_byte_and_are_metered(
    orchestrate: Starter, mock_engine: Callable[[str], MockEngine]
) -> None:
    engine = mock_engine("paris")
    orchestrator = orchestrate({"paris": [engine.url]}, "--default-origin", "paris", "--admin", "127.0.0.1:0")
    for path, body in ASKED.items():
        for is_stream in (False, True):
            asked = {**body, "stream": is_stream}
            direct = httpx.post(engine.url + path, json=asked)
            through = httpx.post(orchestrator.url + path, json=asked)
            assert (direct.status_code, through.status_code) == (200, 200), through.text
            assert same_but_ids(through.content) == same_but_ids(direct.content)
            assert b"[DONE]" not in through.content
            assert through.headers["content-type"] == direct.headers["content-type"]
            told = orchestrator.ask("explain", "request", through.headers["x-request-id"])
            # "brief tell me of the edge" has six tokens, and six were asked for.
            assert (told["input_tokens"], told["output_tokens"], told["is_estimated"]) == (6, 6, False), (path, told)
    wrong = httpx.post(f"{orchestrator.url}/v1/messages", json={"model": "tiny", "messages": SAID})
    assert (wrong.status_code, wrong.json()["type"]) == (400, "error")
    assert wrong.json()["error"]["type"] == "invalid_request_error"
    unknown = httpx.post(f"{orchestrator.url}/v1/messages", json={**ASKED["/v1/messages"], "model": "none"})
    assert (unknown.status_code, unknown.json()["error"]["type"]) == (404, "not_found_error")


def test_official_clients_of_both_apis_understand_what_the_gateway_passes_on(
    orchestrate: Starter, mock_engine: Callable[[str], MockEngine]
) -> None:
    python = os.environ.get("GRIDCTL_SDK_PYTHON")
    if python is None:
        pytest.skip("GRIDCTL_SDK_PYTHON names no Python with anthropic and openai")
    engine = mock_engine("paris")
    orchestrator = orchestrate({"paris": [engine.url]}, "--default-origin", "paris")
    clients = Path(__file__).with_name("sdkclients.py")
    done = subprocess.run(
        [python, str(clients), orchestrator.url, "tiny"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    messages, responses = said["messages"], said["responses"]
    assert messages["text"] == messages["streamed"]
    assert (messages["stop"], messages["streamed_stop"], messages["usage"]) == ("max_tokens", "max_tokens", [7, 6])
    assert messages["stopped"] == ["stop_sequence", " "]
    assert messages["refused"] == "NotFoundError 404 error not_found_error"
    assert responses["text"] == responses["streamed"]
    assert (responses["status"], responses["usage"], responses["final_usage"]) == ("incomplete", [5, 6], 6)
    assert responses["kinds"][0] == "response.created"
    assert responses["kinds"][-1] == "response.incomplete"
    assert responses["helped"] == ["completed", True]


def test_a_stream_that_begins_late_is_hedged_where_that_is_asked_for_and_the_loser_is_freed(
    orchestrate: Starter, mock_engine: Callable[[str], MockEngine]
) -> None:
    near, far = mock_engine("paris"), mock_engine("madrid")
    orchestrator = orchestrate(
        {"paris": [near.url], "madrid": [far.url]},
        "--default-origin", "paris", "--hedge", "10%", algorithm="nearest",
    )  # fmt: skip
    body = {"model": "tiny", "max_tokens": 4, "messages": SAID}
    url = f"{orchestrator.url}/v1/chat/completions"
    for _ in range(12):  # one hedge in ten requests
        assert httpx.post(url, json=body).headers["x-gridctl-site"] == "paris"
    httpx.post(f"{near.url}/mock/faults", json={"faults": "slow=250"})  # 5 s to a first token
    began = time.monotonic()
    answer = httpx.post(url, json={**body, "stream": True}, timeout=30)
    took_s = time.monotonic() - began
    assert answer.headers["x-gridctl-site"] == "madrid"
    assert answer.content.endswith(b"data: [DONE]\n\n")
    assert took_s < 4.0, f"the first engine takes 5 s, this took {took_s:.1f} s"
    deadline = time.monotonic() + 5
    while httpx.get(f"{near.url}/mock/state").json()["gauges"]["running"] and time.monotonic() < deadline:
        time.sleep(0.02)
    state = httpx.get(f"{near.url}/mock/state").json()
    assert (state["gauges"]["running"], state["counters"]["aborted"]) == (0, 1)
    # The tenth part is used up: the next late stream waits for its own engine.
    httpx.post(f"{near.url}/mock/faults", json={"faults": "slow=50"})
    assert httpx.post(url, json={**body, "stream": True}, timeout=30).headers["x-gridctl-site"] == "paris"
