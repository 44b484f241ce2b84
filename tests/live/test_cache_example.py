"""The cache example says what its README shows."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from liveprograms import REPOSITORY, gridctl_command, own_environment

EXAMPLE = REPOSITORY / "examples" / "cache"


def test_the_example_plays_as_its_readme_says(tmp_path: Path) -> None:
    shown = re.search(r"play\.py cachegrid\n(.*?)```", (EXAMPLE / "README.md").read_text(), re.DOTALL)
    assert shown is not None
    grid = tmp_path / "cachegrid"
    environment = {**os.environ, **own_environment(grid)}
    made = subprocess.run(
        gridctl_command(None, "init", str(grid), "--example", "cache"),
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    program = tmp_path / "gridctl"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m gridctl "$@"\n')
    program.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    assert shutil.which("gridctl", path=path) == str(program)
    played = subprocess.run(
        [sys.executable, str(grid / "play.py"), str(grid)],
        env={**environment, "PATH": path}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert played.returncode == 0, played.stderr
    assert played.stdout == shown[1]
