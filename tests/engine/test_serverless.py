"""Function instances by hand, and random loads against an event list; the fallback API by hand."""

from __future__ import annotations

import random

import numpy as np
import pytest
from handmade import step_profile

from gridctl.engine.clock import advance, drain
from gridctl.engine.fleet import EngineSpec, build_fleet, dispatch
from gridctl.engine.profile import StepProfile
from gridctl.engine.state import API, SERVERLESS, Fleet

MS = 10**9
TICK = 10**7
WIDTH = 4
COLD_MS = 100
KEEP_WARM_MS = 1000
TEN_MS = (10, 1)
"""A prompt of ten tokens, one token out: ten milliseconds on `plain`."""


def plain() -> StepProfile:
    """A millisecond a token, nothing else."""
    return step_profile(np.arange(WIDTH + 1) * MS, np.zeros(2, np.int64))


def serve(
    loads: list[tuple[int, int, int]],
    *,
    instances: int = 1,
    profile: StepProfile | None = None,
    looks: tuple[int, ...] = (),
) -> Fleet:
    """Serve `(arrival in ps, prompt, output)`, looking at the site at the given times."""
    spec = EngineSpec(
        kind=SERVERLESS,
        profile=profile or plain(),
        max_num_seqs=instances,
        max_num_batched_tokens=WIDTH,
        cold_start_ms=COLD_MS,
        keep_warm_s=KEEP_WARM_MS / 1000,
    )
    fleet = build_fleet([spec], requests=len(loads), in_flight=len(loads))
    events = [(time, 0, 0) for time in looks] + [(arrival, 1, request) for request, (arrival, _, _) in enumerate(loads)]
    for time, is_dispatch, request in sorted(events):
        if is_dispatch:
            dispatch(fleet, 0, request, 0, 0, time, loads[request][1], loads[request][2], 0, 0, 7, 0)
        else:
            advance(fleet, 0, time)
    drain(fleet)
    host = fleet.engines[0]
    assert host.in_flight == host.pending_tokens == host.running == host.waiting == host.inbound == 0
    assert host.busy == sum(fleet.results.share)
    return fleet


