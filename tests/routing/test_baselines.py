"""The seven comparison policies on rows made by hand, and what no policy may ever do."""

from __future__ import annotations

from collections import Counter

import pytest
from decisions import Candidate, candidate_rows, choose, decide, workload
from hypothesis import given, settings
from hypothesis import strategies as st

from gridctl.resources import PolicySpec
from gridctl.resources.policy import ALGORITHMS
from gridctl.routing.route import NOBODY, REFUSED
from gridctl.routing.rows import BATCHING, FUNCTION, PUBLIC_API

BASELINES = [algorithm for algorithm in ALGORITHMS if algorithm != "grid"]
DRAWS = range(0, 2**31, 2**31 // 1000 + 1)


def test_nearest_takes_the_smallest_round_trip_whatever_the_load() -> None:
    assert choose([{"rtt": 30}, {"rtt": 10, "in_flight": 900}, {"rtt": 20}], "nearest") == 1


def test_nearest_takes_the_less_loaded_engine_of_one_site() -> None:
    assert choose([{"rtt": 10, "in_flight": 4}, {"rtt": 10, "in_flight": 3}, {"rtt": 11}], "nearest") == 1


def test_centralized_takes_the_least_loaded_core_engine_only() -> None:
    rows = [{"rtt": 1}, {"rtt": 90, "is_core": 1, "in_flight": 5}, {"rtt": 95, "is_core": 1, "in_flight": 4}]
    assert choose(rows, "centralized") == 2
    assert choose(rows[:1], "centralized") == NOBODY


def test_round_robin_takes_turns_among_those_available() -> None:
    rows = [{}, {"is_available": 0}, {}, {}]
    assert [choose(rows, "round-robin", turn=turn) for turn in range(7)] == [0, 2, 3, 0, 2, 3, 0]


def test_least_loaded_breaks_ties_by_round_trip() -> None:
    rows = [{"in_flight": 2, "rtt": 1}, {"in_flight": 1, "rtt": 50}, {"in_flight": 1, "rtt": 40}]
    assert choose(rows, "least-loaded") == 2


@pytest.mark.parametrize("algorithm", ["nearest", "least-loaded", "grid"])
def test_full_ties_are_scattered_evenly_and_not_by_list_order(algorithm: str) -> None:
    rows: list[Candidate] = [{"engine": engine} for engine in (5, 6, 7, 8)]
    chosen = Counter()
    for draw in DRAWS:
        forwards = rows[choose(rows, algorithm, draw=draw)]["engine"]
        backwards = rows[::-1][choose(rows[::-1], algorithm, draw=draw)]["engine"]
        assert forwards == backwards
        chosen[forwards] += 1
    # 1,000 draws over four: 250 each, standard deviation 13.7
    assert all(190 < chosen[engine] < 310 for engine in (5, 6, 7, 8)), chosen


def test_power_of_two_compares_the_two_that_the_draw_names() -> None:
    # draw 7 of five: first 7 mod 5 = 2, then 1 + (7 div 5) mod 4 = 2 further on = 4
    rows = [{"in_flight": 0}, {"in_flight": 0}, {"in_flight": 9}, {"in_flight": 0}, {"in_flight": 8}]
    assert choose(rows, "power-of-two", draw=7) == 4
    rows[4] = {"in_flight": 9}
    assert choose(rows, "power-of-two", draw=7) == 2


def test_power_of_two_draws_every_ordered_pair_once_in_a_full_round() -> None:
    eligible = 5
    pairs = Counter()
    for draw in range(eligible * (eligible - 1)):
        loads = [{"in_flight": 1} for _ in range(eligible)]
        first = choose(loads, "power-of-two", draw=draw)
        seconds = []
        for other in range(eligible):
            trial = [dict(row) for row in loads]
            trial[other]["in_flight"] = 0
            if other != first and choose(trial, "power-of-two", draw=draw) == other:
                seconds.append(other)
        assert len(seconds) == 1
        pairs[first, seconds[0]] += 1
    assert len(pairs) == eligible * (eligible - 1)


def test_power_of_two_with_one_engine_takes_it() -> None:
    assert choose([{"is_available": 0}, {}], "power-of-two", draw=12345) == 1


def affinity(candidates: list[Candidate], **numbers: float) -> int:
    numbers = {"prefix_min_share": 0.3, "imbalance_requests": 10, "imbalance_ratio": 2.0} | numbers
    return decide(candidate_rows(candidates), PolicySpec(algorithm="prefix-affinity", **numbers))


def test_prefix_affinity_follows_the_longest_prefix() -> None:
    rows = [{"in_flight": 0, "cached_tokens": 40}, {"in_flight": 9, "cached_tokens": 60}]
    assert affinity(rows) == 1


def test_prefix_affinity_ignores_a_prefix_that_is_too_small_a_share() -> None:
    rows = [{"in_flight": 0}, {"in_flight": 9, "cached_tokens": 30}]
    assert affinity(rows) == 0  # 30 of 100 tokens is not more than 0.3
    assert affinity([rows[0], {"in_flight": 9, "cached_tokens": 31}]) == 1


def test_prefix_affinity_leaves_an_overloaded_engine_only_when_both_thresholds_say_so() -> None:
    idle, warm = {"in_flight": 0}, {"in_flight": 11, "cached_tokens": 90}
    assert affinity([idle, warm]) == 0  # 11 − 0 > 10 and 11 > 2 · 0
    assert affinity([idle, {**warm, "in_flight": 10}]) == 1  # 10 − 0 is not above 10
    assert affinity([{"in_flight": 20}, {**warm, "in_flight": 40}]) == 1  # 40 is not above 2 · 20
    assert affinity([{"in_flight": 20}, {**warm, "in_flight": 41}]) == 0


def test_prefix_affinity_takes_the_less_loaded_of_equal_prefixes() -> None:
    rows = [{"in_flight": 5, "cached_tokens": 80}, {"in_flight": 4, "cached_tokens": 80}]
    assert affinity(rows) == 1


def test_session_sticky_moves_only_the_sessions_of_the_engine_that_disappears() -> None:
    rows: list[Candidate] = [{"engine": engine} for engine in (10, 20, 30, 40)]
    homes = {session: rows[choose(rows, "session-sticky", session=session)]["engine"] for session in range(1000)}
    assert all(190 < count < 310 for count in Counter(homes.values()).values()), Counter(homes.values())
    left = [row for row in rows if row["engine"] != 20]
    down = [{**row, "is_available": int(row["engine"] != 20)} for row in rows]
    for session, home in homes.items():
        moved = left[choose(left, "session-sticky", session=session)]["engine"]
        assert moved == rows[choose(down, "session-sticky", session=session)]["engine"]
        assert moved == home or home == 20


@pytest.mark.parametrize("algorithm", BASELINES)
def test_baselines_know_gpu_engines_only(algorithm: str) -> None:
    rows = [{"kind": FUNCTION, "is_core": 1}, {"kind": PUBLIC_API, "is_core": 1}]
    assert choose(rows, algorithm) == NOBODY
    assert choose([*rows, {"kind": BATCHING, "is_core": 1, "rtt": 500, "in_flight": 99}], algorithm) == 2


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_without_an_available_candidate_nobody_is_chosen(algorithm: str) -> None:
    assert choose([{"is_available": 0, "is_core": 1}] * 3, algorithm) == NOBODY
    assert decide(candidate_rows([])[:0], PolicySpec(algorithm=algorithm)) == NOBODY


candidates = st.fixed_dictionaries(
    {
        "engine": st.integers(0, 20_000),
        "kind": st.integers(0, 2),
        "is_core": st.integers(0, 1),
        "is_available": st.integers(0, 1),
        "in_flight": st.integers(0, 50),
        "cached_tokens": st.integers(0, 100),
        "rtt": st.floats(0, 300),
        "ttft": st.floats(0, 2000),
        "tpot": st.floats(0, 200),
        "usd_gpu": st.floats(0, 0.01),
        "usd_cash": st.floats(0, 0.01),
    }
)


@settings(max_examples=300, deadline=None)
@given(
    rows=st.lists(candidates, min_size=1, max_size=8),
    algorithm=st.sampled_from(ALGORITHMS),
    when=st.sampled_from(("serve-late", "fallback", "reject")),
    draw=st.integers(0, 2**31 - 1),
    turn=st.integers(0, 2**40),
    session=st.integers(0, 2**31 - 1),
    has_functions=st.booleans(),
    has_fallback=st.booleans(),
)
def test_the_choice_is_always_one_that_may_be_chosen(
    rows: list[Candidate],
    algorithm: str,
    when: str,
    draw: int,
    turn: int,
    session: int,
    has_functions: bool,
    has_fallback: bool,
) -> None:
    policy = PolicySpec(algorithm=algorithm, allow_serverless=has_functions, allow_fallback=has_fallback)
    choice = decide(candidate_rows(rows), policy, workload(when), draw=draw, turn=turn, session=session)
    kinds = {BATCHING}
    if algorithm == "grid":
        kinds |= ({FUNCTION} if has_functions else set()) | ({PUBLIC_API} if has_fallback else set())
    allowed = [
        index
        for index, row in enumerate(rows)
        if row["is_available"] and row["kind"] in kinds and (row["is_core"] or algorithm != "centralized")
    ]
    if choice == REFUSED:
        assert algorithm == "grid"
        assert when == "reject"
        assert allowed
    else:
        assert (choice in allowed) if allowed else choice == NOBODY
