"""Runs a test's coroutine beside a mock engine."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from mockbench import DEADLINE_S, Play, linear_engine, running

from gridctl.engine.fleet import EngineSpec
from gridctl.mockengine.clock import Clock
from gridctl.mockengine.engine import Manner
from gridctl.mockengine.pace import Pace
from gridctl.mockengine.plain import PlainPace
from gridctl.mockengine.twinpace import TwinPace


@pytest.fixture
def plain() -> Callable[..., None]:
    """Runs a test's coroutine beside a plain engine."""

    def run(play: Play, ttft_ms: float = 0.0, tpot_ms: float = 0.0, *, faults: str = "", seats: int = 64,
            **manner: Any) -> None:  # fmt: skip
        async def main() -> None:
            def make(loop: asyncio.AbstractEventLoop) -> Pace:
                return PlainPace(loop, ttft_ms, tpot_ms, Clock(1.0), seats=seats)

            async with asyncio.timeout(DEADLINE_S), running(make, Manner("mock", **manner), faults) as bench:
                await play(bench)

        asyncio.run(main())

    return run


@pytest.fixture(scope="session")
def compiled() -> None:
    """The twin's kernels, so that compiling them counts against no test's deadline."""
    loop = asyncio.new_event_loop()
    TwinPace(loop, linear_engine(), Clock(1.0)).close()
    loop.close()


@pytest.fixture
def twin(compiled: None) -> Callable[..., None]:
    """Runs a test's coroutine beside an engine of the twin."""

    def run(play: Play, spec: EngineSpec, *, speed: float = 1.0, faults: str = "", **manner: Any) -> None:
        async def main() -> None:
            def make(loop: asyncio.AbstractEventLoop) -> Pace:
                return TwinPace(loop, spec, Clock(speed))

            async with (
                asyncio.timeout(DEADLINE_S),
                running(make, Manner("mock", speed=speed, **manner), faults) as bench,
            ):
                await play(bench)

        asyncio.run(main())

    return run
