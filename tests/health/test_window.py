"""Counts of the last seconds, against a list of everything that was counted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gridctl.health.window import Window

S = 1_000_000_000


def test_it_forgets_a_tenth_of_its_span_at_a_time() -> None:
    window = Window(30 * S, 0)
    window.add(3, failed=1, slow=2)
    window.advance(29 * S)
    window.add(0, failed=2)
    assert (window.answered, window.failed, window.slow) == (6, 3, 2)
    window.advance(30 * S)  # the first three seconds are out
    assert (window.answered, window.failed, window.slow) == (2, 2, 0)
    assert window.failed_share() == 1.0
    window.advance(1_000 * S)
    assert (window.answered, window.failed_share(), window.slow_share()) == (0, 0.0, 0.0)


@given(
    st.lists(st.tuples(st.integers(0, 12 * S), st.integers(0, 5), st.integers(0, 5), st.integers(0, 5)), max_size=40)
)
def test_it_counts_what_lies_in_the_last_ten_buckets(counted: list[tuple[int, int, int, int]]) -> None:
    window, kept, now_ns = Window(30 * S, 0), [], 0
    for gap_ns, good, failed, slow in counted:
        now_ns += gap_ns
        if now_ns >= window.next_ns:
            window.advance(now_ns)
        window.add(good, failed, min(slow, good))
        kept.append((now_ns // (3 * S), good + failed, failed, min(slow, good)))
        inside = [one for one in kept if one[0] > now_ns // (3 * S) - 10]
        assert window.answered == sum(one[1] for one in inside)
        assert window.failed == sum(one[2] for one in inside)
        assert window.slow == sum(one[3] for one in inside)
