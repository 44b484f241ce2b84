"""A real-time engine on loopback."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the tables that lie beside the tests

ENGINE = Path(__file__).with_name("loopback_engine.py")


@pytest.fixture
def start_engine() -> Iterator[Callable[..., str]]:
    """Start an engine with the given step times; its address. It ends with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(**times: float) -> str:
        process = subprocess.Popen([sys.executable, str(ENGINE), json.dumps(times)], stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        return f"http://127.0.0.1:{int(process.stdout.readline())}"

    yield start
    for process in started:
        process.kill()
        process.communicate()
