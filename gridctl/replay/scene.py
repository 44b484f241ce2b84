"""What a replay is played on: the requests, the grid as the router finds it, and the outcomes. Data only."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from gridctl.kernels import Records


class Requests(NamedTuple):
    """A chunk of requests, columns `(n,)`; times in picoseconds. `jitter_ppm` stretches the round trip;
    `leaf` is the stretch of a prompt's last whole prefix node, of which it has `blocks_full`."""

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


class Outcomes(NamedTuple):
    """What the router did with each request, columns `(n,)` over the whole run."""

    engine: NDArray[np.int64]
    outcome: NDArray[np.int64]
    reason: NDArray[np.int64]
    rtt: NDArray[np.int64]


class Scene(NamedTuple):
    """What a run is played on. Per list: `offset`, `reason`, `turns` (round-robin counters); per candidate:
    `candidate`, `rtt_us`; per engine: prices and tier; per workload: access time, priority, declared mean output.
    `sent` tells of each stretch of prefix nodes whether it ever went to an engine; `lessons` is what the router has
    learned of output lengths, taken over again from `next_lesson` on; `idle` is scratch, `(n_profiles, 3)`."""

    offset: NDArray[np.int64]
    candidate: NDArray[np.int64]
    rtt_us: NDArray[np.int64]
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
    sent: NDArray[np.bool_]
    lessons: Records
    next_lesson: NDArray[np.int64]
    idle: NDArray[np.float64]
    period: int
    delay: int
    counts_in_flight: int
