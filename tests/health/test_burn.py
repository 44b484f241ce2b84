"""Burn rates by hand and by the tables of the Site Reliability Workbook, chapter 5."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridctl.errors import InputError
from gridctl.health.burn import (
    RULES,
    Budget,
    Count,
    Counting,
    Rule,
    budget,
    fires_after_s,
    thresholds,
)

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0


def counting(counts: Mapping[float, tuple[int, int]], covered_s: float = 31 * DAY) -> Counting:
    """(valid, bad) by window in seconds; none where nothing is said."""
    return lambda window_s: Count(*counts.get(window_s, (0, 0)), min(covered_s, window_s))


def steady(per_hour: float, bad_share: float, covered_s: float = 31 * DAY) -> Counting:
    """The same traffic for as long as it has been counted."""

    def count(window_s: float) -> Count:
        reach_s = min(window_s, covered_s)
        valid = round(per_hour * reach_s / HOUR)
        return Count(valid, round(valid * bad_share), reach_s)

    return count


def verdicts(found: Budget) -> list[str]:
    return [alarm.verdict for alarm in found.alarms]


def test_the_thresholds_of_the_workbook_for_thirty_days() -> None:
    assert thresholds(0.999) == pytest.approx((14.4, 6.0, 1.0))
    assert [rule.short_s for rule in RULES] == [5 * MINUTE, 30 * MINUTE, 6 * HOUR]


def test_the_thresholds_of_another_period_follow_from_the_shares() -> None:
    # 2 % of a week within an hour: 0.02·168 = 3.36.
    assert thresholds(0.999, RULES[:2], 7 * DAY) == pytest.approx((3.36, 1.4))


def test_a_total_outage_at_three_nines_pages_after_fiftytwo_seconds() -> None:
    assert fires_after_s(RULES[0], 0.999, 1.0) == pytest.approx(51.84)
    assert fires_after_s(RULES[0], 0.999, 0.1) == pytest.approx(518.4)
    assert fires_after_s(RULES[0], 0.999, 0.01) is None


def test_budget_burn_and_time_to_empty_by_hand() -> None:
    # 99.9 % of 1,000,000: 1,000 may be bad, 250 were: a quarter is spent. The last hour burnt 2: 0.2 % of 5,000.
    found = budget("voice", 0.999, counting({30 * DAY: (1_000_000, 250), HOUR: (5_000, 10), 5 * MINUTE: (400, 0)}))
    assert found.attained == pytest.approx(0.99975)
    assert found.spent_share == pytest.approx(0.25)
    assert found.left_share == pytest.approx(0.75)
    assert found.burn == pytest.approx(2.0)
    assert found.empty_in_s == pytest.approx(0.75 * 30 * DAY / 2)


def test_it_fires_only_when_both_windows_burn() -> None:
    long = {HOUR: (10_000, 150)}  # burn 15
    assert budget("w", 0.999, counting({**long, 5 * MINUTE: (800, 12)}), RULES[:1]).verdict == "firing"
    over = budget("w", 0.999, counting({**long, 5 * MINUTE: (800, 11)}), RULES[:1])  # 13.75
    assert over.verdict == "quiet"
    assert over.alarms[0].why.startswith("over: burn 15 over 1 h but not over 5 min")


def test_a_threshold_that_is_reached_exactly_fires() -> None:
    at = counting({HOUR: (100_000, 1440), 5 * MINUTE: (10_000, 144)})
    assert budget("w", 0.999, at, RULES[:1]).alarms[0].verdict == "firing"


def test_one_failure_at_low_traffic_is_insufficient_data_and_never_an_alarm_nor_green() -> None:
    found = budget("w", 0.999, steady(10, 0.1), RULES[:1])
    assert found.burn == pytest.approx(100)
    assert verdicts(found) == ["insufficient-data"]
    # Five bad ones at burn 14.4 take 5/(14.4·0.001) = 347.2 requests.
    assert found.alarms[0].requests_to_judge == 348


def test_a_total_outage_at_low_traffic_fires_once_five_were_bad() -> None:
    def outage(bad: int) -> str:
        return budget("w", 0.999, counting({HOUR: (bad, bad), 5 * MINUTE: (bad, bad)}), RULES[:1]).verdict

    assert (outage(4), outage(5)) == ("insufficient-data", "firing")


def test_no_traffic_is_insufficient_data_with_nothing_known() -> None:
    found = budget("w", 0.99, counting({}))
    assert set(verdicts(found)) == {"insufficient-data"}
    assert (found.attained, found.burn, found.left_share, found.empty_in_s) == (None, None, None, None)


def test_a_window_that_is_not_covered_yet_is_never_green_but_may_fire() -> None:
    young = budget("w", 0.999, steady(100_000, 0.0, covered_s=10 * MINUTE))
    assert verdicts(young) == ["insufficient-data"] * 3
    assert young.alarms[0].why == "counted for 10 min of 1 h"
    assert budget("w", 0.999, steady(100_000, 0.5, covered_s=10 * MINUTE), RULES[:1]).verdict == "firing"
    too_young = steady(100_000, 0.5, covered_s=4 * MINUTE)
    assert budget("w", 0.999, too_young, RULES[:1]).verdict == "insufficient-data"


def test_an_empty_budget_is_empty_now_and_a_good_hour_never_empties_it() -> None:
    spent = budget("w", 0.99, counting({30 * DAY: (1000, 20), HOUR: (100, 2)}), RULES[:1])
    assert (spent.left_share, spent.empty_in_s) == (pytest.approx(-1.0), 0.0)
    assert budget("w", 0.99, counting({30 * DAY: (1000, 5), HOUR: (100, 0)}), RULES[:1]).empty_in_s is None


def test_an_alarm_that_can_never_fire_is_refused_or_capped() -> None:
    with pytest.raises(InputError) as caught:  # a total outage burns 10
        thresholds(0.9, where="workload/chat")
    assert "can never fire" in caught.value.what
    assert caught.value.fix == "promise more than 93.06%, or cap the threshold at 7"
    assert thresholds(0.9, cap=True) == pytest.approx((7.0, 6.0, 1.0))


@pytest.mark.parametrize("target", [0.0, 1.0, 1.5, -1.0, float("nan")])
def test_a_promise_of_nothing_or_everything_is_refused(target: float) -> None:
    with pytest.raises(InputError):
        thresholds(target)


@pytest.mark.parametrize(("share", "long_s"), [(0.0, HOUR), (0.02, 0.0), (0.02, 31 * DAY), (-1.0, HOUR)])
def test_a_rule_that_makes_no_sense_is_refused(share: float, long_s: float) -> None:
    with pytest.raises(InputError):
        thresholds(0.999, [Rule(severity="page", share=share, long_s=long_s)])


counts = st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)).map(lambda one: (max(one), min(one)))


@given(counts, counts, st.sampled_from(("0.9", "0.99", "0.999")))
def test_an_alarm_fires_exactly_when_the_definition_says(
    long: tuple[int, int], short: tuple[int, int], target: str
) -> None:
    found = budget("w", float(target), counting({HOUR: long, 5 * MINUTE: short}), RULES[:1], cap=True)
    (alarm,) = found.alarms
    allowed = 1 - Fraction(target)
    threshold = min(Fraction("14.4"), Fraction("0.7") / allowed)
    assert alarm.threshold == pytest.approx(float(threshold))
    is_burning = all(valid and Fraction(bad, valid) >= threshold * allowed for valid, bad in (long, short))
    assert (alarm.verdict == "firing") is (is_burning and long[1] >= 5)
    if alarm.verdict == "quiet":
        assert long[0] >= 5 / (threshold * allowed)
