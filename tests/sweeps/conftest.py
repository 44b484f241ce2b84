"""Lets the tests of this room import the small grids of the grid room."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "grid"))
