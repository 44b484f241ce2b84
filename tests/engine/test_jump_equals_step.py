"""The twin jumps; the oracle steps. Both say the same of every request, bit for bit, whoever looks in between."""

from __future__ import annotations

import dataclasses
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from cases import COLUMNS, Case, Load, Query, audit, large_case, make_case, oracle, sights, twin
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from mixed_case import digest
from stepping import Costs, Limits

from gridctl.engine.state import NIL, Fleet

ROOT = Path(__file__).parents[2]
HAPPENINGS = (
    "preemptions",
    "prefills preempted",
    "decodes preempted",
    "least urgent preempted",
    "evictions",
    "cache hits",
    "copies freed",
    "partial prefills",
    "mixed steps",
    "several prompts in a step",
    "later segments",
    "admissions refused by memory",
    "caching sequences that finish together",
)
SCRAPED = [f"{age}_{what}" for age in ("scrape", "older") for what in ("time", "running", "waiting", "pending_tokens")]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A random load on one or two engines with little memory."""

    def pick(low: int, high: int) -> int:
        return draw(st.integers(low, high))

    return make_case(pick, pick(1, 25))


def assert_twin_equals_oracle(case: Case, fleet: Fleet) -> Counter[str]:
    """Every result equal, every list empty, every block free or cached, every picosecond shared out."""
    outcomes, seen, engines = oracle(case)
    for column in COLUMNS:
        expected = [getattr(outcomes[request], column) for request in range(len(case.loads))]
        assert list(getattr(fleet.results, column)) == expected, column
    for index, (host, stepped) in enumerate(zip(fleet.engines, engines, strict=True)):
        assert host.busy == stepped.busy
        assert host.preempted == stepped.seen["preemptions"]
        assert host.free_blocks == len(stepped.free)
        assert host.free_blocks + host.cached_blocks == host.blocks_total
        assert host.in_flight == host.pending_tokens == host.running == host.waiting == host.inbound == 0
        assert host.running_head == host.waiting_head == host.inbound_head == host.prefilling == NIL
        shared = sum(outcomes[request].share for request, load in enumerate(case.loads) if load.engine == index)
        assert 0 <= host.busy - shared < host.max_num_batched_tokens
    assert fleet.free_sequences[0] == len(fleet.sequences)
    return seen


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(case=cases())
def test_jump_equals_step(case: Case) -> None:
    jumping = twin(case, audits=True)
    seen = assert_twin_equals_oracle(case, jumping)
    for happening in HAPPENINGS:
        if seen[happening]:
            event(happening)
    stepping = twin(case, longest_jump=1)
    for column in COLUMNS:
        assert np.array_equal(getattr(stepping.results, column), getattr(jumping.results, column)), column
    for field in SCRAPED:
        assert list(stepping.engines[field]) == list(jumping.engines[field]), field
    unobserved = twin(case, with_queries=False)
    for column in COLUMNS:
        assert np.array_equal(getattr(unobserved.results, column), getattr(jumping.results, column)), column


def test_fixed_cases_exercise_every_rule_and_equal_the_oracle() -> None:
    seen: Counter[str] = Counter()
    for seed in range(150):
        generator = random.Random(seed)
        case = make_case(generator.randint, generator.randint(10, 40))
        seen += assert_twin_equals_oracle(case, twin(case))
    rare = [happening for happening in HAPPENINGS if seen[happening] < 10]
    assert not rare, seen


def test_a_look_sees_what_stepping_through_would_show() -> None:
    """Looks leave an engine alone while only its decodes run on; what they see must be of the moment all the same."""
    looks = 0
    for seed in range(60):
        generator = random.Random(seed)
        case = make_case(generator.randint, generator.randint(10, 40))
        last = max(load.arrival for load in case.loads)
        engines = len(case.limits)
        queries = tuple(Query(generator.randrange(engines), generator.randint(0, 3 * last), True) for _ in range(40))
        case = dataclasses.replace(case, queries=queries)
        jumping = sights(case)
        assert jumping == sights(case, steps=True), seed
        looks += sum(seen[0] > 0 for seen in jumping)
    assert looks > 500, "most looks should find something in flight"


def test_a_long_overload_keeps_the_books_at_every_moment() -> None:
    case = make_case(random.Random(7).randint, 300)
    fleet = twin(case, audits=True)
    assert_twin_equals_oracle(case, fleet)
    audit(fleet)


@pytest.mark.parametrize("priority_scheduling", [False, True])
def test_an_engine_of_everyday_size_equals_the_oracle(priority_scheduling: bool) -> None:
    case = large_case(random.Random(11), priority_scheduling)
    seen = assert_twin_equals_oracle(case, twin(case))
    assert min(seen[happening] for happening in ("preemptions", "evictions", "cache hits", "later segments")) >= 20


def test_interpreted_equals_compiled() -> None:
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(ROOT)}
    script = Path(__file__).with_name("mixed_case.py")
    interpreted = subprocess.run(
        [sys.executable, "-W", "error", str(script)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert interpreted.returncode == 0, interpreted.stderr
    assert interpreted.stdout == digest()


def small_engine(**limits: int | bool) -> Limits:
    """Two sequences at most, no caching, first come first served, unless said otherwise."""
    defaults: dict[str, int | bool] = {
        "max_num_seqs": 2,
        "max_num_batched_tokens": 16,
        "block_size": 1,
        "kv_blocks": 100,
        "node_tokens": 2,
        "prefix_caching": False,
        "priority_scheduling": False,
    }
    return Limits(**(defaults | limits))  # type: ignore[arg-type]


def ten_per_step(limits: Limits) -> Costs:
    """Every step takes 10 ps, whatever is in it."""
    width = limits.max_num_batched_tokens + 1
    nothing = (0,) * width
    return Costs((10,) * width, (0,) * (limits.max_num_seqs + 1), (((0, 0, 0),),), (((0, 0, 0),),), 0, nothing, nothing)


def serve(limits: Limits, loads: list[Load], queries: tuple[Query, ...] = ()) -> Fleet:
    """Serve `loads` at 10 ps a step; the oracle must agree before anything is said by hand."""
    case = Case((limits,), (ten_per_step(limits),), tuple(loads), queries, 10**6)
    fleet = twin(case, audits=True)
    assert_twin_equals_oracle(case, fleet)
    return fleet


def load(
    arrival: int, prompt: int, output: int, *, sent: int = 0, priority: int = 0, prefix: tuple[int, ...] = ()
) -> Load:
    return Load(0, sent, arrival, priority, prompt, output, prefix)


def test_an_idle_engine_serves_an_earlier_arrival_that_is_sent_later() -> None:
    """The first request is still on the wire at 50; the second is sent at 60 from nearby and is there at 61."""
    loads = [load(100, 3, 1, sent=0), load(61, 3, 1, sent=60)]
    fleet = serve(small_engine(), loads, (Query(0, 50, False),))
    assert list(fleet.results.scheduled) == [100, 61]
    assert list(fleet.results.last_token) == [110, 71]


def test_a_request_that_arrives_when_a_step_starts_is_in_that_step() -> None:
    fleet = serve(small_engine(), [load(0, 3, 3), load(10, 3, 1, sent=10), load(11, 3, 1, sent=11)])
    assert list(fleet.results.scheduled) == [0, 10, 20]
    assert list(fleet.results.last_token) == [30, 20, 30]


def test_an_evicted_prefix_lets_the_head_of_the_queue_in() -> None:
    """B lost its memory at 20, its two tokens stay cached. At 30 A's next block evicts them: B, found nothing of, then
    asks for one token's block instead of three and joins; its three tokens are done in chunks of one and two."""
    limits = small_engine(max_num_batched_tokens=2, kv_blocks=5, prefix_caching=True)
    fleet = serve(limits, [load(0, 1, 4), load(0, 2, 2, prefix=(0,))])
    assert list(fleet.results.preemptions) == [0, 1]
    assert list(fleet.results.last_token) == [40, 50]


