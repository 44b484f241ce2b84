"""Resampled blocks: right about what they claim, on noise whose truth is known, and the same on every machine."""

from __future__ import annotations

import numpy as np
import pytest

from gridctl.accounts.columns import Quantile, Sums
from gridctl.accounts.resampling import BLOCKS, RESAMPLES, blocks_of, bounds, resampled

N = 1_500


def means(values: np.ndarray) -> np.ndarray:
    return resampled(Sums(values, np.ones(len(values))), np.arange(len(values)), blocks_of(len(values)))


def test_blocks_are_equal_stretches_in_order() -> None:
    blocks = blocks_of(300)
    assert list(np.bincount(blocks)) == [10] * BLOCKS
    assert list(blocks) == sorted(blocks)


def test_the_spread_of_a_mean_is_that_of_its_blocks_by_the_textbook() -> None:
    """Thirty blocks with independent means of variance v: the mean of a resample has standard deviation √(v/30)."""
    per_block = np.random.default_rng(5).normal(size=BLOCKS)
    values = np.repeat(per_block, 50)
    spread = means(values).std()
    assert spread == pytest.approx(per_block.std() / np.sqrt(BLOCKS), rel=0.08)


def test_false_alarms_on_correlated_noise_are_rare_where_the_formula_for_independent_values_fails() -> None:
    """First-order autoregression with coefficient 0.9 and mean 0, the kind of memory a queue has."""
    source = np.random.default_rng(11)
    alarms = naive = 0
    for _ in range(200):
        noise = source.normal(size=N)
        for at in range(1, N):
            noise[at] += 0.9 * noise[at - 1]
        found = bounds(means(noise))
        assert found is not None
        alarms += not found.low <= 0 <= found.high
        naive += abs(noise.mean()) > 1.96 * noise.std() / np.sqrt(N)
    assert alarms / 200 <= 0.12
    assert naive / 200 >= 0.5


@pytest.mark.parametrize("percentile", [50.0, 95.0, 99.0])
def test_resampled_percentiles_are_those_of_the_resampled_requests(percentile: float) -> None:
    """Against the definition: values repeated as often as their block was drawn, sorted, nearest rank."""
    from gridctl.accounts.resampling import _draws

    values = np.random.default_rng(2).integers(1, 10**9, 600)
    blocks = blocks_of(600)
    found = resampled(Quantile(values, np.ones(600, bool), percentile), np.arange(600), blocks)
    for number in range(0, RESAMPLES, 111):
        drawn = np.sort(np.repeat(values, _draws()[number][blocks].astype(int)))
        rank = int(np.ceil(percentile / 100 * len(drawn) - 1e-9))
        assert found[number] == pytest.approx(drawn[rank - 1] / 1e6)


def test_percentiles_of_many_values_are_thinned_by_less_than_a_tenth_of_a_percent_of_rank() -> None:
    values = np.sort(np.random.default_rng(4).integers(1, 10**9, 200_000))
    shuffled = np.random.default_rng(5).permutation(values)
    found = resampled(
        Quantile(shuffled, np.ones(len(values), bool), 99.0), np.arange(len(values)), blocks_of(len(values))
    )
    middle = np.searchsorted(values, np.median(found) * 1e6) / len(values)
    assert middle == pytest.approx(0.99, abs=0.001)


def test_a_scope_without_any_is_no_number() -> None:
    nothing = Quantile(np.zeros(10, np.int64), np.zeros(10, bool), 50.0)
    assert bounds(resampled(nothing, np.arange(10), blocks_of(10))) is None
    assert bounds(resampled(Sums(np.ones(10), np.zeros(10)), np.arange(10), blocks_of(10))) is None


def test_the_first_draws_are_fixed_for_good() -> None:
    """Python's own generator promises the same numbers in every version; these were drawn by hand from it."""
    import random

    from gridctl.accounts.resampling import _SEED, _draws

    source = random.Random(_SEED)
    picked = [int(source.random() * BLOCKS) for _ in range(BLOCKS)]
    assert list(_draws()[0]) == [picked.count(block) for block in range(BLOCKS)]
