"""Warm-up: compile (or load) every kernel of the replay by replaying one request over the smallest grid there is."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import numpy as np

from gridctl.grid.image import build_image
from gridctl.grid.smallest import smallest_grid
from gridctl.kernels.cache import is_warm, mark_warm, sole_compiler
from gridctl.kernels.linking import Watch
from gridctl.replay.replay import replay
from gridctl.replay.resolving import resolve_faults
from gridctl.resources import PolicySpec
from gridctl.resources.gameday import FaultSpec, GameDaySpec, Where
from gridctl.traces.trace import Trace

__all__ = ["is_warm", "warm_up", "warm_up_faults"]

KERNELS_OF_A_REPLAY = 140
"""A good third more than there are: so much work is left for LLVM when the last one has been lowered."""
MOST_PERCENT = 95


def warm_up(waiting: Callable[[], None] = lambda: None, compiled: Callable[[int], None] = lambda percent: None) -> None:
    """Make the next replay start at full speed. Seconds on a machine that never ran this version, else a blink.

    `compiled` is told of every few percent of the work. One process compiles, others wait for it: `waiting` is called
    when this one does. Killed at any point, it leaves what is whole, and the next call does the rest."""
    if is_warm():
        _replay_the_smallest()
        return
    with sole_compiler(waiting):
        with _attended(compiled) if not is_warm() else nullcontext():
            _replay_the_smallest()
            warm_up_faults()
        mark_warm()


@contextmanager
def _attended(compiled: Callable[[int], None]) -> Iterator[None]:
    """Compilation told kernel by kernel, and without the garbage collector, which walks millions of live objects."""
    told = 0
    done = 0

    def finished() -> None:
        nonlocal told, done
        done += 1
        percent = min(MOST_PERCENT, 100 * done // KERNELS_OF_A_REPLAY)
        compiled(percent - told)
        told = percent

    was_collecting = gc.isenabled()
    gc.disable()
    Watch.finished = staticmethod(finished)
    try:
        yield
    finally:
        Watch.finished = staticmethod(lambda: None)
        gc.freeze()  # what the compiler keeps it keeps for good: not worth a walk either
        if was_collecting:
            gc.enable()
    compiled(100 - told)


def warm_up_faults() -> None:
    """Make the next replay with faults start at full speed, too, in this process and in those it makes."""
    lose = FaultSpec(at="1s", lasts="1s", lose=Where(site="warmup"))
    _replay_the_smallest(GameDaySpec(faults=(lose,)))


def _replay_the_smallest(game_day: GameDaySpec | None = None) -> None:
    """Replay two requests whose prefix blocks need all that may happen to prefix blocks."""
    one, first = np.ones(2, np.int64), np.zeros(2, np.int32)
    trace = Trace(
        name="warmup",
        arrival_ns=np.zeros(2, np.int64),
        input_tokens=33 * one,
        output_tokens=one,
        origin=first,
        workload=first,
        tenant=first,
        model=np.full(2, -1, np.int32),
        session=np.full(2, -1, np.int64),
        block_tokens=16,
        block_offsets=np.array([0, 2, 4]),
        block_ids=np.array([0, 1, 2, 1]),  # the same id after two others: such traces are renumbered, by a kernel
        origins=("warmup",),
        workloads=("warmup",),
        tenants=("default",),
    )
    image = build_image(smallest_grid())
    replay(image, trace, PolicySpec(), faults=resolve_faults(game_day, image) if game_day is not None else ())
