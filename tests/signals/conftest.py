"""Boards of shared memory that a test makes, each in its own folder and gone with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gridctl.signals.board import Board
from gridctl.signals.directory import BackendRow, Directory, Objective, WorkloadRow, enrolled


@pytest.fixture
def name(tmp_path: Path) -> str:
    return str(tmp_path / "board")


@pytest.fixture
def board(name: str) -> Iterator[Board]:
    """Three workers, eight engines, six rows of workloads."""
    made = Board.create(name, 3, 8, 6)
    yield made
    made.close()
    made.unlink()


VOICE = WorkloadRow(
    "voice", (Objective("ttft_ms", 500_000_000), Objective("ttft_ms", 200_000_000), Objective("e2e_ms", 4_000_000_000))
)
BATCH = WorkloadRow("batch", (Objective("tpot_ms", 80_000_000),), unseen_ns=15_000_000)


@pytest.fixture
def directory(board: Board) -> Directory:
    """Two workloads, two models, three engines, enrolled on the board."""
    names = enrolled(
        Directory(),
        (VOICE, BATCH),
        ("llama", "llama/int8"),
        (
            (0, BackendRow("paris", "paris-l4", "llama", "bf16", "edge")),
            (1, BackendRow("lyon", "lyon-l4", "llama", "int8", "edge")),
            (2, BackendRow("core-eu", "core-h100", "llama", "bf16", "core")),
        ),
        most_workloads=6,
        most_models=64,
    )
    board.write_directory(names)
    return names
