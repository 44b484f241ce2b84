"""What a pool does when too few of it are well."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gridctl.health.panic import Member, admissions
from gridctl.health.words import ALL_PPM, STATES, State

SHARES: dict[State, int] = {"healthy": ALL_PPM, "unknown": ALL_PPM, "degraded": 500_000, "probation": 50_000}


def pool(*states: State) -> list[Member]:
    return [Member(row, state, SHARES.get(state, 0)) for row, state in enumerate(states)]


def test_with_half_of_them_available_each_gets_what_its_condition_grants() -> None:
    granted, panic = admissions(pool("healthy", "degraded", "ejected", "probation"))
    assert (list(granted.values()), panic) == ([ALL_PPM, 500_000, 0, 50_000], None)


def test_with_fewer_the_degraded_and_those_on_probation_get_their_whole_share_and_the_ejected_none() -> None:
    granted, panic = admissions(pool("degraded", "ejected", "probation", "ejected"))
    assert list(granted.values()) == [ALL_PPM, 0, ALL_PPM, 0]
    assert panic is not None
    assert (panic.level, panic.available, panic.members) == ("short", 1, 4)


def test_with_none_left_the_ejected_are_tried_but_never_what_an_operator_took_out() -> None:
    granted, panic = admissions(pool("ejected", "cordoned", "ejected", "down", "draining"))
    assert list(granted.values()) == [ALL_PPM, 0, ALL_PPM, 0, 0]
    assert panic is not None
    assert (panic.level, panic.members) == ("last-resort", 2)


def test_a_pool_that_operators_emptied_is_no_panic() -> None:
    assert admissions(pool("cordoned", "down")) == ({0: 0, 1: 0}, None)
    assert admissions([]) == ({}, None)


@given(st.lists(st.sampled_from(STATES), max_size=12))
def test_somebody_is_let_in_unless_operators_say_otherwise_and_nobody_they_took_out_ever(states: list[State]) -> None:
    granted, _ = admissions(pool(*states))
    taken = [row for row, state in enumerate(states) if state in ("cordoned", "draining", "down")]
    assert all(granted[row] == 0 for row in taken)
    assert len(taken) == len(states) or any(granted.values())
