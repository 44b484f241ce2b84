"""A registry with three versions of a model, an orchestrator, and a nursery for agents that die."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from agentworld import Nursery, Orchestrator, Pushed, make_model, push_model
from ociregistry import MISSING, Registry, has_registry, running_registry


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    if not has_registry():
        pytest.skip(MISSING)
    with running_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(scope="session")
def models(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pushed]:
    """`one`; `two`, a fine-tune of it with a delta; `three`, another model."""
    root = tmp_path_factory.mktemp("models")
    one = make_model(root / "one", seed=1)
    two = make_model(root / "two", seed=1, moved=1e-4)
    three = make_model(root / "three", seed=3)
    return {
        "one": push_model(registry, "m/llama", one, root),
        "two": push_model(registry, "m/llama", two, root, base=one),
        "three": push_model(registry, "m/llama", three, root),
    }


@pytest.fixture
def orchestrator() -> Iterator[Orchestrator]:
    running = Orchestrator()
    yield running
    running.close()


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    running = Nursery()
    yield running
    running.close()