def test_prefill_runs_in_chunks_and_every_decode_step_reads_one_token_more() -> None:
    """Five tokens: a chunk of four (4 ms) and one (1 ms), one sample (0.5 ms), 15 pairs of 2 ps. Two decode steps of
    1.5 ms read 6 and 7 KV tokens at 1 µs. Cold start 100 ms."""
    profile = step_profile(np.arange(WIDTH + 1) * MS, np.array([0, MS // 2]), slope_ps=10**6, pair_ps=2)
    fleet = serve([(0, 5, 3)], profile=profile)
    assert fleet.results.scheduled[0] == 0
    assert fleet.results.first_token[0] == 100 * MS + 5 * MS + MS // 2 + 30
    assert fleet.results.last_token[0] == 105 * MS + MS // 2 + 30 + 3 * MS + 13 * 10**6
    assert fleet.results.share[0] == fleet.results.last_token[0]


def test_an_instance_is_warm_up_to_and_including_its_last_moment() -> None:
    """The first is done at 110 ms and its instance stays until 1,110 ms."""
    for late, first_token in ((0, 1120 * MS), (1, 1220 * MS + 1)):
        fleet = serve([(0, *TEN_MS), (1110 * MS + late, *TEN_MS)])
        assert fleet.results.first_token.tolist() == [110 * MS, first_token]
        assert fleet.results.share.tolist() == [110 * MS, first_token - 1110 * MS - late]


def test_beyond_the_concurrency_limit_requests_wait_their_turn() -> None:
    """Two start cold at 0; the third takes the first warm instance at 110 ms, the fourth the other, the fifth waits
    for them at 120 ms."""
    fleet = serve([(0, *TEN_MS)] * 5, instances=2)
    assert fleet.results.scheduled.tolist() == [0, 0, 110 * MS, 110 * MS, 120 * MS]
    assert fleet.results.last_token.tolist() == [110 * MS, 110 * MS, 120 * MS, 120 * MS, 130 * MS]


def test_the_most_recently_used_instance_serves_so_that_the_others_expire() -> None:
    """Idle since 110 and 150 ms; at 1,120 ms only the second is warm, and two requests come."""
    fleet = serve([(0, *TEN_MS), (40 * MS, *TEN_MS), (1120 * MS, *TEN_MS), (1120 * MS, *TEN_MS)], instances=2)
    assert fleet.results.last_token.tolist() == [110 * MS, 150 * MS, 1130 * MS, 1230 * MS]


def test_an_arrival_of_the_moment_an_instance_becomes_free_takes_it() -> None:
    """A second instance could start, but it would be cold."""
    fleet = serve([(0, *TEN_MS), (110 * MS, *TEN_MS)], instances=2)
    assert fleet.results.first_token.tolist() == [110 * MS, 120 * MS]


def test_an_instance_is_free_at_the_next_tick_though_its_answer_was_earlier() -> None:
    """A millisecond and one picosecond a token: the first ends 10 ps after 110 ms, the second starts a tick after."""
    odd = step_profile(np.arange(WIDTH + 1) * (MS + 1), np.zeros(2, np.int64))
    fleet = serve([(0, *TEN_MS), (0, *TEN_MS)], profile=odd)
    assert fleet.results.last_token[0] == 110 * MS + 10
    assert fleet.results.scheduled[1] == 110 * MS + TICK


def event_list(loads: list[tuple[int, int, int]], instances: int) -> list[tuple[int, int]]:
    """(scheduled, last token) of each request on `plain`, from a plain list of when each instance was last used."""
    idle: list[int] = []
    busy: list[int] = []
    started: list[tuple[int, int]] = []
    for arrival, prompt, output in loads:
        now = max(arrival, started[-1][0]) if started else arrival
        if len([free for free in busy if free > now]) >= instances:
            now = sorted(busy)[-instances]
        idle += [free for free in busy if free <= now]
        busy = [free for free in busy if free > now]
        warm = [since for since in idle if now - since <= KEEP_WARM_MS * MS]
        duration = (prompt + output - 1) * MS + (0 if warm else COLD_MS * MS)
        if warm:
            idle.remove(max(warm))
        else:
            idle = []
        started.append((now, now + duration))
        busy.append(-(-(now + duration) // TICK) * TICK)
    return started


@pytest.mark.parametrize("seed", range(60))
def test_random_loads_equal_an_event_list_whoever_looks(seed: int) -> None:
    generator = random.Random(seed)
    instances, gap = generator.randint(1, 4), generator.choice([5, 50, 500, 2000])
    arrival, loads = 0, []
    for _ in range(40):
        arrival += generator.choice([0, generator.randint(0, gap) * MS + generator.randint(0, 3)])
        loads.append((arrival, generator.randint(1, 30), generator.randint(1, 30)))
    looks = tuple(generator.randint(0, 2 * arrival + 1) for _ in range(30))
    fleet = serve(loads, instances=instances, looks=looks)
    found = list(zip(fleet.results.scheduled.tolist(), fleet.results.last_token.tolist(), strict=True))
    assert found == event_list(loads, instances)


def test_the_fallback_api_answers_with_its_stated_times() -> None:
    """TTFT 300 ms, then four more tokens at 20 ms."""
    fleet = build_fleet([EngineSpec(kind=API, ttft_ms=300, tpot_ms=20)], requests=1)
    dispatch(fleet, 0, 0, 0, 0, 5 * MS, 1000, 5, 0, 0, 1000, 0)
    assert fleet.results.scheduled[0] == 5 * MS
    assert fleet.results.first_token[0] == 305 * MS
    assert fleet.results.last_token[0] == 385 * MS
    assert fleet.engines[0].in_flight == 0
