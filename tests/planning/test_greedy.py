"""The start of the search: it serves everything within what engines hold, and is seldom far from the best."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridctl.planning.greedy import Begun, Choice, Group, begin, busiest_sites


def groups_of(loads: list[float], reach: list[list[int]]) -> list[Group]:
    """Demand i may be served at the sites of `reach[i]`, an engine there serving one request a second."""
    column = iter(range(10_000))
    return [
        Group(0, load, tuple(Choice((site, 0), 1.0, next(column), is_late=False) for site in sites))
        for load, sites in zip(loads, reach, strict=True)
    ]


def cost(begun: Begun, usd: dict[tuple[int, int], float]) -> float:
    return sum(usd[engine] * count for engine, count in begun.engines.items())


def test_three_demands_one_site_reaches_take_one_engine() -> None:
    groups = groups_of([0.3, 0.3, 0.3], [[0, 1], [1, 2], [1, 3]])
    begun = begin(groups, {(site, 0): 1.0 for site in range(4)}, frozenset(), {})
    assert begun.engines == {(1, 0): 1}


def test_load_beyond_one_engine_takes_two() -> None:
    begun = begin(groups_of([1.5], [[0]]), {(0, 0): 1.0}, frozenset(), {})
    assert begun.engines == {(0, 0): 2}
    assert sum(begun.loads.values()) == pytest.approx(1.5)


def test_the_cheaper_of_two_equal_engines_is_taken() -> None:
    begun = begin(groups_of([0.5], [[0, 1]]), {(0, 0): 2.0, (1, 0): 1.0}, frozenset(), {})
    assert begun.engines == {(1, 0): 1}


def test_a_function_that_is_there_serves_before_anything_is_bought() -> None:
    begun = begin(groups_of([0.5], [[0, 1]]), {(1, 0): 1.0}, frozenset({(0, 0)}), {})
    assert begun.engines == {}
    assert sum(begun.loads.values()) == pytest.approx(0.5)


def test_the_most_isolated_demand_is_late_where_some_may_be() -> None:
    far = Group(0, 0.1, (Choice((9, 0), 1.0, 0, is_late=False), Choice((0, 0), 1.0, 1, is_late=True)))
    near = Group(0, 0.5, (Choice((0, 0), 1.0, 2, is_late=False),))
    usd = {(9, 0): 1.0, (0, 0): 1.0}
    assert begin([near, far], usd, frozenset(), {0: 0.1}).engines == {(0, 0): 1}
    assert begin([near, far], usd, frozenset(), {0: 0.0}).engines == {(0, 0): 1, (9, 0): 1}


def test_the_busiest_sites_are_those_with_most_to_do() -> None:
    begun = Begun({(0, 0): 1, (1, 0): 1, (2, 0): 1}, {}, {(0, 0): 0.2, (1, 0): 0.9, (2, 0): 0.2})
    assert busiest_sites(begun, 2) == [1, 0]


CASES = st.integers(1, 7).flatmap(
    lambda demands: st.tuples(
        st.lists(st.sampled_from([0.1, 0.4, 0.9, 1.7]), min_size=demands, max_size=demands),
        st.lists(st.sets(st.integers(0, 3), min_size=1).map(sorted), min_size=demands, max_size=demands),
        st.lists(st.sampled_from([1.0, 1.5, 3.0]), min_size=4, max_size=4),
    )
)


@settings(max_examples=60, deadline=None)
@given(CASES)
def test_everything_is_served_within_what_engines_hold_at_no_less_than_the_best_cost(
    case: tuple[list[float], list[list[int]], list[float]],
) -> None:
    loads, reach, prices = case
    usd = {(site, 0): prices[site] for site in range(4)}
    groups = groups_of(loads, reach)
    begun = begin(groups, usd, frozenset(), {})
    for group in groups:
        assert sum(begun.loads.get(choice.column, 0.0) for choice in group.choices) == pytest.approx(group.load)
    used: dict[tuple[int, int], float] = {}
    for group in groups:
        for choice in group.choices:
            used[choice.engine] = used.get(choice.engine, 0.0) + begun.loads.get(choice.column, 0.0)
    assert all(load <= begun.engines.get(engine, 0) + 1e-6 for engine, load in used.items())
    assert cost(begun, usd) >= cheapest(loads, reach, prices) - 1e-9


def cheapest(loads: list[float], reach: list[list[int]], prices: list[float]) -> float:
    """By trying everything: counts suffice when no set of demands exceeds what it reaches (Hall's condition)."""
    most = int(sum(loads)) + 1
    best = float("inf")
    for counts in product(range(most + 1), repeat=4):
        price = sum(count * price for count, price in zip(counts, prices, strict=True))
        if price < best and _suffices(loads, reach, counts):
            best = price
    return best


def _suffices(loads: list[float], reach: list[list[int]], counts: tuple[int, ...]) -> bool:
    for chosen in range(1, 1 << len(loads)):
        members = [index for index in range(len(loads)) if chosen >> index & 1]
        sites = {site for index in members for site in reach[index]}
        if sum(loads[index] for index in members) > sum(counts[site] for site in sites) + 1e-9:
            return False
    return True
