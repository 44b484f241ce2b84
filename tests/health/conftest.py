"""What the tests of health share."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest


@pytest.fixture()
def cpu_seconds_of() -> Callable[[Callable[[], None]], float]:
    """The least CPU time of five runs of something."""

    def measured(work: Callable[[], None]) -> float:
        found = []
        for _ in range(5):
            before = time.process_time()
            work()
            found.append(time.process_time() - before)
        return min(found)

    return measured
