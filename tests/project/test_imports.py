"""Rooms import one way, and every room has its place in the order."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path


def test_rooms_import_one_way(root: Path) -> None:
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([program, "--no-cache"], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_room_has_its_place(root: Path) -> None:
    """A room that no layer names could import anything."""
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    layers = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    placed = {room.strip() for layer in layers for room in layer.split("|")}
    package = root / "gridctl"
    rooms = {path.name for path in package.iterdir() if (path / "__init__.py").is_file()}
    modules = {path.stem for path in package.glob("*.py")} - {"__init__", "__main__"}
    assert rooms | modules == placed
