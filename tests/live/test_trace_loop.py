"""The trace loop: live traffic is recorded, its decisions come out the same again, and it replays as a trace."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path

import pytest
from liveclient import Crowd
from liveprograms import MockEngine, Starter, gridctl

TIMES = ("--ttft-ms", "20", "--tpot-ms", "2", "--model-name", "tiny")


@pytest.fixture
def engines(tmp_path: Path, programs: contextlib.ExitStack) -> dict[str, list[str]]:
    started = {}
    for site in ("paris", "madrid"):
        engine = MockEngine.start_mock(tmp_path / f"{site}.log", *TIMES)
        programs.callback(engine.end)
        started[site] = [engine.url]
    return started


@pytest.mark.slow
def test_recorded_decisions_come_out_the_same_and_the_recording_replays(
    orchestrate: Starter, engines: dict[str, list[str]], tmp_path: Path
) -> None:
    """Two workers decide by what both have in flight; while it goes on the grid changes, and with it the numbers of
    engines. What happened before `trace record` is in no recording, what happened after it neither."""
    orchestrator = orchestrate(engines, "--default-origin", "paris", "--workers", "2", algorithm="grid")
    folder, store = tmp_path / "day.recording", orchestrator.store

    async def story() -> tuple[int, int]:
        async with Crowd(orchestrator.port, clients=8, tokens=12) as crowd:
            await crowd.more(40)
            begun = await asyncio.to_thread(gridctl, "trace", "record", str(folder), "--detach", store=store)
            assert begun.returncode == 0, begun.stderr
            before = len(crowd.answers)
            await crowd.more(120)
            cordoned = await asyncio.to_thread(gridctl, "site", "cordon", "madrid", store=store)
            assert cordoned.returncode == 0, cordoned.stderr
            await crowd.more(120)
            during = len(crowd.answers) - before
            ended = await asyncio.to_thread(gridctl, "trace", "record", "--stop", store=store)
            assert ended.returncode == 0, ended.stderr
            await crowd.more(40)
        return during, len(crowd.answers)

    during, whole = asyncio.run(story())
    again = gridctl("replay", "decisions", str(folder), "--exit-code", "-o", "json", store=store)
    assert again.returncode == 0, again.stderr
    found = json.loads(again.stdout)
    assert during - 20 <= found["requests"] < whole
    assert (found["moved"], found["same"]) == (0, found["decided"])
    assert found["decided"] > 200
    # Under a policy that looks at nothing but whose turn it is they go elsewhere, so sameness says something.
    other = json.loads(
        gridctl("replay", "decisions", str(folder), "--policy", "round-robin", "-o", "json", store=store).stdout
    )
    assert other["moved"] > found["decided"] / 8
    replayed = gridctl("replay", "run", str(folder), "--name", "yesterday", "--no-centralized", store=store)
    assert replayed.returncode == 0, replayed.stderr
    run = json.loads(gridctl("run", "get", "yesterday", "-o", "json", store=store).stdout)
    assert run["requests"] == found["requests"]
