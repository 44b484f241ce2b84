"""The live engine is the replay's: whoever looks whenever, every token comes when the twin alone would make it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
from mockbench import linear_engine

from gridctl.engine.clock import drain
from gridctl.engine.fleet import EngineSpec, build_fleet, dispatch
from gridctl.engine.stretches import StretchFinder
from gridctl.mockengine.clock import Clock
from gridctl.mockengine.pace import EngineFullError
from gridctl.mockengine.steps import QUIET_UNTIL
from gridctl.mockengine.twinpace import TwinPace
from gridctl.units import PS_PER_MS


class Handmade(Clock):
    """A clock that shows what it is told."""

    def __init__(self) -> None:
        super().__init__(1.0)
        self.shown = 0

    def now_ps(self) -> int:
        return self.shown


@dataclass(eq=False)
class Asked:
    """A request, and when it was told of each of its tokens."""

    clock: Handmade
    arrival: int
    prompt_tokens: int
    output_tokens: int
    blocks: tuple[int, ...]
    leaves_after: int | None = None
    priority: int = 0
    told: list[tuple[int, int]] = field(default_factory=list)
    cached: int = 0

    def given(self, tokens: int, cached_tokens: int) -> None:
        self.told.append((self.clock.shown, tokens))
        self.cached = cached_tokens


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def requests(seed: int, clock: Handmade, count: int) -> list[Asked]:
    """Requests in bursts, over a small tree of prompts: equal blocks mean equal beginnings."""
    draw = random.Random(seed)
    now, asked = 0, []
    for _ in range(count):
        now += draw.choice((0, 1, 7 * PS_PER_MS, 25 * PS_PER_MS + 3))
        path: tuple[int, ...] = ()
        blocks = []
        for _ in range(draw.randrange(6)):
            path = (*path, draw.randrange(2))
            blocks.append(hash(path))
        prompt = 16 * len(blocks) + draw.randrange(1, 40)
        asked.append(Asked(clock, now, prompt, draw.choice((1, 2, 9, 30)), tuple(blocks)))
    return asked


def alone(spec: EngineSpec, asked: list[Asked]) -> list[tuple[int, int, int]]:
    """First token, last token and cached tokens of each request, served by the twin as a replay has it: prefixes known
    beforehand, everything drained at once."""
    ids: dict[tuple[int, ...], int] = {}
    nodes = [[ids.setdefault(one.blocks[: at + 1], len(ids)) for at in range(len(one.blocks))] for one in asked]
    flat = np.array([node for path in nodes for node in path], np.int64)
    offsets = np.cumsum([0, *map(len, nodes)]).astype(np.int64)
    counts = np.diff(offsets)
    ones = np.ones(len(flat), np.int64)
    finder = StretchFinder(max(1, len(ids)))
    finder.mark(offsets, flat, ones, counts)
    finder.number()
    assert finder.link(offsets, flat, ones, counts)
    leaves = finder.leaves(offsets, flat, ones, counts)
    fleet = build_fleet([spec], requests=len(asked), stretches=finder.stretches(), node_tokens=16)
    for number, one in enumerate(asked):
        dispatch(fleet, 0, number, 0, 0, one.arrival, one.prompt_tokens, one.output_tokens, int(leaves[number]),
                 len(one.blocks), one.prompt_tokens, 0)  # fmt: skip
    drain(fleet)
    return [(int(row.first_token), int(row.last_token), int(row.cached_tokens)) for row in fleet.results]


def live(pace: TwinPace, clock: Handmade, asked: list[Asked], looks: random.Random) -> None:
    """Serve the requests as they come, looking at the end of every step and at any moment between."""
    coming = sorted(asked, key=lambda one: one.arrival)
    leaving = [one for one in asked if one.leaves_after is not None]
    leaving.sort(key=lambda one: one.arrival + (one.leaves_after or 0))
    while coming or pace._answers:
        due = [int(pace._facts[QUIET_UNTIL])]
        due += [one.arrival for one in coming[:1]]
        due += [one.arrival + (one.leaves_after or 0) for one in leaving[:1]]
        due += [clock.shown + looks.randrange(1, 20 * PS_PER_MS)] if looks.random() < 0.3 else []
        clock.shown = max(clock.shown, min(due))
        pace._look()
        while coming and coming[0].arrival <= clock.shown:
            pace.submit(coming.pop(0))
        while leaving and leaving[0].arrival + (leaving[0].leaves_after or 0) <= clock.shown:
            pace.leave(leaving.pop(0))


@pytest.mark.parametrize("seed", range(40))
def test_tokens_come_when_the_twin_alone_makes_them(seed: int, loop: asyncio.AbstractEventLoop) -> None:
    draw = random.Random(1000 + seed)
    spec = linear_engine(
        step_ms=draw.choice((1.0, 7.3)),
        token_ms=draw.choice((0.0, 0.011)),
        kv_blocks=draw.choice((14, 30, 400)),
        max_num_seqs=draw.choice((2, 5, 16)),
        max_num_batched_tokens=draw.choice((16, 64, 256)),
    )
    clock = Handmade()
    asked = requests(seed, clock, 60)
    pace = TwinPace(loop, spec, clock)
    live(pace, clock, asked, random.Random(seed))
    expected = alone(spec, asked)
    assert [(one.told[0][0], one.told[-1][0], one.cached) for one in asked] == expected
    for one in asked:
        assert [tokens for _, tokens in one.told] == list(range(1, one.output_tokens + 1)), (
            "each token is told by itself"
        )
    gauges = pace.gauges()
    assert (gauges.running, gauges.waiting, gauges.kv_used_tokens) == (0, 0, 0)
    assert gauges.prefix_hits == sum(one.cached for one in asked)
    pace.close()


@pytest.mark.parametrize("seed", range(40))
def test_clients_that_leave_free_all_they_held(seed: int, loop: asyncio.AbstractEventLoop) -> None:
    spec = linear_engine(step_ms=5.0, token_ms=0.02, kv_blocks=24, max_num_seqs=4, max_num_batched_tokens=48)
    clock = Handmade()
    asked = requests(seed, clock, 50)
    draw = random.Random(seed)
    for one in asked:
        if draw.random() < 0.5:
            one.leaves_after = draw.randrange(0, 120 * PS_PER_MS)
    pace = TwinPace(loop, spec, clock)
    live(pace, clock, asked, draw)
    host = pace._fleet.engines[0]
    assert (host.running, host.waiting, host.inbound, host.in_flight, host.pending_tokens) == (0, 0, 0, 0, 0)
    assert (host.decoding, host.kv_tokens, host.prefilling) == (0, 0, -1)
    assert host.free_blocks + host.cached_blocks == spec.kv_blocks
    assert int(pace._fleet.free_sequences[0]) == len(pace._fleet.sequences)
    assert not pace._fleet.phases.any()
    stayed = [one for one in asked if one.leaves_after is None]
    assert any(not one.told for one in asked if one.leaves_after is not None), "some left before their first token"
    assert any(one.told and one.told[-1][1] < one.output_tokens for one in asked), "and some after it"
    assert all(one.told[-1][1] == one.output_tokens for one in stayed)
    # The engine is as good as new: what it caches aside, a request takes what it takes on an empty one.
    clock.shown += PS_PER_MS
    fresh = Asked(clock, clock.shown, 40, 3, ())
    live(pace, clock, [fresh], draw)
    assert [at - fresh.arrival for at, _ in fresh.told] == [
        round(first * PS_PER_MS) for first in (5.8, 5.8 + 5.02, 5.8 + 2 * 5.02)
    ]
    pace.close()


def test_a_request_that_leaves_the_queue_was_never_there(loop: asyncio.AbstractEventLoop) -> None:
    spec = linear_engine(step_ms=10.0, max_num_seqs=1)
    clock = Handmade()
    pace = TwinPace(loop, spec, clock)
    first, second, third = (Asked(clock, at, 16, 4, ()) for at in (0, 1, 2))
    for one in (first, second, third):
        clock.shown = one.arrival
        pace.submit(one)
    clock.shown = 10 * PS_PER_MS
    assert pace.gauges().waiting == 2
    clock.shown = 15 * PS_PER_MS
    pace.leave(second)
    live(pace, clock, [], random.Random(0))
    # Four steps of 10 ms each: the third request follows the first at 40 ms.
    assert [at for at, _ in first.told] == [ms * PS_PER_MS for ms in (10, 20, 30, 40)]
    assert second.told == []
    assert [at for at, _ in third.told] == [ms * PS_PER_MS for ms in (50, 60, 70, 80)]
    pace.close()


def test_a_client_that_leaves_amid_a_step_frees_its_seat_at_its_end(loop: asyncio.AbstractEventLoop) -> None:
    spec = linear_engine(step_ms=10.0, token_ms=1.0, max_num_seqs=2)
    clock = Handmade()
    pace = TwinPace(loop, spec, clock)
    leaver, stayer = Asked(clock, 0, 1, 50, ()), Asked(clock, 0, 1, 6, ())
    pace.submit(leaver)
    pace.submit(stayer)
    clock.shown = 1
    pace._look()
    # Both prompts in one step of two tokens: 12 ms; then steps of two decodes: 12 ms. It leaves amid the second.
    clock.shown = 12 * PS_PER_MS
    pace._look()
    clock.shown = 20 * PS_PER_MS
    pace.leave(leaver)
    assert pace.gauges().running == 1
    live(pace, clock, [], random.Random(0))
    assert [at for at, _ in leaver.told] == [12 * PS_PER_MS]
    assert [at for at, _ in stayer.told] == [ms * PS_PER_MS for ms in (12, 24, 35, 46, 57, 68)]
    pace.close()


def test_a_full_queue_refuses(loop: asyncio.AbstractEventLoop) -> None:
    clock = Handmade()
    pace = TwinPace(loop, linear_engine(max_num_seqs=1, max_waiting=2), clock)
    for _ in range(2):
        pace.submit(Asked(clock, 0, 16, 4, ()))
    with pytest.raises(EngineFullError):
        pace.submit(Asked(clock, 0, 16, 4, ()))
    pace.close()


def test_an_engine_that_stands_makes_nothing_and_goes_on_where_it_stood(loop: asyncio.AbstractEventLoop) -> None:
    clock = Clock(0.0)
    assert clock.now_ps() == clock.now_ps()
    assert clock.wall_ns(5) is None
    clock.set_speed(2.0)
    when = clock.wall_ns(10 * PS_PER_MS)
    assert when is not None
    assert when - clock._since_ns == pytest.approx(5_000_000, abs=2)


def test_prompts_beyond_the_room_for_blocks_are_served_without_a_cache(
    loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gridctl.mockengine.twinpace.SPARE_NODES", 8)
    spec = linear_engine(kv_blocks=12, max_num_seqs=1)
    clock = Handmade()
    pace = TwinPace(loop, spec, clock)
    asked = [Asked(clock, 40 * PS_PER_MS * n, 100, 2, tuple(range(1000 * n, 1000 * n + 6))) for n in range(20)]
    live(pace, clock, asked, random.Random(0))
    assert all(one.told[-1][1] == 2 for one in asked)
    again = Asked(clock, clock.shown, 100, 2, asked[-1].blocks)
    live(pace, clock, [again], random.Random(0))
    assert again.cached == 96
    pace.close()
