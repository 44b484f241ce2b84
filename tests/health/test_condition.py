"""One thing's condition against tables computed by hand, and what must hold whatever happens."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridctl.health.condition import Condition
from gridctl.health.settings import Settings
from gridctl.health.words import ALL_PPM, EVENTS, Event, worse

S = 1_000_000_000


def seen(*events: tuple[float, Event], start: Condition | None = None) -> Condition:
    """A condition that observed these events at these seconds."""
    condition = start if start is not None else Condition()
    for at_s, event in events:
        condition.observe(event, round(at_s * S))
    return condition


def ejected(at_s: float = 5.0) -> Condition:
    """One that five failures in a row took out at `at_s`."""
    return seen((0, "success"), *[(at_s, "reset")] * 5)


def test_nothing_is_known_of_a_thing_that_nobody_has_heard_of_but_it_may_get_traffic() -> None:
    condition = Condition()
    assert (condition.state, condition.admit_ppm, condition.next_change_ns) == ("unknown", ALL_PPM, None)


def test_it_is_well_with_its_first_answer_or_its_first_passed_probe() -> None:
    assert seen((1, "success")).state == "healthy"
    assert seen((1, "probe-ok")).state == "healthy"
    assert seen((1, "busy")).state == "unknown"


def test_five_failures_in_a_row_eject_it_for_thirty_seconds_and_four_do_not() -> None:
    condition = seen((0, "success"), *[(1, "connect-failed")] * 4)
    assert condition.state == "healthy"
    condition.observe("connect-failed", 2 * S)
    assert (condition.state, condition.admit_ppm, condition.since_ns) == ("ejected", 0, 2 * S)
    assert condition.next_change_ns == 32 * S
    assert condition.cause == "5 requests in a row failed, the last: no connection"


def test_an_answer_between_failures_breaks_the_row_but_a_busy_one_does_not() -> None:
    assert seen((0, "success"), *[(1, "reset")] * 4, (2, "success"), *[(3, "reset")] * 4).state == "healthy"
    assert seen((0, "success"), *[(1, "reset")] * 4, (2, "busy"), (3, "reset")).state == "ejected"


def test_half_of_twenty_requests_failing_in_thirty_seconds_ejects_it_though_never_five_in_a_row() -> None:
    condition = Condition()
    for pair in range(9):
        seen((pair, "success"), (pair, "timeout"), start=condition)
    assert condition.state == "healthy"  # 18 requests say nothing about a share
    seen((9, "success"), (9, "timeout"), start=condition)
    assert condition.state == "ejected"
    assert condition.cause == "10 of 20 requests in 30 s failed, the last: no answer in time"


def test_failures_that_are_older_than_the_window_do_not_count() -> None:
    condition = Condition()
    for pair in range(9):
        seen((pair, "success"), (pair, "timeout"), start=condition)
    seen((60, "success"), (60, "timeout"), start=condition)
    assert condition.state == "healthy"


def test_a_tenth_failing_degrades_it_and_few_failing_restore_it_after_ten_seconds() -> None:
    condition = Condition()
    for _ in range(18):
        condition.observe("success", S)
    condition.observe("status-5xx", S)
    condition.observe("success", S)  # 1 of 20
    assert condition.state == "healthy"
    condition.observe("status-5xx", 2 * S)  # 2 of 21: 9.5 %
    assert condition.state == "healthy"
    condition.observe("status-5xx", 2 * S)  # 3 of 22: 13.6 %
    assert (condition.state, condition.admit_ppm) == ("degraded", 500_000)
    for _ in range(60):
        condition.observe("success", 3 * S)  # 3 of 82: 3.7 %, but it has been so for a second only
    assert condition.state == "degraded"
    condition.observe("success", 12 * S)
    assert (condition.state, condition.admit_ppm) == ("healthy", ALL_PPM)


def test_slow_answers_degrade_it_and_never_eject_it() -> None:
    condition = seen(*[(1, "slow")] * 100)
    assert (condition.state, condition.ejections) == ("degraded", 0)
    assert "slower than predicted" in condition.cause


def test_after_its_ejection_it_is_tried_with_five_then_twentyfive_percent_three_answers_and_five_seconds_each() -> None:
    condition = ejected(at_s=5)  # out until 35
    condition.tick(34 * S)
    assert condition.state == "ejected"
    condition.tick(35 * S)
    assert (condition.state, condition.admit_ppm, condition.next_change_ns) == ("probation", 50_000, None)
    seen((36, "success"), (36, "success"), (36, "success"), start=condition)
    assert (condition.admit_ppm, condition.next_change_ns) == (50_000, 40 * S)
    condition.tick(40 * S)
    assert condition.admit_ppm == 250_000
    seen((50, "success"), (51, "success"), start=condition)
    assert (condition.state, condition.admit_ppm) == ("probation", 250_000)
    condition.observe("success", 52 * S)  # the five seconds are long over
    assert (condition.state, condition.admit_ppm, condition.since_ns) == ("healthy", ALL_PPM, 52 * S)


def test_one_failure_while_it_is_tried_ejects_it_again_for_longer_up_to_five_minutes() -> None:
    condition = ejected(at_s=0)
    ends_s = [30.0]
    for _ in range(11):
        condition.observe("stall", round(ends_s[-1] * S))
        assert condition.next_change_ns is not None
        ends_s.append(condition.next_change_ns / S)
    lengths = [later - early for early, later in pairwise(ends_s)]
    assert lengths == [60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300]


def test_the_number_of_ejections_falls_by_one_in_each_healthy_interval() -> None:
    condition = ejected(at_s=0)
    condition.observe("reset", 30 * S)  # the second; until 90
    for at_s in (90, 90, 90, 96, 96, 96):  # a quarter from 95 on, all of it from 100 on
        condition.observe("success", at_s * S)
    condition.tick(129 * S)
    assert (condition.state, condition.since_ns, condition.ejections) == ("healthy", 100 * S, 2)
    condition.tick(130 * S)
    assert condition.ejections == 1
    condition.tick(160 * S)
    assert condition.ejections == 0


def test_what_was_under_way_when_it_was_ejected_changes_nothing() -> None:
    condition = ejected(at_s=0)
    seen((1, "success"), (1, "reset"), (1, "slow"), start=condition)
    assert (condition.state, condition.next_change_ns, condition.ejections) == ("ejected", 30 * S, 1)


def test_three_failed_probes_eject_it_and_the_first_passed_one_tries_it_again_at_once() -> None:
    condition = seen((0, "probe-ok"), (10, "probe-failed"), (20, "probe-failed"))
    assert condition.state == "healthy"
    condition.observe("probe-failed", 30 * S, "nothing listens there")
    assert (condition.state, condition.cause) == ("ejected", "3 probes in a row failed: nothing listens there")
    condition.observe("probe-ok", 35 * S)
    assert (condition.state, condition.admit_ppm) == ("probation", 50_000)


def test_an_engine_that_passes_probes_and_fails_requests_serves_its_whole_ejection() -> None:
    condition = seen((0, "success"), *[(1, "status-5xx")] * 5, (2, "probe-ok"))
    assert (condition.state, condition.next_change_ns) == ("ejected", 31 * S)


def test_an_engine_that_died_and_came_back_between_two_probes_is_tried_with_the_first_that_passes() -> None:
    condition = seen((0, "success"), *[(1, "reset")] * 4, (1, "truncated"))
    assert (condition.state, condition.next_change_ns) == ("ejected", 31 * S)
    condition.observe("probe-ok", 2 * S)
    assert (condition.state, condition.admit_ppm) == ("probation", 50_000)
    seen((8, "success"), (8, "success"), (8, "success"), start=condition)
    assert condition.admit_ppm == 250_000


def test_an_engine_that_breaks_connections_and_passes_probes_gains_one_trial_and_then_serves_its_time() -> None:
    condition = seen((0, "success"), *[(1, "reset")] * 5, (2, "probe-ok"), (3, "reset"))
    assert (condition.state, condition.ejections) == ("ejected", 2)
    for second in range(4, 63):
        condition.observe("probe-ok", second * S)
        assert condition.state == "ejected", "the second one lasts sixty seconds"
    condition.observe("probe-ok", 63 * S)
    assert condition.state == "probation"


def test_connections_that_counters_saw_break_are_told_from_errors() -> None:
    broken = seen((0, "success"))
    broken.observe_counts(0, 5, 1 * S, event="reset")
    broken.observe("probe-ok", 2 * S)
    assert broken.state == "probation"
    shared = seen((0, "success"))
    shared.observe_counts(10, 12, 1 * S, event="connect-failed")
    assert shared.state == "ejected"
    shared.observe("probe-ok", 2 * S)
    assert shared.state == "probation"
    errors = seen((0, "success"))
    errors.observe_counts(0, 5, 1 * S)
    errors.observe("probe-ok", 2 * S)
    assert errors.state == "ejected"


def test_an_ejection_does_not_end_while_probes_fail_but_does_when_probes_fall_silent() -> None:
    condition = seen((0, "probe-ok"), *[(at, "probe-failed") for at in (10, 20, 30, 40, 50, 60)])
    condition.tick(100 * S)
    assert condition.state == "ejected"
    assert condition.next_change_ns == 360 * S  # 300 s after the last probe
    condition.tick(360 * S)
    assert condition.state == "probation"


def test_one_failed_probe_is_enough_while_it_is_tried() -> None:
    condition = ejected(at_s=0)
    condition.tick(30 * S)
    condition.observe("probe-failed", 31 * S)
    assert (condition.state, condition.ejections) == ("ejected", 2)


def test_an_engine_that_starts_is_out_without_a_mark_against_it() -> None:
    condition = seen((0, "probe-starting"))
    assert (condition.state, condition.ejections) == ("ejected", 0)
    assert condition.cause.startswith("it is starting")


def test_probes_that_fail_while_requests_are_answered_degrade_it_only() -> None:
    condition = seen((0, "probe-ok"))
    for at_s in (10, 20, 30):
        seen((at_s - 1, "success"), (at_s, "probe-failed"), start=condition)
    assert condition.state == "degraded"
    assert "while requests are answered" in condition.cause
    seen((50, "success"), start=condition)
    assert condition.state == "degraded"  # the probes still fail
    seen((60, "probe-failed"), (70, "probe-failed"), start=condition)
    assert condition.state == "ejected"  # and nothing was answered since the last one


def test_silence_and_stale_telemetry_make_it_unknown_with_half_its_traffic_never_none() -> None:
    condition = seen((0, "success"), (100, "telemetry-stale"))
    condition.tick(129 * S)
    assert condition.state == "healthy"
    condition.tick(130 * S)
    assert (condition.state, condition.admit_ppm, condition.since_ns) == ("unknown", 500_000, 130 * S)
    condition.observe("success", 140 * S)
    assert (condition.state, condition.admit_ppm) == ("healthy", ALL_PPM)


def test_stale_telemetry_alone_says_nothing_against_an_engine_that_answers() -> None:
    condition = seen((0, "success"), (1, "telemetry-stale"), *[(at, "success") for at in range(20, 400, 20)])
    assert condition.state == "healthy"


def test_what_an_operator_says_wins_and_the_truth_is_known_when_the_operator_is_done() -> None:
    condition = seen((0, "success"))
    assert condition.operate("cordoned", 1 * S, "power maintenance")
    assert not condition.operate("cordoned", 2 * S)
    assert (condition.state, condition.admit_ppm, condition.cause) == ("cordoned", 0, "power maintenance")
    seen(*[(3, "reset")] * 5, start=condition)
    assert (condition.state, condition.since_ns) == ("cordoned", 1 * S)
    condition.operate("active", 4 * S)
    assert (condition.state, condition.since_ns) == ("ejected", 3 * S)


def test_counters_with_both_kinds_are_judged_by_share_and_failures_alone_by_their_number() -> None:
    condition = seen((0, "success"))
    condition.observe_counts(0, 5, 1 * S)
    assert condition.state == "ejected"
    condition = seen((0, "success"))
    condition.observe_counts(5, 5, 1 * S)
    assert condition.state == "healthy"  # 11 requests
    condition.observe_counts(5, 5, 2 * S)
    assert condition.state == "degraded"  # 10 of 21: 48 %
    condition.observe_counts(0, 1, 3 * S)
    assert condition.state == "ejected"  # 11 of 22: 50 %
    condition = ejected(at_s=0)
    condition.tick(30 * S)
    condition.observe_counts(50, 1, 31 * S)
    assert condition.state == "ejected"


def test_a_clock_that_runs_backwards_stands() -> None:
    condition = ejected(at_s=100)
    condition.observe("probe-failed", 1 * S)
    condition.tick(2 * S)
    assert (condition.state, condition.since_ns) == ("ejected", 100 * S)


def test_changes_are_told_once_in_order_and_what_nobody_fetched_is_bounded() -> None:
    condition = ejected(at_s=5)
    condition.tick(40 * S)
    told = [(change.at_ns // S, change.before, change.after) for change in condition.take_changes()]
    assert told == [(0, "unknown", "healthy"), (5, "healthy", "ejected"), (35, "ejected", "probation")]
    assert condition.take_changes() == []


def flap(condition: Condition, cycles: int, at_s: float = 0.0) -> float:
    """Fail, be tried, be well for half a minute, again and again; the time after it."""
    for _ in range(cycles):
        seen(*[(at_s, "reset")] * 5, start=condition)
        due_ns = condition.next_change_ns
        assert due_ns is not None
        at_s = due_ns / S
        condition.tick(round(at_s * S))
        for step_s in (0, 5):
            seen(*[(at_s + step_s, "success")] * 3, start=condition)
        at_s += 10
        condition.tick(round(at_s * S))
        at_s += 30
    return at_s


def test_who_flaps_is_held_at_a_quarter_of_its_traffic_until_it_has_been_steady() -> None:
    condition = seen((0, "success"))
    condition.take_changes()
    at_s = flap(condition, 3)
    assert condition.flapping
    assert (condition.state, condition.admit_ppm) == ("probation", 250_000)
    begun = [change for change in condition.take_changes() if "changes too often" in change.cause]
    assert len(begun) == 1
    before_s = at_s
    while condition.flapping and at_s < before_s + 600:
        at_s += 5
        condition.observe("success", round(at_s * S))
    assert 60 < at_s - before_s <= 21 * 15  # at most until its changes have left the 21 samples of 15 s
    assert condition.state == "healthy"


def test_changes_of_who_flaps_are_quiet() -> None:
    condition = seen((0, "success"))
    at_s = flap(condition, 3)
    condition.take_changes()
    seen(*[(at_s, "reset")] * 5, start=condition)
    (change,) = condition.take_changes()
    assert (change.after, change.is_quiet) == ("ejected", True)


def test_an_unknown_event_is_our_own_bug() -> None:
    with pytest.raises(ValueError, match="no such event"):
        Condition().observe("hiccup", 0)  # type: ignore[arg-type]


def test_the_worse_of_two_opinions_holds() -> None:
    assert worse("degraded", "healthy") == "degraded"
    assert worse("ejected", "cordoned") == "cordoned"
    assert worse("healthy", "unknown") == "unknown"


steps = st.lists(
    st.tuples(st.integers(0, 40 * S), st.sampled_from(EVENTS) | st.sampled_from(("success", "reset", "probe-ok"))),
    max_size=60,
)
quick = Settings(consecutive_failures=2, window_requests=4, base_ejection_s=5, max_ejection_s=20, flap_sample_s=3)


@settings(max_examples=200, deadline=None)
@given(steps, st.lists(st.integers(0, 3_000 * S), max_size=30), st.sampled_from((Settings(), quick)))
def test_how_often_time_is_told_changes_nothing(
    found: list[tuple[int, Event]], ticks: list[int], chosen: Settings
) -> None:
    seldom, often = Condition(chosen), Condition(chosen)
    now_ns, waiting = 0, sorted(ticks)
    for gap_ns, event in found:
        now_ns += gap_ns
        while waiting and waiting[0] <= now_ns:
            often.tick(waiting.pop(0))
        seldom.observe(event, now_ns)
        often.observe(event, now_ns)
        assert _told(seldom) == _told(often)
    end_ns = now_ns + 4_000 * S
    for at_ns in (*(at for at in waiting if at > now_ns), end_ns):
        often.tick(at_ns)
    seldom.tick(end_ns)
    assert _told(seldom) == _told(often)


def test_the_answer_that_makes_a_share_of_failures_tell_is_judged_whenever_time_was_told() -> None:
    """One failure among three answers is too few to judge; the fourth answer makes it a quarter of four."""
    for ticks in ((), (3 * S,)):
        condition = Condition(quick)
        for event in ("success", "success", "connect-failed"):
            condition.observe(event, 0)
        for at_ns in ticks:
            condition.tick(at_ns)
        assert condition.state == "healthy"
        condition.observe("success", 3 * S)
        assert condition.state == "degraded"


def _told(one: Condition) -> tuple[object, ...]:
    return one.state, one.since_ns, one.admit_ppm, one.next_change_ns, one.ejections, one.flapping, one.flap_percent


@settings(max_examples=200, deadline=None)
@given(steps)
def test_only_the_ejected_get_nothing_and_every_exclusion_ends(found: list[tuple[int, Event]]) -> None:
    condition, now_ns = Condition(quick), 0
    for gap_ns, event in found:
        now_ns += gap_ns
        condition.observe(event, now_ns)
        assert (condition.admit_ppm == 0) == (condition.state == "ejected")
        assert 0 <= condition.admit_ppm <= ALL_PPM
        assert condition.since_ns <= now_ns
        if condition.state == "ejected":
            assert condition.next_change_ns is not None
            assert now_ns < condition.next_change_ns <= now_ns + 25 * S
    condition.tick(now_ns + 30 * S)
    assert condition.state != "ejected"
    for second in range(31, 31 + 21 * 3 + 30):
        condition.observe("success", now_ns + second * S)
    assert (condition.state, condition.admit_ppm) == ("healthy", ALL_PPM)


@pytest.mark.parametrize("event", [event for event in EVENTS if event not in ("success", "slow", "probe-ok")])
def test_nothing_but_an_answer_or_a_probe_brings_a_thing_back(event: Event) -> None:
    condition = ejected(at_s=0)
    condition.tick(30 * S)
    for second in range(31, 300):
        condition.observe(event, second * S)
        assert condition.state in ("probation", "ejected")


def test_one_failed_probe_after_a_failed_request_ejects_it_at_once() -> None:
    condition = seen((0, "success"), (10, "connect-failed"))
    assert condition.state == "healthy"
    condition.observe("probe-failed", 11 * S, "nothing listens there")
    assert (condition.state, condition.cause) == ("ejected", "requests and a probe failed: nothing listens there")
    condition = seen((0, "success"), (10, "connect-failed"), (10.5, "success"), (11, "probe-failed"))
    assert condition.state == "healthy"
    condition = seen((0, "success"), (10, "connect-failed"), (15.1, "probe-failed"))
    assert condition.state == "healthy"
    condition = seen((0, "success"))
    condition.observe_counts(20, 4, 10 * S)  # which were the last cannot be told: the probe can
    condition.observe("probe-failed", 11 * S)
    assert condition.state == "ejected"
