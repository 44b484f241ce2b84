"""How often an engine is asked and when its news is old: by hand from the rules."""

from __future__ import annotations

import pytest

from gridctl.signals.pace import Pace, Standing, jittered_ns, period_ns, stretched, telemetry_state
from gridctl.signals.rows import FAILING, FRESH, NEVER, STALE, UNSUPPORTED

S = 1_000_000_000
PACE = Pace()


@pytest.mark.parametrize(
    ("standing", "in_flight", "seconds"),
    [
        (Standing(), 0, 1),
        (Standing(good_ns=1), 3, 0.25),
        (Standing(good_ns=1, quiet_ns=95 * S), 0, 1),
        (Standing(good_ns=1, quiet_ns=90 * S), 0, 10),
        (Standing(good_ns=1, quiet_ns=90 * S), 1, 0.25),
        (Standing(is_unsupported=True), 5, 60),
        (Standing(failures=1), 5, 1),
        (Standing(failures=2), 5, 2),
        (Standing(failures=3), 0, 4),
        (Standing(failures=5), 0, 10),
        (Standing(failures=1000), 0, 10),
    ],
)
def test_periods(standing: Standing, in_flight: int, seconds: float) -> None:
    assert period_ns(PACE, standing, in_flight, 100 * S) == seconds * S


def test_jitter_stays_within_a_fifth_is_spread_and_is_the_same_every_time() -> None:
    drawn = [jittered_ns(PACE, S, row, turn) for row in range(50) for turn in range(50)]
    assert drawn == [jittered_ns(PACE, S, row, turn) for row in range(50) for turn in range(50)]
    assert 0.8 * S <= min(drawn) < 0.81 * S
    assert 1.19 * S < max(drawn) <= 1.2 * S
    assert sum(drawn) / len(drawn) == pytest.approx(S, rel=0.01)
    assert len(set(drawn)) > 2400


def test_all_periods_are_stretched_when_together_they_are_too_many() -> None:
    """1,000 engines every quarter of a second are 4,000 a second, ten times what is allowed."""
    assert stretched(PACE, [S // 4] * 1000) == 10
    assert stretched(PACE, [S] * 400) == 1
    assert stretched(PACE, []) == 1


@pytest.mark.parametrize(
    ("standing", "now_s", "state"),
    [
        (Standing(), 100, NEVER),
        (Standing(failures=2), 100, NEVER),
        (Standing(failures=3), 100, FAILING),
        (Standing(good_ns=97 * S), 100, FRESH),
        (Standing(good_ns=97 * S, failures=2), 100, FRESH),
        (Standing(good_ns=97 * S - 1), 100, STALE),
        (Standing(good_ns=90 * S, failures=2), 100, STALE),
        (Standing(good_ns=90 * S, failures=3), 100, FAILING),
        (Standing(is_unsupported=True), 100, UNSUPPORTED),
    ],
)
def test_states_of_news_asked_for_every_second(standing: Standing, now_s: int, state: int) -> None:
    assert telemetry_state(PACE, standing, S, now_s * S) == state
