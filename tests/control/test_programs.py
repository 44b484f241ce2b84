"""The processes that the orchestrator starts run gridctl, whatever lies in the folder where somebody types `up`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gridctl.control.keeper import PROGRAM
from gridctl.control.order import WORKER_PROGRAM

TAKEN_IN = 77


@pytest.mark.parametrize("program", [WORKER_PROGRAM, PROGRAM], ids=["worker", "keeper"])
def test_no_module_of_the_working_folder_is_taken_in(program: tuple[str, ...], tmp_path: Path) -> None:
    for name in ("argparse", "msgspec", "gridctl"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit({TAKEN_IN})\n")
    done = subprocess.run(
        [sys.executable, *program, "--help"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode != TAKEN_IN
    assert "usage" in done.stdout.lower(), done.stderr
