"""Whole systems: `gridctl up` in front of engines of several kinds, each a process of its own on loopback."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "agent"))  # free ports, sites and their agents
sys.path.insert(0, str(Path(__file__).parent))

from livegrid import write_grid
from liveprograms import Orchestrator, Starter, apply_grid


@pytest.fixture
def programs() -> Iterator[contextlib.ExitStack]:
    """Whatever a test starts and hands over here is stopped when the test ends, however it ends."""
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture
def orchestrate(tmp_path: Path, programs: contextlib.ExitStack) -> Starter:
    """Start `gridctl up` over a grid of engines: `orchestrate({"site": ["http://…"]}, "--grace", "5", …)`."""

    def start(engines: dict[str, list[str]], *options: str, **grid: object) -> Orchestrator:
        manifests = tmp_path / "grid"
        manifests.mkdir(exist_ok=True)
        write_grid(manifests / "grid.yaml", engines, **grid)  # type: ignore[arg-type]
        store = tmp_path / "store"
        apply_grid(store, manifests)
        orchestrator = Orchestrator.start(tmp_path, store, *options)
        programs.callback(orchestrator.end)
        orchestrator.wait_until_ready()
        return orchestrator

    return start
