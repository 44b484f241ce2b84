"""Pick the nearest engines of each candidate list: one walk over deployments in order of round trip. Compiled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gridctl.engine.state import API, GPU, SERVERLESS
from gridctl.kernels import compiled, fused

FIRST, REPLICAS, KIND, IS_CORE = range(4)
"""Columns of the deployment table."""


@fused
def _take(
    allowed: NDArray[np.bool_],
    order: NDArray[np.int64],
    table: NDArray[np.int64],
    taken: NDArray[np.int64],
    room: int,
    core_only: bool,
) -> int:
    """Take batching engines of allowed deployments, nearest first, while there is room; returns what room is left."""
    for deployment in order:
        if room == 0:
            break
        is_wanted = allowed[deployment] and table[deployment, KIND] == GPU
        if is_wanted and (table[deployment, IS_CORE] == 1 or not core_only):
            more = min(room, table[deployment, REPLICAS] - taken[deployment])
            taken[deployment] += more
            room -= more
    return room


@fused
def _count(allowed: NDArray[np.bool_], table: NDArray[np.int64]) -> tuple[int, int, int]:
    """Core engines, function sites and APIs among the allowed deployments."""
    core, functions, apis = 0, 0, 0
    for deployment in range(len(table)):
        if allowed[deployment]:
            kind = table[deployment, KIND]
            core += table[deployment, REPLICAS] if kind == GPU and table[deployment, IS_CORE] == 1 else 0
            functions += 1 if kind == SERVERLESS else 0
            apis += 1 if kind == API else 0
    return core, functions, apis


@compiled
def pick_nearest(
    first_origin: int,
    origin_of: NDArray[np.int64],
    mask_of: NDArray[np.int64],
    masks: NDArray[np.bool_],
    order: NDArray[np.int64],
    rtt: NDArray[np.int64],
    table: NDArray[np.int64],
    limit: int,
    functions: int,
    taken: NDArray[np.int64],
    engine: NDArray[np.int32],
    times: NDArray[np.int32],
    sizes: NDArray[np.int64],
) -> None:
    """Fill a row of `engine` and `times` per list, and its size.

    List l is for origin `origin_of[l]` under `masks[mask_of[l]]`; row 0 of `rtt`, and of `order`, which sorts the
    deployments by it, is that of `first_origin`. Of the `limit` batching engines half are kept for the nearest core
    ones where there are so many. An origin that sees only some replicas of a deployment sees a window that moves with
    the origin."""
    counted, core, some_functions, some_apis = -1, 0, 0, 0
    for index in range(len(origin_of)):
        origin, allowed = origin_of[index], masks[mask_of[index]]
        place = origin - first_origin
        taken[:] = 0
        if mask_of[index] != counted:
            counted = mask_of[index]
            core, some_functions, some_apis = _count(allowed, table)
        kept = min(limit // 2, core)
        room = _take(allowed, order[place], table, taken, limit - kept, False)
        room = _take(allowed, order[place], table, taken, room + kept, True)
        room = _take(allowed, order[place], table, taken, room, False)
        left = min(functions, some_functions)
        due = limit - room + left + some_apis
        size = 0
        for deployment in order[place]:
            if size == due:
                break
            kind = table[deployment, KIND]
            if allowed[deployment] and kind == SERVERLESS and left > 0:
                taken[deployment] = 1
                left -= 1
            if allowed[deployment] and kind == API:
                taken[deployment] = 1
            for step in range(taken[deployment]):
                replica = (origin * taken[deployment] + step) % table[deployment, REPLICAS]
                engine[index, size] = table[deployment, FIRST] + replica
                times[index, size] = rtt[place, deployment]
                size += 1
        sizes[index] = size
