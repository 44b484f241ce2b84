"""What ended requests teach, against the plain sums."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridctl.broker.learning import MOST_RATIO, Correction, Lengths, TokenRates


def test_a_correction_is_a_ratio_of_sums_in_which_the_prior_counts_four() -> None:
    one = Correction()
    assert one.factor(100.0) == 1.0
    assert one.learn(100.0, 200.0) == pytest.approx((200 + 400) / (100 + 400))
    assert one.learn(100.0, 200.0) == pytest.approx((200 * (1 + 31 / 32) + 400) / (100 * (1 + 31 / 32) + 400))


def test_an_old_observation_counts_half_after_22_newer_ones() -> None:
    assert pytest.approx(0.5, rel=0.01) == (31 / 32) ** 22


def test_one_hung_request_moves_it_no_more_than_four_times_its_prediction() -> None:
    hung, slow = Correction(), Correction()
    assert hung.learn(100.0, 1e9) == slow.learn(100.0, 400.0)


@given(st.lists(st.tuples(st.floats(0, 1e12), st.floats(0, 1e12)), max_size=80))
def test_a_correction_stays_in_its_bounds(observations: list[tuple[float, float]]) -> None:
    one = Correction()
    for predicted, observed in observations:
        assert 1 / MOST_RATIO <= one.learn(predicted, observed) <= MOST_RATIO


@given(st.lists(st.integers(1, 100_000), max_size=100), st.integers(1, 5000), st.none() | st.integers(0, 10_000))
def test_an_expected_length_is_the_mean_with_sixteen_declared_ones(
    seen: list[int], declared: int, most: int | None
) -> None:
    lengths = Lengths({"chat": declared})
    for tokens in seen:
        lengths.learn("chat", tokens)
        lengths.learn("unknown", tokens)
    mean = (sum(seen) + 16 * declared) // (len(seen) + 16)
    assert lengths.expected("chat", most) == max(1, mean if most is None else min(mean, most))


def test_habits_may_change() -> None:
    lengths = Lengths({"chat": 100})
    for _ in range(20_000):
        lengths.learn("chat", 100)
    for _ in range(10_000):
        lengths.learn("chat", 300)
    assert lengths.expected("chat", None) > 270


def test_a_byte_is_a_quarter_token_until_a_model_says_otherwise() -> None:
    rates = TokenRates()
    assert rates.rate("a") == 0.25
    rates.learn("a", 16_384, 8_192)
    assert rates.rate("a") == pytest.approx((4_096 + 8_192) / 32_768)
    assert rates.rate("b") == 0.25


@pytest.mark.parametrize(("text_bytes", "tokens"), [(0, 10), (-1, 10), (100, 0), (100, 101), (100, 1), (100, -5)])
def test_nonsense_teaches_nothing(text_bytes: int, tokens: int) -> None:
    rates = TokenRates()
    rates.learn("a", text_bytes, tokens)
    assert rates.rate("a") == 0.25
