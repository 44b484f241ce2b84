"""Faults amid a load: the twin jumps from one to the next, the oracle steps through them, and both say the same."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from cases import COLUMNS, Case, make_case, profile_of, twin
from stepping import Arrival, Change, Costs, Outcome, SteppedEngine

from gridctl.engine.faults import COLLECT, LOSE, PACE, RESTORE, SEATS, change_engines
from gridctl.engine.state import NIL, Fleet

NOTHING = np.zeros(0, np.int64)


def slowed(costs: Costs, factor: int) -> Costs:
    """Every time as many times as long."""
    rows = {
        name: tuple(tuple((knot, base * factor, slope * factor) for knot, base, slope in row) for row in rows)
        for name, rows in (("decode", costs.decode), ("mixed", costs.mixed))
    }
    names = ("dense", "sample", "chunk", "chunk_kv")
    columns = {name: tuple(one * factor for one in getattr(costs, name)) for name in names}
    return Costs(**rows, **columns, cross=costs.cross * factor)


def script(case: Case, pick: Callable[[int, int], int]) -> list[list[Change]]:
    """For each engine a slow-down, a loss and a brown-out, one after the other or none of them, amid its load."""
    last = max(load.arrival for load in case.loads)
    made = []
    for limits, costs in zip(case.limits, case.costs, strict=True):
        times = sorted({pick(0, 2 * last + 2000) for _ in range(6)})
        while len(times) < 6:
            times.append(times[-1] + 1)
        kinds = [
            [Change(times[0], costs=slowed(costs, pick(2, 4))), Change(times[1], costs=costs)],
            [Change(times[2], back=times[3])],
            [Change(times[4], seats=pick(1, limits.max_num_seqs)), Change(times[5], seats=limits.max_num_seqs)],
        ]
        made.append([change for kind in kinds if pick(0, 3) > 0 for change in kind])
    return made


def stepped(case: Case, scripts: list[list[Change]]) -> tuple[dict[int, Outcome], Counter[str], list[SteppedEngine]]:
    outcomes: dict[int, Outcome] = {}
    seen: Counter[str] = Counter()
    engines = []
    sent = sorted(range(len(case.loads)), key=lambda request: (case.loads[request].sent, request))
    for index, (limits, costs) in enumerate(zip(case.limits, case.costs, strict=True)):
        engine = SteppedEngine(limits, costs)
        arrivals = [
            Arrival(request, load.arrival, order, load.priority, load.prompt, load.output, load.prefix, load.sent)
            for order, request in enumerate(sent)
            if (load := case.loads[request]).engine == index
        ]
        outcomes |= engine.run(arrivals, scripts[index])
        seen += engine.seen
        engines.append(engine)
    return outcomes, seen, engines


def jumped(case: Case, scripts: list[list[Change]], **options: object) -> tuple[Fleet, list[int]]:
    """The twin under the same scripts, and the requests collected from lost engines."""
    acts: list[tuple[int, Callable[[Fleet], None]]] = []
    paces = [profile_of(change.costs) for one in scripts for change in one if change.costs is not None]
    lost: list[int] = []
    tally = np.zeros(3, np.int64)
    pace = 0

    def change(engine: int, what: int, value: int, time: int) -> Callable[[Fleet], None]:
        def act(fleet: Fleet) -> None:
            room = np.zeros(int(fleet.engines.in_flight[engine]), np.int64)
            number = value - len(paces) + len(fleet.profiles.dense_ps) if what == PACE else value
            values = NOTHING if value < 0 else np.array([number], np.int64)
            count = change_engines(fleet, np.array([engine]), what, values, time, case.period, room, tally)
            lost.extend(room[:count].tolist())

        return act

    for engine, one in enumerate(scripts):
        for event in one:
            if event.costs is not None:
                acts.append((event.time, change(engine, PACE, pace, event.time)))
                pace += 1
            elif event.seats is not None:
                acts.append((event.time, change(engine, SEATS, event.seats, event.time)))
            else:
                assert event.back is not None
                acts.append((event.time, change(engine, LOSE, -1, event.time)))
                acts.append((event.back, change(engine, COLLECT, -1, event.back)))
                acts.append((event.back, change(engine, RESTORE, -1, event.back)))
    return twin(case, acts=acts, paces=paces, **options), lost  # type: ignore[arg-type]


def assert_the_same(case: Case, scripts: list[list[Change]]) -> Counter[str]:
    outcomes, seen, engines = stepped(case, scripts)
    fleet, lost = jumped(case, scripts)
    for column in COLUMNS:
        expected = [getattr(outcomes[request], column) for request in range(len(case.loads))]
        assert list(getattr(fleet.results, column)) == expected, column
    gone = [request for request, outcome in outcomes.items() if outcome.last_token == NIL]
    assert sorted(lost) == sorted(gone)
    for host, engine in zip(fleet.engines, engines, strict=True):
        assert host.busy == engine.busy
        assert host.preempted == engine.seen["preemptions"]
        assert host.free_blocks + host.cached_blocks == host.blocks_total
        assert host.in_flight == host.pending_tokens == host.running == host.waiting == host.inbound == 0
    assert fleet.free_sequences[0] == len(fleet.sequences)
    for options in ({"longest_jump": 1}, {"with_queries": False}):
        other, same = jumped(case, scripts, **options)
        assert same == lost
        for column in COLUMNS:
            assert np.array_equal(getattr(other.results, column), getattr(fleet.results, column)), (column, options)
    return seen


@pytest.mark.parametrize("group", range(8))
def test_jump_equals_step_amid_faults(group: int) -> None:
    """A loss, a slow-down and a brown-out in the middle: what is lost is lost in both, and nothing else differs."""
    seen: Counter[str] = Counter()
    for seed in range(25 * group, 25 * group + 25):
        generator = random.Random(seed)
        case = make_case(generator.randint, generator.randint(10, 40))
        seen += assert_the_same(case, script(case, generator.randint))
    assert min(seen[what] for what in ("lost", "changes", "preemptions", "cache hits", "mixed steps")) > 0, seen


def test_changes_at_the_very_moments_at_which_steps_end_and_requests_come() -> None:
    """In round cases steps end, requests arrive and somebody looks at multiples of a hundred; so do these faults."""
    checked = 0
    for seed in range(200):
        generator = random.Random(seed)
        case = make_case(generator.randint, 20)
        if any(len(set(costs.dense)) > 1 for costs in case.costs):
            continue
        rounded = [
            [
                dataclasses.replace(
                    change,
                    time=change.time // 100 * 100,
                    back=None if change.back is None else change.back // 100 * 100 + 100,
                )
                for change in one
            ]
            for one in script(case, generator.randint)
        ]
        ordered = all(
            a.time < b.time and (a.back or 0) <= b.time for one in rounded for a, b in itertools.pairwise(one)
        )
        if ordered:
            assert_the_same(case, rounded)
            checked += 1
    assert checked >= 10
