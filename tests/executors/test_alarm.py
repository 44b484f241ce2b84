"""The alarm rings once, at its moment and not before, and forgets what it was told to forget."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from gridctl.executors.alarm import Alarm
from gridctl.units import NS_PER_MS


def rung(
    play: Callable[[Alarm, list[int]], None], wait_s: float, monkeypatch: pytest.MonkeyPatch, platform: str
) -> list[int]:
    """When the alarm rang, in milliseconds from the start, while `play` set it."""
    monkeypatch.setattr("sys.platform", platform)

    async def main() -> list[int]:
        times: list[int] = []
        alarm = Alarm(asyncio.get_running_loop(), lambda: times.append(time.monotonic_ns()))
        begin = time.monotonic_ns()
        play(alarm, times)
        await asyncio.sleep(wait_s)
        alarm.close()
        return [(at - begin) // NS_PER_MS for at in times]

    return asyncio.run(main())


@pytest.fixture(params=["linux", "other"])
def platform(request: pytest.FixtureRequest) -> str:
    """With timer descriptors, and where there are none."""
    return str(request.param)


def test_it_rings_once_and_never_early(monkeypatch: pytest.MonkeyPatch, platform: str) -> None:
    times = rung(lambda alarm, _: alarm.set(time.monotonic_ns() + 30 * NS_PER_MS), 0.15, monkeypatch, platform)
    assert len(times) == 1
    assert times[0] >= 29


def test_a_new_moment_replaces_the_old_one(monkeypatch: pytest.MonkeyPatch, platform: str) -> None:
    def play(alarm: Alarm, times: list[int]) -> None:
        alarm.set(time.monotonic_ns() + 10 * NS_PER_MS)
        alarm.set(time.monotonic_ns() + 60 * NS_PER_MS)

    times = rung(play, 0.2, monkeypatch, platform)
    assert len(times) == 1
    assert times[0] >= 59


def test_a_moment_in_the_past_rings_at_once_and_off_means_off(monkeypatch: pytest.MonkeyPatch, platform: str) -> None:
    assert len(rung(lambda alarm, _: alarm.set(1), 0.05, monkeypatch, platform)) == 1

    def play(alarm: Alarm, times: list[int]) -> None:
        alarm.set(time.monotonic_ns() + NS_PER_MS)
        alarm.off()

    assert rung(play, 0.05, monkeypatch, platform) == []


def test_it_may_be_set_by_whom_it_woke(monkeypatch: pytest.MonkeyPatch, platform: str) -> None:
    monkeypatch.setattr("sys.platform", platform)

    async def main() -> int:
        rings = 0
        done = asyncio.Event()

        def ring() -> None:
            nonlocal rings
            rings += 1
            if rings < 5:
                alarm.set(time.monotonic_ns() + NS_PER_MS)
            else:
                done.set()

        alarm = Alarm(asyncio.get_running_loop(), ring)
        alarm.set(1)
        async with asyncio.timeout(10):
            await done.wait()
        alarm.close()
        alarm.set(1)  # closed: it stays silent
        await asyncio.sleep(0.01)
        return rings

    assert asyncio.run(main()) == 5
