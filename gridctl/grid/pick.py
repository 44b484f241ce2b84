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
    rtt: NDArray[np.int64],
    reach_us: int,
    table: NDArray[np.int64],
    taken: NDArray[np.int64],
    room: int,
    core_only: bool,
) -> int:
    """Take batching engines of allowed deployments within reach, nearest first, while there is room; returns what room
    is left."""
    for deployment in order:
        if room == 0 or rtt[deployment] > reach_us:
            break
        is_wanted = allowed[deployment] and table[deployment, KIND] == GPU
        if is_wanted and (table[deployment, IS_CORE] == 1 or not core_only):
            more = min(room, table[deployment, REPLICAS] - taken[deployment])
            taken[deployment] += more
            room -= more
    return room


@fused
def _count(
    allowed: NDArray[np.bool_], rtt: NDArray[np.int64], reach_us: int, table: NDArray[np.int64]
) -> tuple[int, int, int]:
    """Core engines, function sites and APIs among the allowed deployments within reach."""
    core, functions, apis = 0, 0, 0
    for deployment in range(len(table)):
        if allowed[deployment] and rtt[deployment] <= reach_us:
            kind = table[deployment, KIND]
            core += table[deployment, REPLICAS] if kind == GPU and table[deployment, IS_CORE] == 1 else 0
            functions += 1 if kind == SERVERLESS else 0
            apis += 1 if kind == API else 0
    return core, functions, apis


@compiled
def pick_nearest(
    place_of: NDArray[np.int64],
    numbers: NDArray[np.int64],
    mask_of: NDArray[np.int64],
    masks: NDArray[np.bool_],
    limits: NDArray[np.int64],
    reaches_us: NDArray[np.int64],
    order: NDArray[np.int64],
    rtt: NDArray[np.int64],
    table: NDArray[np.int64],
    functions: int,
    taken: NDArray[np.int64],
    engine: NDArray[np.int32],
    times: NDArray[np.int32],
    sizes: NDArray[np.int64],
) -> None:
    """Fill a row of `engine` and `times` per list, and its size.

    List l is for the origin of row `place_of[l]` of `rtt`, and of `order`, which sorts the deployments by it, under
    `masks[mask_of[l]]`, with at most `limits[mask_of[l]]` batching engines and none farther than
    `reaches_us[mask_of[l]]`. Of the batching engines half are kept for the nearest core ones where there are so many.
    An origin that sees only some replicas of a deployment sees a window that moves with the origin's number."""
    counted, core, some_functions, some_apis, widest = -1, 0, 0, 0, 0
    for index in range(len(place_of)):
        place, kind_of_list = place_of[index], mask_of[index]
        origin, allowed = numbers[place], masks[kind_of_list]
        limit, reach_us = limits[kind_of_list], reaches_us[kind_of_list]
        taken[:] = 0
        # Without a bound the count is the same for every origin; the order's last is the farthest.
        widest = rtt[place, order[place, len(table) - 1]] if len(table) > 0 else 0
        if kind_of_list != counted or reach_us < widest:
            counted = kind_of_list if reach_us >= widest else -1
            core, some_functions, some_apis = _count(allowed, rtt[place], reach_us, table)
        kept = min(limit // 2, core)
        room = _take(allowed, order[place], rtt[place], reach_us, table, taken, limit - kept, False)
        room = _take(allowed, order[place], rtt[place], reach_us, table, taken, room + kept, True)
        room = _take(allowed, order[place], rtt[place], reach_us, table, taken, room, False)
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
