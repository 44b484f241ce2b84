"""What a replay is played on: the requests, the grid as the router finds it, and the outcomes. Data only."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gridctl.engine.state import GPU, Fleet

if TYPE_CHECKING:
    from gridctl.kernels import Records


MARKS = 62
"""Engines share so many bits in `Scene.sent`; a sign bit would be another number interpreted."""

NUMBER, TTFT, TPOT, CLOSED = range(4)
"""Columns of `Scene.idle`: the request a forecast is for, what it is, and the last request for which the profile's
further candidates were out."""


class Requests(NamedTuple):
    """A chunk of requests, columns `(n,)`; times in picoseconds. `jitter_ppm` stretches the round trip;
    `leaf` is the stretch of a prompt's last whole prefix node, of which it has `blocks_full`; `number` counts from the
    window's first request."""

    arrival: NDArray[np.int64]
    list_index: NDArray[np.int64]
    workload: NDArray[np.int64]
    prompt_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    leaf: NDArray[np.int64]
    blocks_full: NDArray[np.int64]
    jitter_ppm: NDArray[np.int64]
    draw: NDArray[np.int64]
    session: NDArray[np.int64]
    number: NDArray[np.int64]


class Outcomes(NamedTuple):
    """What the router did with each request last, columns `(n,)` over the whole window."""

    engine: NDArray[np.int64]
    outcome: NDArray[np.int64]
    reason: NDArray[np.int64]
    rtt: NDArray[np.int64]


class Scene(NamedTuple):
    """What a run is played on. Per list: `offset`, `reason`, `turns` (round-robin counters); per candidate:
    `candidate`, `rtt_us` as the router believes, `wire_us` as it is (negative: there is no way); per list again: the
    `last_place` of a candidate without GPU, and how many `profiles` the others have; per engine: prices and tier; per
    workload: access time, priority, declared mean output. `sent` tells of each stretch of prefix nodes which engines it
    ever went to, a bit for every MARKS-th; `lessons` is what the router has learned of output lengths, taken over again
    from `next_lesson` on; `profile_of` is an engine's row of `idle`. Scratch: `idle`, `(n_profiles + 1, 4)`, the last
    for what has no GPU; `places` of the rows."""

    offset: NDArray[np.int64]
    candidate: NDArray[np.int32]
    rtt_us: NDArray[np.int32]
    wire_us: NDArray[np.int32]
    last_place: NDArray[np.int32]
    profiles: NDArray[np.int32]
    reason: NDArray[np.int64]
    turns: NDArray[np.int64]
    is_core: NDArray[np.int64]
    gpu_usd_per_ps: NDArray[np.float64]
    cash_usd_per_ps: NDArray[np.float64]
    usd_per_input_token: NDArray[np.float64]
    usd_per_output_token: NDArray[np.float64]
    access_us: NDArray[np.int64]
    priority: NDArray[np.int64]
    mean_output_tokens: NDArray[np.int64]
    sent: NDArray[np.int64]
    lessons: Records
    next_lesson: NDArray[np.int64]
    profile_of: NDArray[np.int64]
    idle: NDArray[np.float64]
    places: NDArray[np.int64]
    period: int
    delay: int
    counts_in_flight: int


def profile_rows(fleet: Fleet) -> NDArray[np.int64]:
    """`Scene.profile_of`: each engine's row of `Scene.idle`."""
    return np.where(fleet.engines.kind == GPU, fleet.engines.profile, len(fleet.profiles.dense_ps))


def list_ends(
    offset: NDArray[np.int64], candidate: NDArray[np.int32], row_of: NDArray[np.int64], none: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """`Scene.last_place` and `Scene.profiles`: what a request must have seen of its list before the rest may be left.
    `none` is the row of engines without a GPU."""
    lists = np.repeat(np.arange(len(offset) - 1), np.diff(offset))
    rows = row_of[candidate]
    is_other = rows == none
    last = np.full(len(offset) - 1, -1, np.int32)
    np.maximum.at(last, lists[is_other], np.flatnonzero(is_other).astype(np.int32))
    has = np.zeros((len(offset) - 1, none + 1), np.bool_)
    has[lists, rows] = True
    return last, has[:, :none].sum(axis=1, dtype=np.int32)
