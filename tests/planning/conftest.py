"""Small grids for planning: one toy GPU whose speed is known, an edge city or more, a core."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "grid"))

from smallgrids import cluster, gpu, model, site, workload

from gridctl.grid.view import GridView
from gridctl.resources import Resource


@pytest.fixture
def parts() -> list[Resource]:
    """Paris (edge, most people), Lyon (edge) and a core in Frankfurt; a model of one variant; a lenient chat."""
    return [
        gpu(),
        model(),
        site("paris", population=6),
        site("lyon", population=3, lat=45.76, lon=4.84),
        site("frankfurt", "DE", "core", lat=50.1, lon=8.7, population=1),
        cluster("edge", "paris", usd_per_gpu_hour=3.0),
        cluster("core", "frankfurt", usd_per_gpu_hour=1.0),
        workload(ttft_ms=400.0),
    ]


class Here:
    """A pool that does every job in this process, one after another."""

    def __init__(self, function: Callable[..., Any], shared: Any, jobs: Sequence[Any]) -> None:
        self._function, self._shared, self._jobs = function, shared, jobs

    def results(self, advanced: Callable[[int, int], None]) -> Iterator[tuple[int, Any]]:
        for number, job in enumerate(self._jobs):
            yield number, self._function(self._shared, job, partial(advanced, number))


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planning without worker processes, whose start takes longer than the toy work."""

    @contextlib.contextmanager
    def running(executor: str, function: Any, shared: Any, jobs: Any, **options: Any) -> Iterator[Here]:
        yield Here(function, shared, jobs)

    for room in ("place", "capacity", "breakeven"):
        monkeypatch.setattr(f"gridctl.planning.{room}.running", running)


@pytest.fixture
def view(parts: list[Resource]) -> GridView:
    return GridView(parts)
