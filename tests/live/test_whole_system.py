"""The whole orchestrator as an operator runs it: `gridctl up` before mock engines, under load, while things happen."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from liveclient import Answer, Crowd, ask, question, until
from livegrid import write_grid
from liveprograms import MockEngine, Orchestrator, Starter, apply_grid, descendants, get, gridctl, wait_for

NEAR, FAR = "paris", "madrid"
MOST = 0.9
TIMES = ("--ttft-ms", "20", "--tpot-ms", "2", "--model-name", "tiny")
RETURN_S = 10.0
"""A failing site is probed every 5 s, and a twentieth of its traffic is one request in half a second here."""
FIRST_SHARE, FIRST_STEP_S = 0.05, 5.0  # of the ramp of a site that returns: 5 % of its traffic for at least 5 s


@pytest.fixture
def mock_engine(tmp_path: Path, programs: contextlib.ExitStack) -> Callable[..., MockEngine]:
    """Start a mock engine: `mock_engine("name", *options, port=…)`."""

    def start(name: str, *options: str, port: int = 0, store: Path | None = None) -> MockEngine:
        engine = MockEngine.start_mock(tmp_path / f"{name}-{port}.log", *(options or TIMES), port=port, store=store)
        programs.callback(engine.end)
        return engine

    return start


def at(answers: list[Answer], site: str) -> int:
    return sum(one.site == site for one in answers)


@pytest.mark.slow
def test_a_lost_site_costs_no_request_that_could_be_retried_and_is_not_hammered_when_it_returns(
    orchestrate: Starter, mock_engine: Callable[..., MockEngine]
) -> None:
    near, far = mock_engine(NEAR), mock_engine(FAR)
    orchestrator = orchestrate({NEAR: [near.url], FAR: [far.url]}, "--default-origin", NEAR, algorithm="nearest")

    async def story() -> tuple[Crowd, float, float, float]:
        async with Crowd(orchestrator.port, clients=6, tokens=50) as crowd:
            await crowd.more(60)
            assert at(crowd.answers, NEAR) > MOST * len(crowd.answers), crowd.summary()
            lost_s = time.monotonic()
            near.kill()
            await until("traffic at Madrid", lambda: at(crowd.since(lost_s), FAR) > 100)
            await asyncio.to_thread(mock_engine, NEAR, *TIMES, port=near.port)
            up_s = time.monotonic()
            await until("the first requests at Paris again", lambda: at(crowd.since(lost_s + 1), NEAR) >= 1, 90)
            back_s = min(one.sent_s for one in crowd.since(lost_s + 1) if one.site == NEAR)
            await until(
                "most traffic at Paris again", lambda: at(recent(crowd), NEAR) > MOST * max(20, len(recent(crowd))), 60
            )
        return crowd, lost_s, up_s, back_s

    crowd, lost_s, up_s, back_s = asyncio.run(story())
    assert back_s - up_s < RETURN_S, f"traffic came back {back_s - up_s:.1f} s after the site"
    # A stream whose first byte was out cannot be retried: it ends with an error that says so, never silently.
    whole = [one for one in crowd.answers if not one.is_stream]
    assert {one.verdict for one in whole} == {"ok"}, crowd.summary()
    broken = [one for one in crowd.answers if one.verdict != "ok"]
    assert all(one.verdict == "broken-off" and one.sent_s <= lost_s + 0.5 for one in broken), crowd.summary()
    # Half the first step, so that a request decided at its end counts to the next one.
    trial = [one for one in crowd.answers if back_s <= one.sent_s < back_s + FIRST_STEP_S - 1]
    assert at(trial, NEAR) <= 3 * FIRST_SHARE * len(trial) + 3, (at(trial, NEAR), len(trial))


def recent(crowd: Crowd) -> list[Answer]:
    """Answers to requests of the last second."""
    return crowd.since(time.monotonic() - 1)


def test_the_grid_changes_under_load_and_no_request_notices(
    orchestrate: Starter, mock_engine: Callable[..., MockEngine], tmp_path: Path
) -> None:
    first, second = mock_engine(NEAR), mock_engine("lyon")
    orchestrator = orchestrate({NEAR: [first.url]})
    manifests = tmp_path / "grid"

    def change(engines: dict[str, list[str]], **grid: Any) -> None:
        write_grid(manifests / "grid.yaml", engines, **grid)
        apply_grid(orchestrator.store, manifests)

    async def story() -> tuple[Crowd, float]:
        async with Crowd(orchestrator.port, clients=8) as crowd:
            await crowd.more(40)
            assert at(crowd.answers, NEAR) == len(crowd.answers)
            # A second cluster, far cheaper; then another policy; then the first cluster is taken away.
            await asyncio.to_thread(
                change, {NEAR: [first.url], "lyon": [second.url]}, usd_per_gpu_hour={NEAR: 4.0, "lyon": 0.2}
            )
            await until("traffic at the new cluster", lambda: at(crowd.answers, "lyon") >= 20, 30)
            await asyncio.to_thread(change, {NEAR: [first.url], "lyon": [second.url]}, algorithm="round-robin")
            await until(
                "turns between both",
                lambda: len(crowd.answers) > 40 and at(crowd.answers[-20:], NEAR) == at(crowd.answers[-20:], "lyon"),
                30,
            )
            done = await asyncio.to_thread(
                gridctl, "cluster", "delete", f"{NEAR}-gpus", "--yes", store=orchestrator.store
            )
            assert done.returncode == 0, done.stderr
            await until("none at the deleted cluster", lambda: at(crowd.answers[-40:], NEAR) == 0, 30)
            gone_s = time.monotonic()
            await crowd.more(40)
        return crowd, gone_s

    crowd, gone_s = asyncio.run(story())
    assert {one.verdict for one in crowd.answers} == {"ok"}, crowd.summary()
    assert at(crowd.since(gone_s), NEAR) == 0


def test_sigterm_lets_streams_finish_and_leaves_nothing_behind(
    orchestrate: Starter, mock_engine: Callable[..., MockEngine]
) -> None:
    engine = mock_engine(NEAR, "--ttft-ms", "10", "--tpot-ms", "10", "--model-name", "tiny")
    orchestrator = orchestrate({NEAR: [engine.url]}, "--grace", "20s")
    workers = descendants(orchestrator.pid)
    segments = shared_memory_of(orchestrator)
    assert workers
    assert segments

    async def story() -> tuple[list[Answer], list[Answer]]:
        streams = [Answer() for _ in range(10)]
        tasks = [
            asyncio.create_task(ask(orchestrator.port, question(f"{n}", tokens=150, stream=True), into=one))
            for n, one in enumerate(streams)
        ]
        await until("ten streams under way", lambda: all(len(one.events) > 3 for one in streams))
        orchestrator.signal(signal.SIGTERM)
        await until("no new connections", lambda: get(f"{orchestrator.url}/health")[0] != 200, 10)
        late = [await ask(orchestrator.port, question("late"), seconds=5) for _ in range(3)]
        return [await task for task in tasks], late

    streams, late = asyncio.run(story())
    assert [one.verdict for one in streams] == ["ok"] * 10
    assert all(one.verdict in ("closed", "refused") for one in late), [one.verdict for one in late]
    assert orchestrator.popen.wait(20) == 0, orchestrator.said
    wait_for("the workers to end", lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), 10)
    assert not any(Path("/dev/shm", name).exists() for name in segments)
    assert not (orchestrator.live_folder / "admin.sock").exists()


def shared_memory_of(orchestrator: Orchestrator) -> list[str]:
    """Names of the shared memory that the control process has mapped."""
    maps = Path(f"/proc/{orchestrator.pid}/maps").read_text().splitlines()
    return sorted({line.split("/dev/shm/")[1].split()[0] for line in maps if "/dev/shm/" in line})


def test_a_stream_that_outlives_the_grace_is_told_so(
    orchestrate: Starter, mock_engine: Callable[..., MockEngine]
) -> None:
    engine = mock_engine(NEAR, "--ttft-ms", "10", "--tpot-ms", "50", "--model-name", "tiny")
    orchestrator = orchestrate({NEAR: [engine.url]}, "--grace", "1s")

    async def story() -> Answer:
        answer = Answer()
        asked = asyncio.create_task(ask(orchestrator.port, question("long", tokens=2000, stream=True), into=answer))
        await until("a stream", lambda: len(answer.events) > 3)
        orchestrator.signal(signal.SIGTERM)
        return await asked

    answer = asyncio.run(story())
    assert answer.verdict == "broken-off", answer.verdict
    assert orchestrator.popen.wait(20) == 0, orchestrator.said


def test_a_client_that_leaves_frees_its_engine_s_seat(
    orchestrate: Starter, mock_engine: Callable[..., MockEngine]
) -> None:
    engine = mock_engine(NEAR, "--ttft-ms", "30000", "--tpot-ms", "10", "--model-name", "tiny")
    streaming = mock_engine(FAR, "--ttft-ms", "1", "--tpot-ms", "20", "--model-name", "tiny")
    orchestrator = orchestrate({NEAR: [engine.url], FAR: [streaming.url]}, algorithm="round-robin")

    def running(one: MockEngine) -> int:
        return int(json.loads(get(f"{one.url}/mock/state")[1])["gauges"]["running"])

    async def assert_seats_are_freed() -> None:
        for is_stream in (False, True):
            asked = [
                asyncio.create_task(ask(orchestrator.port, question(f"{n}", tokens=3000, stream=is_stream)))
                for n in range(6)
            ]
            await until("both engines at work", lambda: running(engine) + running(streaming) == 6)
            for one in asked:
                one.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
            await until("both engines idle", lambda: running(engine) + running(streaming) == 0, 2)

    asyncio.run(assert_seats_are_freed())


def test_a_killed_worker_is_replaced_and_costs_only_what_it_was_serving(
    orchestrate: Starter, mock_engine: Callable[..., MockEngine]
) -> None:
    engine = mock_engine(NEAR)
    orchestrator = orchestrate({NEAR: [engine.url]}, "--workers", "2")
    workers = set(descendants(orchestrator.pid))
    assert len(workers) == 2

    async def story() -> tuple[Crowd, float]:
        async with Crowd(orchestrator.port, clients=8) as crowd:
            await crowd.more(30)
            os.kill(min(workers), signal.SIGKILL)
            killed_s = time.monotonic()
            await until("a new worker", lambda: len(set(descendants(orchestrator.pid)) - workers) == 1, 60)
            await until("it to serve", lambda: get(f"{orchestrator.url}/health")[0] == 200)
            await crowd.more(60)
        return crowd, killed_s

    crowd, killed_s = asyncio.run(story())
    lost = [one for one in crowd.answers if one.verdict != "ok"]
    assert len(lost) <= 8, crowd.summary()
    assert all(one.sent_s <= killed_s + 0.1 for one in lost), crowd.summary()


def test_after_a_power_cut_of_the_control_process_the_next_one_starts_clean(
    orchestrate: Starter, mock_engine: Callable[..., MockEngine]
) -> None:
    engine = mock_engine(NEAR)
    first = orchestrate({NEAR: [engine.url]}, "--grace", "1s")
    workers, segments = descendants(first.pid), shared_memory_of(first)
    first.kill()
    wait_for("its workers to end", lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), 20)
    second = orchestrate({NEAR: [engine.url]})
    assert asyncio.run(ask(second.port, question("hello again"))).verdict == "ok"
    assert not any(Path("/dev/shm", name).exists() for name in segments if name not in shared_memory_of(second))


@pytest.mark.slow
def test_ten_thousand_idle_connections_are_held_while_others_are_served(
    orchestrate: Starter, mock_engine: Callable[..., MockEngine]
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(10_000, hard - 4_400)  # a worker sets 4,096 descriptors aside for engines
    if count < 10_000:
        sys.stderr.write(f"holds {count:,} instead of 10,000: the hard limit on open files is {hard:,}\n")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    engine = mock_engine(NEAR, "--ttft-ms", "0", "--tpot-ms", "0", "--model-name", "tiny")
    orchestrator = orchestrate({NEAR: [engine.url]})
    before = resident_bytes(orchestrator)
    idle: list[socket.socket] = []
    try:
        for _ in range(count):
            idle.append(socket.create_connection(("127.0.0.1", orchestrator.port), timeout=10))
            assert health_over(idle[-1]).startswith(b"HTTP/1.1 200")
        answers = [asyncio.run(ask(orchestrator.port, question("still there?", tokens=2))) for _ in range(20)]
        grown = resident_bytes(orchestrator) - before
        closed = 0
        for connection in idle:
            connection.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                closed += connection.recv(1) == b""
        # One that was idle can still be used.
        idle[count // 2].setblocking(True)
        woken = health_over(idle[count // 2])
    finally:
        for connection in idle:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert {one.verdict for one in answers} == {"ok"}
    assert closed == 0
    assert woken.startswith(b"HTTP/1.1 200")
    assert grown < count * 16 * 1024, f"{grown / count:,.0f} bytes a connection"


def health_over(connection: socket.socket) -> bytes:
    """The answer to a request on a connection that stays open; one that never sent any would be closed soon."""
    connection.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
    return connection.recv(4096)


def resident_bytes(orchestrator: Orchestrator) -> int:
    """Resident memory of the control process and its workers."""
    pids = (orchestrator.pid, *descendants(orchestrator.pid))
    page = resource.getpagesize()
    return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page for pid in pids)
