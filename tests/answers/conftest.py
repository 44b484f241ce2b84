"""Fixtures of the answers' tests; their parts lie beside them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the keeper's process does

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "agent"))  # free ports
sys.path.insert(0, str(Path(__file__).parent))

from answer_parts import Bench, KeeperProcess, plan_at
from shared_parts import Server, program


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    found = Bench(tmp_path / "cache")
    yield found
    found.close()


@pytest.fixture
def make_bench(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(**settings: object) -> Bench:
        made.append(Bench(tmp_path / f"cache-{len(made)}", **settings))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def draw() -> np.random.Generator:
    return np.random.default_rng(11)


@pytest.fixture
def keeper_process(tmp_path: Path) -> Iterator[KeeperProcess]:
    found = KeeperProcess(tmp_path / "live" / "cache", plan_at(tmp_path / "plan.json"))
    yield found
    found.close()


@pytest.fixture
def semantic_folder() -> Path:
    root = os.environ.get("GRIDCTL_DATA_DIR")
    folder = (Path(root) if root else Path(__file__).resolve().parents[2].parent / "shared" / "data") / "semantic"
    if not folder.is_dir():
        pytest.skip("the real prompts are not here")
    return folder


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A Redis or Valkey that keeps nothing on disk."""
    if program() is None:
        pytest.skip("neither Valkey nor Redis is installed (apt-get install redis-server)")
    folder = tmp_path / "server"
    folder.mkdir()
    found = Server(folder)
    found.start()
    yield found
    found.kill()
