"""The wheel of deadlines, against the plain definition."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from gridctl.gateway.deadlines import NEVER_NS, SLOT_NS, Deadlines

MS = 1_000_000


class Thing:
    def __init__(self, again_ns: int = 0) -> None:
        self.deadline_ns = NEVER_NS
        self.wheel_slot = 0
        self.seen: list[int] = []

    def on_deadline(self, now_ns: int) -> None:
        self.seen.append(now_ns)


def test_a_deadline_is_noticed_once_and_not_early() -> None:
    wheel, thing = Deadlines(0), Thing()
    wheel.arm(thing, 100 * MS)
    for now in range(0, 400, 10):
        wheel.expire(now * MS)
    assert len(thing.seen) == 1
    assert 100 * MS <= thing.seen[0] <= 100 * MS + 2 * SLOT_NS


def test_a_deadline_moved_later_is_noticed_later_and_one_moved_earlier_earlier() -> None:
    wheel, later, earlier = Deadlines(0), Thing(), Thing()
    wheel.arm(later, 100 * MS)
    wheel.arm(later, 300 * MS)
    wheel.arm(earlier, 300 * MS)
    wheel.arm(earlier, 100 * MS)
    for now in range(0, 500, 10):
        wheel.expire(now * MS)
    assert 300 * MS <= later.seen[0] <= 300 * MS + 2 * SLOT_NS
    assert 100 * MS <= earlier.seen[0] <= 100 * MS + 2 * SLOT_NS


def test_what_was_dropped_is_not_noticed_and_not_held() -> None:
    wheel, thing = Deadlines(0), Thing()
    wheel.arm(thing, 100 * MS)
    wheel.drop(thing)
    wheel.expire(1000 * MS)
    assert thing.seen == []
    assert len(wheel) == 0


def test_a_thing_may_arm_itself_again_while_it_is_noticed() -> None:
    wheel = Deadlines(0)

    class Periodic(Thing):
        def on_deadline(self, now_ns: int) -> None:
            super().on_deadline(now_ns)
            wheel.arm(self, now_ns + 100 * MS)

    thing = Periodic()
    wheel.arm(thing, 100 * MS)
    for now in range(0, 1000, 10):
        wheel.expire(now * MS)
    assert 7 <= len(thing.seen) <= 9


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 500), st.booleans()), max_size=30))
def test_whatever_is_armed_and_dropped_each_thing_is_noticed_as_last_said(
    moves: list[tuple[int, int, bool]],
) -> None:
    wheel, things = Deadlines(0), [Thing() for _ in range(5)]
    wanted: dict[int, int] = {}
    for number, deadline, is_dropped in moves:
        if is_dropped:
            wheel.drop(things[number])
            wanted.pop(number, None)
        else:
            wheel.arm(things[number], deadline * MS)
            wanted[number] = deadline * MS
    for now in range(0, 700, 5):
        wheel.expire(now * MS)
    for number, thing in enumerate(things):
        if number in wanted:
            assert len(thing.seen) == 1
            assert wanted[number] <= thing.seen[0] <= wanted[number] + 2 * SLOT_NS
        else:
            assert thing.seen == []
