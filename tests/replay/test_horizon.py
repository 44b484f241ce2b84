"""Passing over candidates that are sure to lose changes no decision."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_candidates_passed_over_are_those_that_pricing_everyone_would_not_choose() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(Path(__file__).with_name("horizon.py"))],
        env={**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *differing, saved = done.stdout.splitlines()
    assert differing == []
    assert int(saved.split()[0]) > 100, saved
