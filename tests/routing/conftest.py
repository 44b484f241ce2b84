"""Candidate rows, requests and policies made by hand: everything unsaid is idle, near, free and available."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
