"""Analysis: what passes, what fails, and what nobody can know. Expected bounds are of the literature or by hand."""

from __future__ import annotations

import random

import pytest

from gridctl.rollout.analysis import Limits, Sample, judge, lower_bound, wilson

LIMITS = Limits(min_samples=50)


def test_the_interval_of_a_difference_is_that_of_newcombe() -> None:
    # Newcombe 1998, table II, method 10: 56/70 − 48/80 is 0.0524 to 0.3339; 9/10 − 3/10 is 0.1705 to 0.8090.
    assert lower_bound(56, 70, 48, 80, z=1.959964) == pytest.approx(0.0524, abs=5e-5)
    assert lower_bound(9, 10, 3, 10, z=1.959964) == pytest.approx(0.1705, abs=5e-5)
    assert -lower_bound(48, 80, 56, 70, z=1.959964) == pytest.approx(0.3339, abs=5e-5)


def test_the_score_interval_is_that_of_wilson() -> None:
    # 15 of 148: 0.0624 to 0.1605 (Newcombe 1998a, table I).
    low, high = wilson(15, 148, 1.959964)
    assert (low, high) == (pytest.approx(0.0624, abs=5e-5), pytest.approx(0.1605, abs=5e-5))


def test_no_samples_are_inconclusive_however_good_everything_else_is() -> None:
    probes = {"a": {"ttft_ms_p95": 10.0, "match_share": 1.0}}
    verdict = judge(Sample(sites=1, probes=probes), Sample(valid=1000, sites=5, probes=probes), LIMITS)
    assert (verdict.word, verdict.samples) == ("inconclusive", 0)
    assert judge(Sample(), Sample(), Limits(min_samples=1)).word == "inconclusive"
    assert judge(Sample(), Sample(), Limits(min_samples=0)).word == "inconclusive"


def test_too_few_samples_neither_pass_nor_fail() -> None:
    assert judge(Sample(valid=49), Sample(valid=1000), LIMITS).word == "inconclusive"
    assert judge(Sample(valid=49, bad=49, failed=49), Sample(valid=1000), LIMITS).word == "inconclusive"
    assert judge(Sample(valid=50), Sample(valid=1000), LIMITS).word == "pass"


def test_a_busy_evening_fails_nobody() -> None:
    verdict = judge(Sample(valid=200, bad=60), Sample(valid=2000, bad=590), LIMITS)
    assert verdict.word == "pass"


def test_a_canary_that_breaks_more_promises_fails_and_says_by_how_much() -> None:
    verdict = judge(Sample(valid=200, bad=30), Sample(valid=2000, bad=20), LIMITS)
    assert verdict.word == "fail"
    assert "broken promises 15.0% (30 of 200) against 1.0% (20 of 2000) elsewhere" in verdict.because


def test_a_difference_that_may_be_chance_is_inconclusive() -> None:
    assert judge(Sample(valid=60, bad=3), Sample(valid=600, bad=6), LIMITS).word == "inconclusive"


def test_slow_probes_fail_without_any_traffic_and_so_do_other_answers() -> None:
    control = Sample(valid=100, sites=2, probes={"b": {"ttft_ms_p95": 100.0}, "c": {"ttft_ms_p95": 110.0}})
    slow = Sample(sites=1, probes={"a": {"ttft_ms_p95": 200.0}})
    assert judge(slow, control, LIMITS).word == "fail"
    other = Sample(valid=100, sites=1, probes={"a": {"match_share": 0.5}})
    verdict = judge(other, control, LIMITS)
    assert verdict.word == "fail"
    assert "50% of probe answers as before" in verdict.because


def test_with_nobody_to_compare_with_only_what_is_good_anywhere_passes() -> None:
    assert judge(Sample(valid=100), Sample(), LIMITS).word == "pass"
    assert judge(Sample(valid=100, bad=50), Sample(), LIMITS).word == "fail"


def test_equal_sites_rarely_fail() -> None:
    # One-sided 95 % and a tolerance of 2 points: of 500 canaries that are like control, well under 5 % fail.
    draw = random.Random(7)

    def sample(requests: int) -> Sample:
        return Sample(valid=requests, bad=sum(draw.random() < 0.1 for _ in range(requests)))

    failed = sum(judge(sample(200), sample(1000), LIMITS).word == "fail" for _ in range(500))
    assert failed <= 25
