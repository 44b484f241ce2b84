"""The style of every file: what `ruff check` and `ruff format --check` say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

WHERE = ("gridctl", "tests", "examples")


@pytest.mark.parametrize("arguments", [("check", "--no-fix"), ("format", "--check")], ids=["check", "format"])
def test_ruff_has_nothing_to_say(root: Path, arguments: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *arguments, *WHERE], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
