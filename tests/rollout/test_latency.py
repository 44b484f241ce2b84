"""How many times as long: quantiles of cells with their intervals, and what chance alone may not decide."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest

from gridctl.rollout.analysis import Limits, Sample, judge
from gridctl.rollout.latency import RESOLUTION, ends_of, ratio_of
from gridctl.signals import buckets

LIMITS = Limits(min_samples=100, max_ttft_ratio=1.5)


def cells(times_ms: list[float]) -> tuple[int, ...]:
    """As the meter counts them: a fine cell, and the coarse one that it is in."""
    counts = [0] * buckets.COARSE_CELLS
    for time_ms in times_ms:
        cell = buckets.cell_of(int(time_ms * 1e6))
        counts[buckets.COARSE_OVER if cell >= buckets.OVER else (cell + buckets.STEP - 1) // buckets.STEP] += 1
    return tuple(counts)


def sample(times_ms: list[float]) -> Sample:
    return Sample(valid=len(times_ms), sites=1, ttft=cells(times_ms))


def test_the_ends_of_a_median_are_the_times_of_the_ranks_of_the_binomial() -> None:
    # Of 100 the median's ranks at 95 %, two-sided, are 50 ∓ 1.96·5: 40.2 and 59.8, outwards 40 and 60. The times are
    # ten apart in ratio, so each has a cell of its own: ranks 1 to 39 at 1 ms, 40 at 10, 41 to 59 at 100, 60 at 1000.
    found = ends_of(cells([1.0] * 39 + [10.0] + [100.0] * 19 + [1000.0] + [10_000.0] * 40), 0.5, z=1.96)
    assert found is not None
    assert [found.at / 1e6, found.low / 1e6, found.high / 1e6] == pytest.approx([100.0, 10.0, 1000.0], rel=0.05)


def test_a_rank_beyond_the_last_time_makes_nothing_certain() -> None:
    # The 95th of 20: its upper rank would be 19 + 1.645·√(20·0.95·0.05) = 20.6.
    few = ends_of(cells([100.0] * 20), 0.95)
    assert few is not None
    assert few.high == float("inf")
    found = ratio_of(cells([900.0] * 1000), cells([100.0] * 20), 0.95)
    assert found is not None
    assert (found.times, found.at_least) == (pytest.approx(9.0, rel=0.11), 0.0)
    assert ends_of([0] * buckets.COARSE_CELLS, 0.5) is None
    assert ratio_of((), cells([1.0]), 0.5) is None
    assert ratio_of(cells([10.0**6]), cells([10.0**6]), 0.5) is not None  # over 600 s


def test_a_bound_allows_for_what_the_cells_do_not_tell() -> None:
    found = ratio_of(cells([200.0] * 500), cells([100.0] * 500), 0.5)
    assert found is not None
    assert found.at_least == pytest.approx(found.times / RESOLUTION)
    assert found.at_least <= 2.0 <= found.times * RESOLUTION


def test_twice_as_long_fails_without_a_broken_promise_and_says_why() -> None:
    verdict = judge(sample([200.0] * 150), sample([100.0] * 300), LIMITS)
    assert verdict.word == "fail"
    assert "TTFT p50" in verdict.because
    assert "1.5 are tolerated" in verdict.because
    assert judge(sample([105.0] * 150), sample([100.0] * 300), LIMITS).word == "pass"


def test_a_slow_tail_fails_where_the_middle_is_as_it_was() -> None:
    slow = sample([100.0] * 850 + [500.0] * 150)
    verdict = judge(slow, sample([100.0] * 1000), LIMITS)
    assert (verdict.word, [one.word for one in verdict.checks if one.what == "TTFT p50"]) == ("fail", ["pass"])
    assert "TTFT p95" in verdict.because


def test_too_few_times_are_inconclusive_and_none_are_not_compared() -> None:
    enough, few = sample([100.0] * 150), Sample(valid=150, sites=1, ttft=cells([900.0] * 20))
    assert judge(few, enough, LIMITS).word == "inconclusive"
    assert judge(enough, few, LIMITS).word == "inconclusive"
    assert "of 150 and 20 requests, 100 are needed" in judge(enough, few, LIMITS).because
    # Engines of other kinds have no times to compare: shares alone decide.
    assert judge(enough, Sample(valid=500, sites=2), LIMITS).word == "pass"
    assert judge(Sample(sites=1, ttft=cells([100.0] * 500)), enough, LIMITS).word == "inconclusive"


@pytest.mark.parametrize("factor", [1.0, 1.05, 3.0], ids=["equal", "5 % slower", "thrice"])
def test_chance_rarely_decides(factor: float) -> None:
    # Times of people's prompts spread widely: lognormal, σ = 0.8, p95 is 3.7 times the median.
    draw = random.Random(11)
    times: Callable[[int, float], list[float]] = lambda count, scale: [  # noqa: E731
        scale * draw.lognormvariate(5.0, 0.8) for _ in range(count)
    ]
    words = [judge(sample(times(200, factor)), sample(times(800, 1.0)), LIMITS).word for _ in range(200)]
    wrong = "pass" if factor > 2 else "fail"
    right = "fail" if factor > 2 else "pass"
    assert words.count(wrong) == 0
    assert words.count(right) >= 190


def test_the_bound_covers_the_true_ratio_as_often_as_it_says() -> None:
    # A true ratio of 1.4 of the medians: over it in at most 5 % of samples, plus chance (400 draws: σ is 1.1 %).
    draw = np.random.default_rng(3)
    over = 0
    for _ in range(400):
        here = cells((1.4 * draw.lognormal(5.0, 0.8, 200)).tolist())
        there = cells(draw.lognormal(5.0, 0.8, 400).tolist())
        found = ratio_of(here, there, 0.5)
        assert found is not None
        over += found.at_least > 1.4
    assert over <= 0.083 * 400


def answered(ttft_ms: list[float], tpot_ms: list[float]) -> Sample:
    return Sample(valid=len(ttft_ms), sites=1, ttft=cells(ttft_ms), tpot=cells(tpot_ms))


def test_tokens_that_take_twice_as_long_fail_although_the_first_comes_in_time() -> None:
    slow, usual = answered([100.0] * 150, [40.0] * 150), answered([100.0] * 300, [20.0] * 300)
    verdict = judge(slow, usual, LIMITS)
    assert verdict.word == "fail"
    assert verdict.because.startswith("TPOT p50 ")
    assert "TTFT" not in verdict.because
    assert judge(usual, slow, LIMITS).word == "pass"
    assert judge(slow, usual, Limits(min_samples=100, max_tpot_ratio=2.5)).word == "pass"


def test_answers_of_single_tokens_have_no_tpot_and_hold_nobody_up() -> None:
    single, usual = answered([100.0] * 150, [80.0] * 10), answered([100.0] * 300, [20.0] * 300)
    assert judge(single, usual, LIMITS).word == "pass"
    assert not any(check.what.startswith("TPOT") for check in judge(single, usual, LIMITS).checks)
