"""Replay: a trace through the router, over the twin of a grid, in virtual time. A trace in, run rows out.

Everything is decided by the inputs and the seed: the clock is the trace's, noise is hashed from request numbers, and
reading and writing in chunks only bounds memory and lets progress be shown.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gridctl.accounts.rows import RunRows, empty_rows
from gridctl.grid.candidates import CandidateLists, find_candidates
from gridctl.grid.image import GridImage
from gridctl.grid.view import GridView
from gridctl.replay.classes import find_classes
from gridctl.replay.declared import workload_specs
from gridctl.replay.faults import Fault
from gridctl.replay.origins import resolve_origins
from gridctl.replay.stage import Played, Stage, set_stage
from gridctl.resources import PolicySpec
from gridctl.traces.trace import Traffic


@dataclass(frozen=True, slots=True)
class Replayed(Played):
    """A replay whose rows lie in memory."""

    rows: RunRows


def replay(
    image: GridImage,
    traffic: Traffic,
    policy: PolicySpec,
    *,
    seed: int = 1,
    advanced: Callable[[int], None] = lambda requests: None,
    longest_jump: int | None = None,
    faults: Sequence[Fault] = (),
) -> Replayed:
    """`replay_into` with the rows kept in memory."""
    rows = empty_rows(len(traffic))
    done = 0

    def keep(some: RunRows) -> None:
        nonlocal done
        for field in dataclasses.fields(RunRows):
            getattr(rows, field.name)[done : done + len(some)] = getattr(some, field.name)
        done += len(some)

    played = replay_into(
        keep, image, traffic, policy, seed=seed, advanced=advanced, longest_jump=longest_jump, faults=faults
    )
    return Replayed(**{field.name: getattr(played, field.name) for field in dataclasses.fields(Played)}, rows=rows)


def replay_into(
    keep: Callable[[RunRows], None],
    image: GridImage,
    traffic: Traffic,
    policy: PolicySpec,
    *,
    seed: int = 1,
    advanced: Callable[[int], None] = lambda requests: None,
    longest_jump: int | None = None,
    faults: Sequence[Fault] = (),
    lists: CandidateLists | None = None,
) -> Played:
    """Replay `traffic` over `image` under `policy`; `keep` is given the rows in order, as soon as they are final.

    Every request must have an origin and a workload (see `traces.overlay`). `advanced` is told how many requests each
    chunk finished. `longest_jump` limits how many decode steps the twin takes at once; it changes nothing but speed.
    `faults` happen at their moments (see `replay.faults`). `lists` are the candidates of `candidates_of`, where many
    replays share them.
    In memory are the trace's prefix stretches and what is in flight, not the requests. Raises InputError for names the
    grid does not know and for a trace longer than 30 days.
    """
    stage = set_stage(keep, image, traffic, policy, seed=seed, longest_jump=longest_jump, faults=faults, lists=lists)
    return played_out(stage, advanced)


def played_out(stage: Stage, advanced: Callable[[int], None] = lambda requests: None) -> Played:
    """Play what is left of a stage, to its end and that of every fault."""
    stage.play_until(len(stage.traffic), advanced)
    while stage.script.due_ns is not None:
        stage.strike()
    return stage.finish()


def candidates_of(image: GridImage, traffic: Traffic, policy: PolicySpec) -> CandidateLists:
    """The candidates of every request of a trace, as `replay_into` finds them."""
    specs = list(workload_specs(image.view, traffic).values())
    places, origins = resolve_origins(image.view, traffic)
    described = find_classes(traffic).described(traffic, specs, policy)
    return find_candidates(image, places, origins, described, policy.candidates)


def check_trace(view: GridView, trace: Traffic) -> None:
    """Raise what `replay` would: InputError for names the grid does not know and for a trace that is too long."""
    workload_specs(view, trace)
    resolve_origins(view, trace)
    find_classes(trace)
