"""Lets the tests of this room import the small grids of the grid room, and what lies beside them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "grid")]


@pytest.fixture(scope="session")
def real_traces() -> Path:
    """The folder of real traces; skips where it is absent."""
    root = Path(os.environ.get("GRIDCTL_DATA_DIR") or HERE.parents[1].parent / "shared" / "data")
    if not (root / "traces").is_dir():
        pytest.skip("the real traces are not here")
    return root / "traces"
