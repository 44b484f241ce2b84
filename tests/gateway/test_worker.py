"""A worker process with the real broker, board and meter, as the control process sees it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from gateway_parts import (
    ANSWER,
    CHAT,
    STREAM_HEAD,
    STREAMED,
    Answer,
    ScriptedEngine,
    Served,
    event,
    framed,
    read_answer,
    request,
    scripted_engine,
    serves,
    wait_for,
)
from real_worker import RunningWorker, real_plan, running_worker

from gridctl.broker.plan import Settings, write_plan
from gridctl.signals.exposition import exposition
from gridctl.traces.recorder import start_recording


async def steady(served: Served) -> None:
    """A stream that goes on until it is told to end (`max_tokens` events, 10 ms apart)."""
    if not served.said.get("stream"):
        await serves(served)
        return
    served.send(STREAM_HEAD)
    for _ in range(served.said.get("max_tokens", 3)):
        served.send(framed(event({"content": "x"})))
        await served.writer.drain()
        await asyncio.sleep(0.01)
    served.send(framed(event({}, "stop")) + framed(b"data: [DONE]\n\n") + b"0\r\n\r\n")


@pytest.fixture(scope="module")
def engine() -> Iterator[ScriptedEngine]:
    with scripted_engine(steady) as running:
        yield running


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings") / "live.recording"
    start_recording(folder, started_unix_ns=0, block_tokens=64)
    return folder


@pytest.fixture(scope="module")
def worker(
    engine: ScriptedEngine, tmp_path_factory: pytest.TempPathFactory, recording: Path
) -> Iterator[RunningWorker]:
    folder = tmp_path_factory.mktemp("worker")
    extra = ["--access-log", str(folder / "access.jsonl"), "--record", str(recording)]
    settings = Settings(anonymous=True, default_origin="paris", records_decisions=True, max_body_bytes=10_000)
    with running_worker(folder, [engine.url, engine.url + "/second"], settings, extra) as running:
        yield running


def one(worker: RunningWorker, body: dict[str, object] | bytes = CHAT, more: bytes = b"", path: str = "") -> Answer:
    with worker.connect() as connection:
        connection.sendall(request(body, path or "/v1/chat/completions", more))
        return read_answer(connection)


def in_flight(worker: RunningWorker) -> int:
    return int(worker.board.slots["in_flight"].sum())


def test_it_serves_counts_logs_and_records(worker: RunningWorker, recording: Path) -> None:
    answers = []
    for number in range(10):
        with worker.connect() as connection:
            connection.sendall(request(STREAMED if number % 2 else CHAT, more=b"x-request-id: my-%d\r\n" % number))
            answers.append(read_answer(connection))
    assert [answer.status for answer in answers] == [200] * 10
    assert {answer.headers["x-gridctl-site"] for answer in answers} == {"paris"}
    assert {answer.headers["x-gridctl-workload"] for answer in answers} == {"chat"}
    assert json.loads(answers[0].body) == ANSWER
    wait_for(lambda: in_flight(worker) == 0)
    assert int(worker.board.slots["completed"].sum()) == 10
    told = exposition(worker.board, time.monotonic_ns())
    assert re.findall(r'gridctl_requests_total\{.*outcome="completed".*\} ([0-9]+)', told) == ["10"]
    log, rows = worker.folder / "access.jsonl", recording / "worker-0-0001.jsonl"
    wait_for(lambda: log.exists() and len(log.read_text().splitlines()) == 10)
    logged = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["request_id"] for line in logged] == [f"my-{number}" for number in range(10)]
    assert {line["outcome"] for line in logged} == {"completed"}
    wait_for(lambda: rows.exists() and len(rows.read_text().splitlines()) == 10)
    recorded = [json.loads(line) for line in rows.read_text().splitlines()]
    assert [row["input_length"] for row in recorded[::2]] == [12] * 5  # as the engine reported them
    assert (recording / "worker-0-0001.decisions").stat().st_size > 10 * 100


def test_it_remembers_requests_for_explain(worker: RunningWorker) -> None:
    one(worker, more=b"x-request-id: remember-me\r\n")
    worker.say(do="find", request_id="remember-me", ask=7)
    found = worker.hear("found")
    assert found["ask"] == 7
    assert found["request"]["site"] == "paris"
    assert found["request"]["decision"]["candidates"] == 2
    assert found["request"]["decision"]["seen"]
    worker.say(do="find", request_id="nobody", ask=8)
    assert worker.hear("found")["request"] is None


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[]", 400),
        (b'{"model":"tiny"}', 400),
        (b'{"model":"other","messages":[]}', 404),
        (b'{"model":"tiny","messages":' + b"[" * 5000, 400),
        (b'{"model":"tiny","messages":[{"role":"user","content":"' + b"x" * 20_000 + b'"}]}', 413),
    ],
    ids=["half", "list", "no messages", "unknown model", "deep", "large"],
)
def test_bad_bodies_are_errors_of_the_client(worker: RunningWorker, body: bytes, status: int) -> None:
    answer = one(worker, body)
    assert answer.status == status
    assert answer.json["error"]["message"]
    assert in_flight(worker) == 0


def test_models_are_those_of_the_grid(worker: RunningWorker) -> None:
    with worker.connect() as connection:
        connection.sendall(b"GET /v1/models HTTP/1.1\r\nhost: a\r\n\r\n")
        assert "tiny" in [model["id"] for model in read_answer(connection).json["data"]]


def test_its_heart_beats(worker: RunningWorker) -> None:
    beat = int(worker.board.heartbeats[0]["beat_ns"])
    wait_for(lambda: int(worker.board.heartbeats[0]["beat_ns"]) > beat)
    assert int(worker.board.heartbeats[0]["pid"]) == worker.process.pid
    wait_for(lambda: int(worker.board.slots["connections"].sum()) >= 1)
    assert int(worker.board.slots["opened"].sum()) >= 1


def test_a_new_plan_is_followed_under_load_without_losing_a_request(
    worker: RunningWorker, engine: ScriptedEngine
) -> None:
    statuses: list[int] = []
    stop = threading.Event()

    def load() -> None:
        with worker.connect() as connection:
            held = bytearray()
            while not stop.is_set():
                connection.sendall(request(CHAT))
                statuses.append(read_answer(connection, held).status)

    clients = [threading.Thread(target=load) for _ in range(4)]
    for client in clients:
        client.start()
    settings = worker.plan.settings
    for generation in range(2, 8):
        plan = real_plan([engine.url, engine.url + "/second"][: 1 + generation % 2], settings, generation)
        path = worker.folder / f"plan-{generation}.json"
        write_plan(path, plan)
        worker.say(do="plan", path=str(path), generation=generation)
        assert worker.hear("planned")["generation"] == generation
        served = len(statuses)
        wait_for(lambda served=served: len(statuses) > served + 4)
    stop.set()
    for client in clients:
        client.join(10)
    assert set(statuses) == {200}
    wait_for(lambda: in_flight(worker) == 0)


def test_a_plan_that_cannot_be_followed_is_refused_and_the_one_in_use_stays(worker: RunningWorker) -> None:
    path = worker.folder / "broken.json"
    path.write_text("{")
    worker.say(do="plan", path=str(path), generation=99)
    refused = worker.hear("refused")
    assert refused["generation"] == 99
    assert refused["message"]
    assert one(worker).status == 200


def test_it_drains_lets_streams_end_and_goes(engine: ScriptedEngine, tmp_path: Path) -> None:
    with (
        running_worker(tmp_path, [engine.url]) as worker,
        worker.connect() as idle,
        worker.connect() as stream,
        worker.connect() as late,
    ):
        late.sendall(request(CHAT))
        assert read_answer(late).status == 200
        stream.sendall(request({**STREAMED, "max_tokens": 60}))
        wait_for(lambda: in_flight(worker) == 1)
        worker.say(do="drain", grace_s=20)
        for connection in (idle, late):
            assert connection.recv(100) == b""
        answer = read_answer(stream)
        assert answer.body.endswith(b"data: [DONE]\n\n")
        worker.hear("drained")
        assert worker.process.wait(10) == 0
        assert in_flight(worker) == 0


def test_when_the_grace_is_over_streams_end_with_an_error_they_can_read(engine: ScriptedEngine, tmp_path: Path) -> None:
    with running_worker(tmp_path, [engine.url]) as worker, worker.connect() as stream, worker.connect() as waiting:
        stream.sendall(request({**STREAMED, "max_tokens": 100_000}))
        wait_for(lambda: in_flight(worker) == 1)
        os.kill(worker.process.pid, signal.SIGTERM)
        assert waiting.recv(100) == b""
        os.kill(worker.process.pid, signal.SIGTERM)  # a second time: now
        answer = read_answer(stream)
        assert answer.is_complete
        last = answer.body.rstrip().rsplit(b"\n\n", 1)[1]
        assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "draining"
        assert worker.process.wait(10) == 0
        assert in_flight(worker) == 0


def test_it_goes_when_the_control_process_has_gone(engine: ScriptedEngine, tmp_path: Path) -> None:
    with running_worker(tmp_path, [engine.url]) as worker:
        worker.channel.shutdown(socket.SHUT_RDWR)
        assert worker.process.wait(10) == 0


def test_what_it_cannot_start_with_is_said_in_words(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, socket.create_server(("127.0.0.1", 0)) as listener:
        words = ["--plan", str(tmp_path / "none"), "--board", "none", "--worker", "0"]
        words += ["--listen-fd", str(listener.fileno()), "--channel-fd", str(theirs.fileno())]
        done = subprocess.run(
            [sys.executable, "-m", "gridctl.gateway.worker", *words],
            pass_fds=(listener.fileno(), theirs.fileno()), capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 3
    assert "plan" in done.stderr
    assert "Traceback" not in done.stderr
