"""Shared by the cache's tests: a partition, a secret, vectors, and the real prompts where they are."""

from __future__ import annotations

import os
from pathlib import Path

# As the keeper's process does, before numpy is imported: waking threads for matrices of this size costs more than
# they bring.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest
from numpy.typing import NDArray

from gridctl.cache.partition import Partition


@pytest.fixture
def partition() -> Partition:
    return Partition(
        tenant="acme", jurisdiction="eu", workload="chat", policy="3", model="llama-8b", variant="fp8",
        quality_tier="standard", embedder="minilm", embedder_version="1", system_prompt="be brief",
        earlier_turns="[]", tools="", response_format="text", parameters='{"temperature":0}', language="en",
    )  # fmt: skip


@pytest.fixture
def secret() -> bytes:
    return bytes(range(32))


@pytest.fixture
def semantic_folder() -> Path:
    root = os.environ.get("GRIDCTL_DATA_DIR")
    folder = (Path(root) if root else Path(__file__).resolve().parents[2].parent / "shared" / "data") / "semantic"
    if not folder.is_dir():
        pytest.skip("the real prompts are not here")
    return folder


@pytest.fixture
def rows() -> NDArray[np.float32]:
    """300 unit vectors of 24 numbers."""
    drawn = np.random.default_rng(5).normal(size=(300, 24)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
