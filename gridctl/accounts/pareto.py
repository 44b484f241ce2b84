"""Pareto: what a scenario of a sweep came to, and which scenarios no other beats.

A scenario is beaten when another costs no more for a million output tokens of good requests and attains no less, and is
better in one of the two. Those never beaten are the front. A scenario without good requests has no cost and is on no
front. Equal scenarios are on the front together.

Over draws, a scenario's `front_share` is in how many of the replays it was on the front, each replay compared with the
same replay of every other scenario, so that what all share cancels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import msgspec

from gridctl.accounts.tables import TokenomicsRow

State = Literal["done", "missing", "invalid"]


class Numbers(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A replay in numbers: columns of the tokenomics table, defined there."""

    requests: int
    completed: int
    rejected: int
    failed: int
    good: int
    attainment: float | None
    usd: float
    usd_per_mtok: float | None
    usd_per_mtok_output: float | None
    usd_per_mtok_goodput: float | None
    ttft_p50_ms: float | None
    ttft_p99_ms: float | None
    tpot_p50_ms: float | None
    tpot_p99_ms: float | None
    e2e_p99_ms: float | None
    throughput_tok_s: float | None
    goodput_tok_s: float | None
    goodput_rps: float | None
    gpus: int
    gpu_utilization: float | None
    fallback_usd: float


NUMBERS = Numbers.__struct_fields__


class SweepRow(msgspec.Struct, frozen=True, kw_only=True):
    """One scenario of a sweep: what it is, what it came to, and whether anything beats it."""

    scenario: int  # its number, from 1
    values: dict[str, float | str]  # what it has on each axis
    state: State  # invalid: its grid is not whole, and `reason` says why; missing: not replayed yet
    reason: str
    numbers: Numbers | None  # of the plain replay; of one workload where one was asked for
    on_front: bool
    replays: int
    front_share: float | None  # of the replays, those in which it was on the front; None with one replay
    usd_per_mtok_goodput_low: float | None  # over the draws; None with one replay
    usd_per_mtok_goodput_high: float | None
    attainment_low: float | None
    attainment_high: float | None
    digest: str  # of the plain replay's rows


def numbers_of(row: TokenomicsRow) -> Numbers:
    """The columns a sweep keeps."""
    return Numbers(**{name: getattr(row, name) for name in NUMBERS})


def front(points: Sequence[tuple[float | None, float | None] | None]) -> list[bool]:
    """Which of the points (cost, attainment) no other beats. O(n log n).

    >>> front([(2.0, 0.9), (1.0, 0.8), (3.0, 0.9), (1.0, 0.8), None, (None, 1.0)])
    [True, True, False, True, False, False]
    """
    on = [False] * len(points)
    known = [
        (point[0], -point[1], index)
        for index, point in enumerate(points)
        if point is not None and point[0] is not None and point[1] is not None
    ]
    best, best_cost = math.inf, math.inf
    for cost, missed, index in sorted(known):
        # Of one cost the best attainment comes first; an equal one is as good, a worse one is beaten.
        if missed < best or (missed == best and cost == best_cost):
            on[index], best, best_cost = True, missed, cost
    return on
