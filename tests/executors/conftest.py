"""A board of jobs, and processes' way to the jobs' module."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from tasks import Board


@pytest.fixture
def board(tmp_path: Path) -> Board:
    """Numbers that sum to 4,950, and pipes to talk to parked jobs."""
    import os

    for name in ("pids", "never"):
        os.mkfifo(tmp_path / name)
    return Board(np.arange(100, dtype=np.int64), "word", tmp_path)