def test_an_urgent_prefill_without_memory_preempts_the_least_urgent() -> None:
    """At 30 the decode (5 tokens with the next) and the urgent prompt's third token exceed seven blocks by one. The
    decode goes, the prompt takes the whole budget and is done at 40; the decode's five tokens are recomputed by 70."""
    limits = small_engine(max_num_batched_tokens=2, kv_blocks=7, priority_scheduling=True)
    fleet = serve(limits, [load(0, 2, 4, priority=1), load(10, 4, 1, sent=10)])
    assert list(fleet.results.preemptions) == [1, 0]
    assert list(fleet.results.first_token) == [10, 40]
    assert list(fleet.results.last_token) == [70, 40]


def test_sequences_that_finish_together_age_in_order_of_admission() -> None:
    """The second request arrives first, though its slot is the later one. Both finish at 30; the third then evicts one
    node, which is the second's, so only the first's prefix is found again."""
    limits = small_engine(block_size=2, kv_blocks=6, prefix_caching=True)
    fleet = serve(
        limits,
        [
            load(10, 3, 2, prefix=(0,)),
            load(0, 3, 3, prefix=(1,)),
            load(40, 9, 1, sent=40),
            load(60, 3, 1, sent=60, prefix=(0,)),
            load(80, 3, 1, sent=80, prefix=(1,)),
        ],
    )
    assert list(fleet.results.last_token) == [30, 30, 50, 70, 90]
    assert list(fleet.results.cached_tokens) == [0, 0, 0, 2, 0]


def test_a_shared_prefix_is_computed_once_and_its_last_token_always() -> None:
    """Of four tokens in two nodes the second request may reuse one node only: its last token must be computed."""
    limits = small_engine(prefix_caching=True)
    fleet = serve(limits, [load(0, 4, 1, prefix=(0, 1)), load(50, 4, 1, prefix=(0, 1)), load(90, 5, 1, prefix=(0, 1))])
    assert list(fleet.results.cached_tokens) == [0, 2, 4]


@pytest.mark.parametrize(("kv_blocks", "last"), [(8, [40, 50]), (10, [40, 40])])
def test_memory_decides_who_is_preempted(kv_blocks: int, last: list[int]) -> None:
    """Two sequences of 2 prompt and 4 output tokens hold 5 each in their last step. With 8 blocks both reach 4 tokens
    at 30; then the second goes, waits a step, and recomputes its 5 tokens in one, which is its fourth output."""
    fleet = serve(small_engine(kv_blocks=kv_blocks), [load(0, 2, 4), load(0, 2, 4)])
    assert list(fleet.results.last_token) == last
    assert list(fleet.results.preemptions) == [0, int(kv_blocks == 8)]
    assert sum(fleet.results.share) == fleet.engines[0].busy - fleet.engines[0].share_pending
