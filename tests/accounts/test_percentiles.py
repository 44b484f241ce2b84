"""Percentiles and bounds against the textbook tables, direct sums and SciPy."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridctl.accounts.percentiles import (
    beta_quantile,
    binomial_cdf,
    clopper_pearson,
    exact,
    incomplete_beta,
    nearest_rank,
    percentile_ranks,
    percentiles,
    proves,
    requests_to_bound,
    requests_to_prove,
)


def test_median_of_four_is_the_second_value_never_between_two() -> None:
    assert percentiles(np.array([40, 10, 30, 20]), (50.0, 95.0, 100.0)) == (20, 40, 40)


def test_percentiles_of_nothing_are_absent() -> None:
    assert percentiles(np.array([], dtype=np.int64), (50.0, 99.0)) == (None, None)


@pytest.mark.parametrize(("n", "percentile", "rank"), [(300, 99.0, 297), (1000, 99.9, 999), (7, 50.0, 4), (1, 1.0, 1)])
def test_rank_is_the_ceiling_of_share_times_n(n: int, percentile: float, rank: int) -> None:
    assert nearest_rank(n, percentile) == rank


def test_rank_of_seven_percent_of_a_hundred_is_not_pushed_up_by_floating_point() -> None:
    assert 0.07 * 100 > 7
    assert nearest_rank(100, 7.0) == 7


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=60), st.sampled_from([1.0, 50.0, 90.0, 99.0, 99.9]))
def test_percentile_is_the_smallest_value_that_covers_its_share(values: list[int], percentile: float) -> None:
    (found,) = percentiles(np.array(values, dtype=np.int64), (percentile,))
    covering = [value for value in values if sum(v <= value for v in values) >= exact(percentile) / 100 * len(values)]
    assert found == min(covering)


@pytest.mark.parametrize(
    ("n", "low", "high"),
    [(300, 293, None), (1_000, 983, 997), (3_000, 2_959, 2_981), (10_000, 9_880, 9_920), (100_000, 98_938, 99_062)],
)
def test_ranks_around_p99_match_the_published_table(n: int, low: int, high: int | None) -> None:
    assert percentile_ranks(n, 99.0) == (low, high)


@pytest.mark.parametrize(("percentile", "needed"), [(95.0, 72), (99.0, 368), (99.9, 3_688)])
def test_upper_bound_exists_from_the_needed_number_of_requests_on(percentile: float, needed: int) -> None:
    assert requests_to_bound(percentile) == needed
    assert percentile_ranks(needed, percentile).high == needed
    assert percentile_ranks(needed - 1, percentile).high is None


def test_no_values_have_no_ranks() -> None:
    assert percentile_ranks(0, 99.0) == (None, None)


@pytest.mark.parametrize(
    ("share", "misses", "needed"),
    [
        (0.99, 0, 299),
        (0.99, 1, 473),
        (0.99, 2, 628),
        (0.99, 3, 773),
        (0.95, 0, 59),
        (0.95, 1, 93),
        (0.95, 2, 124),
        (0.95, 3, 153),
        (0.999, 0, 2_995),
    ],
)
def test_requests_to_prove_a_share_match_the_published_table(share: float, misses: int, needed: int) -> None:
    assert requests_to_prove(share, misses) == needed
    assert proves(needed, misses, share)
    assert not proves(needed - 1, misses, share)


def test_299_requests_without_a_miss_prove_p99_and_298_do_not() -> None:
    assert 0.99**299 <= 0.05 < 0.99**298
    assert proves(299, 0, 0.99)
    assert not proves(298, 0, 0.99)
    assert not proves(0, 0, 0.99)


@pytest.mark.parametrize(
    ("good", "n", "low", "high"),
    [(297, 300, "97.1", "99.8"), (995, 1_000, "98.8", "99.8"), (9_990, 10_000, "99.82", "99.95")],
)
def test_clopper_pearson_matches_the_published_intervals(good: int, n: int, low: str, high: str) -> None:
    interval = clopper_pearson(good, n)
    digits = len(low.split(".")[1])
    assert (f"{interval.low * 100:.{digits}f}", f"{interval.high * 100:.{digits}f}") == (low, high)


def test_clopper_pearson_of_none_and_all_touches_the_ends() -> None:
    assert clopper_pearson(0, 10).low == 0.0
    assert clopper_pearson(10, 10).high == 1.0
    assert clopper_pearson(10, 10).low == pytest.approx(0.025 ** (1 / 10), rel=1e-12)  # pⁿ = 0.025


@given(st.integers(1, 60), st.integers(-1, 60), st.floats(0.01, 0.99))
def test_binomial_cdf_is_the_sum_of_its_terms(n: int, k: int, share: float) -> None:
    terms = sum(comb(n, i) * share**i * (1 - share) ** (n - i) for i in range(min(k, n) + 1))
    assert binomial_cdf(k, n, share) == pytest.approx(terms, abs=1e-12)


@given(st.integers(1, 5_000), st.integers(1, 5_000), st.floats(1e-6, 1 - 1e-6))
@settings(max_examples=60)
def test_beta_quantile_undoes_the_incomplete_beta(a: int, b: int, probability: float) -> None:
    assert incomplete_beta(a, b, beta_quantile(probability, a, b)) == pytest.approx(probability, abs=1e-9)


def test_incomplete_beta_ends_at_nothing_and_everything() -> None:
    assert (incomplete_beta(2, 3, 0.0), incomplete_beta(2, 3, 1.0)) == (0.0, 1.0)


@given(st.integers(1, 10**6), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_clopper_pearson_equals_scipy(n: int, part: float) -> None:
    stats = pytest.importorskip("scipy.stats")
    good = round(n * part)
    wanted = stats.binomtest(good, n).proportion_ci(confidence_level=0.95, method="exact")
    assert clopper_pearson(good, n) == pytest.approx((wanted.low, wanted.high), abs=1e-10)


@pytest.mark.parametrize("percentile", [50.0, 95.0, 99.0, 99.9])
def test_ranks_equal_scipys_binomial_quantiles(percentile: float) -> None:
    stats = pytest.importorskip("scipy.stats")
    for n in (1, 2, 10, 71, 367, 368, 999, 12_345):
        low = int(stats.binom.ppf(0.025, n, percentile / 100))
        high = int(stats.binom.ppf(0.975, n, percentile / 100)) + 1
        assert percentile_ranks(n, percentile) == (low if low >= 1 else None, high if high <= n else None)
