"""The front: what no other scenario beats, by hand and against the definition read word by word."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gridctl.accounts.pareto import front


def test_the_cheapest_and_the_best_are_on_the_front_and_what_they_beat_is_not() -> None:
    assert front([(1.0, 0.5), (2.0, 0.9), (2.0, 0.8), (3.0, 0.9), (4.0, 0.95)]) == [True, True, False, False, True]


def test_equal_scenarios_are_on_the_front_together() -> None:
    assert front([(1.0, 0.5), (1.0, 0.5), (1.0, 0.4)]) == [True, True, False]


def test_what_has_no_cost_is_on_no_front() -> None:
    assert front([None, (None, 1.0), (5.0, None)]) == [False, False, False]
    assert front([]) == []


def beats(one: tuple[float, float], two: tuple[float, float]) -> bool:
    """The definition: costs no more, attains no less, and is better in one of the two."""
    return one[0] <= two[0] and one[1] >= two[1] and one != two


@given(st.lists(st.one_of(st.none(), st.tuples(st.integers(0, 6), st.integers(0, 6))), max_size=30))
def test_the_front_is_what_the_definition_says(points: list[tuple[int, int] | None]) -> None:
    found = front([None if one is None else (float(one[0]), float(one[1])) for one in points])
    known = [one for one in points if one is not None]
    assert found == [one is not None and not any(beats(other, one) for other in known) for one in points]
