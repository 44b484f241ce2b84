"""What hits saved: priced by their own tokens, so that dollars spent and saved are those of the run without caches."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridctl.accounts.caching import expected_usd

PRICE = st.floats(1e-7, 1e-3)


@given(PRICE, PRICE, st.lists(st.booleans(), min_size=20, max_size=20), st.integers(0, 2**31))
def test_spent_and_saved_add_up_to_the_run_without_a_cache_when_tokens_have_prices(
    usd_in: float, usd_out: float, is_hit: list[bool], seed: int
) -> None:
    tokens = np.random.default_rng(seed).integers(1, 2_000, (24, 2)).astype(float)
    usd = tokens @ np.array([usd_in, usd_out])
    hit = np.array([*is_hit, False, False, False, False])
    saved = expected_usd(tokens[~hit], usd[~hit], tokens[hit])
    assert usd[~hit].sum() + saved == pytest.approx(usd.sum(), rel=1e-6)


def test_long_hits_save_more_than_short_ones() -> None:
    """A dollar per output token: three hits of 100 tokens are 300 dollars, though the others cost 10 each."""
    others = np.array([[0.0, 10.0], [0.0, 10.0]])
    assert expected_usd(others, np.array([10.0, 10.0]), np.array([[5.0, 100.0]] * 3)) == pytest.approx(300.0)


def test_requests_that_cost_nothing_save_nothing() -> None:
    assert expected_usd(np.ones((3, 2)), np.zeros(3), np.ones((2, 2))) == 0.0
