"""Flap percentages by hand, and against the formula written out anew over a list."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridctl.health.flapping import WEIGHTS, Flapping


def after(*samples: bool) -> Flapping:
    flapping = Flapping(20.0, 5.0)
    for is_bad in samples:
        flapping.sample(is_bad)
    return flapping


def test_the_twenty_weights_run_evenly_from_three_to_five_quarters() -> None:
    assert len(WEIGHTS) == 20
    assert (WEIGHTS[0], WEIGHTS[-1]) == (0.75, 1.25)
    assert sum(WEIGHTS) == pytest.approx(20)


def test_the_latest_change_weighs_most_and_the_oldest_least() -> None:
    assert after(True).percent == pytest.approx(6.25)  # 1.25 of 20
    assert after(True, *[True] * 19).percent == pytest.approx(3.75)  # 0.75 of 20
    assert after(True, *[True] * 20).percent == 0


def test_a_change_at_every_step_is_a_hundred_percent() -> None:
    assert after(*[True, False] * 11).percent == pytest.approx(100)


def test_it_begins_above_twenty_percent_and_ends_only_below_five() -> None:
    # 6.25, then 1.25 + 1.2237 …: four changes in a row are 6.25 + 6.118 + 5.987 + 5.855 = 24.2 %, three 18.4 %.
    flapping = after(True, False, True)
    assert not flapping.is_flapping
    flapping.sample(False)
    assert flapping.is_flapping
    for _ in range(18):  # the newest of the four changes is the third oldest step now
        flapping.sample(False)
    assert flapping.percent == pytest.approx(100 * (0.75 + 0.75 + 0.5 / 19) / 20)
    assert flapping.is_flapping
    flapping.sample(False)
    assert flapping.percent == pytest.approx(3.75)
    assert not flapping.is_flapping


@given(st.lists(st.booleans(), max_size=60))
def test_it_is_the_weighted_share_of_changes_of_the_last_21_samples(samples: list[bool]) -> None:
    last = ([False] * 21 + samples)[-21:]
    changed = [0.75 + 0.5 * step / 19 for step in range(20) if last[step] != last[step + 1]]
    assert after(*samples).percent == pytest.approx(100 * sum(changed) / 20)


@given(st.lists(st.booleans(), max_size=30), st.booleans())
def test_settling_is_what_21_like_samples_do(samples: list[bool], is_bad: bool) -> None:
    one, other = after(*samples), after(*samples)
    one.settle(is_bad)
    for _ in range(21):
        other.sample(is_bad)
    assert (one.percent, one.is_flapping) == (other.percent, other.is_flapping) == (0, False)
