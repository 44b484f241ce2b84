"""Warm-up: compile (or load) the kernels of a mock engine by making the smallest one, which serves nobody."""

from __future__ import annotations

import asyncio

from gridctl.engine.state import GPU
from gridctl.grid.image import build_image
from gridctl.grid.smallest import smallest_grid
from gridctl.mockengine.clock import Clock
from gridctl.mockengine.twinpace import TwinPace


def warm_up_engine() -> None:
    """Make the next mock engine start without compiling."""
    spec = next(one.spec for one in build_image(smallest_grid()).engines if one.spec.kind == GPU)
    loop = asyncio.new_event_loop()
    try:
        TwinPace(loop, spec, Clock(1.0)).close()
    finally:
        loop.close()
