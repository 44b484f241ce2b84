"""Runs kernels in processes of their own, each on a cache of the test's."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PROGRAM = """
from typing import NamedTuple
import numpy as np
from gridctl.kernels import compiled, inner

class Box(NamedTuple):
    values: np.ndarray
    scale: int

class Shelf(NamedTuple):
    left: Box
    right: Box
    records: np.recarray

@inner
def weigh(box: Box, index: int, extra: int) -> float:
    return box.values[index] * box.scale + extra

@compiled
def total(box: Box) -> float:
    result = 0.0
    for index in range(len(box.values)):
        result += weigh(box, index, 0) + weigh(box, index, index)
    return result

@compiled
def balance(shelf: Shelf) -> float:
    for index in range(len(shelf.records)):
        record = shelf.records[index]
        record.after = record.first + shelf.left.scale
    return total(shelf.left) - total(shelf.right)

INTEGERS = Box(np.array([1, 2, 3]), 10)
FLOATS = Box(np.array([0.5, 0.25]), 100)
RECORDS = np.zeros(2, [("first", np.int64), ("after", np.int64)]).view(np.recarray)
RECORDS.first = [7, 8]
"""


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., str]:
    """`run(code)` runs PROGRAM and then the code; returns what it prints."""
    (tmp_path / "boxes.py").write_text(PROGRAM)

    def program(code: str, **environment: str) -> str:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", "from boxes import *\n" + code],
            env={
                **os.environ,
                "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}",
                "XDG_CACHE_HOME": str(tmp_path / "cache"),
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return program
