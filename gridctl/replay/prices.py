"""Prices: what the router reckons with once prices have changed. The accounts have a rule of their own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gridctl.engine.state import API
from gridctl.grid.image import GridImage
from gridctl.replay.faults import Fault
from gridctl.replay.scene import Scene


def priced(scene: Scene, image: GridImage, faults: Sequence[Fault], now_ns: int) -> Scene:
    """The scene with the prices in force from `now_ns` on: those of the grid, times every change that holds. Prices of
    energy are no part of a decision."""
    kinds = np.array([engine.spec.kind for engine in image.engines])
    factors = {word: np.ones(len(image.engines)) for word in ("gpu-hour", "serverless", "egress", "api")}
    for fault in faults:
        if fault.kind == "price" and fault.at_ns <= now_ns < fault.until_ns and fault.what in factors:
            factors[fault.what][list(fault.engines)] *= fault.amount
    bought = factors["api"]
    return scene._replace(
        gpu_usd_per_ps=np.array([engine.gpu_usd_per_ps for engine in image.engines]) * factors["gpu-hour"],
        cash_usd_per_ps=np.array([engine.cash_usd_per_ps for engine in image.engines]) * factors["serverless"],
        usd_per_input_token=np.array([engine.usd_per_input_token for engine in image.engines]) * bought,
        usd_per_output_token=np.array([engine.usd_per_output_token for engine in image.engines])
        * np.where(kinds == API, bought, factors["egress"]),
    )
