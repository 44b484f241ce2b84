"""What ended requests teach, against the plain sums."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gridctl.broker.learning import MOST_RATIO, MOST_WAIT_US, Correction, Lengths, TokenRates, WaitCorrection


def test_a_correction_is_a_ratio_of_sums_in_which_the_prior_counts_four_and_is_forgotten() -> None:
    one, kept = Correction(), 31 / 32
    assert one.factor == 1.0
    assert one.learn(100.0, 200.0) == pytest.approx((200 + 400 * kept) / (100 + 400 * kept))
    assert one.learn(100.0, 200.0) == pytest.approx(
        (200 * (1 + kept) + 400 * kept**2) / (100 * (1 + kept) + 400 * kept**2)
    )
    for _ in range(400):
        one.learn(100.0, 200.0)
    assert one.factor == pytest.approx(2.0, rel=1e-3)


def test_an_old_observation_counts_half_after_22_newer_ones() -> None:
    assert pytest.approx(0.5, rel=0.01) == (31 / 32) ** 22


def test_one_hung_request_moves_it_no_more_than_four_times_what_was_expected() -> None:
    hung, slow = Correction(), Correction()
    assert hung.learn(100.0, 1e9) == slow.learn(100.0, 400.0)


@pytest.mark.parametrize("truth", [1 / 20, 0.1, 10.0, 50.0])
def test_an_engine_far_from_its_declaration_is_known_after_a_minute_of_requests(truth: float) -> None:
    one, queue = Correction(), WaitCorrection()
    for _ in range(120):
        one.learn(1000.0, 1000.0 * truth)
        queue.learn(1000.0, 0, 1000.0 * truth)
    assert one.factor == pytest.approx(truth, rel=0.2)
    assert queue.factor == pytest.approx(truth, rel=0.2)


@given(st.floats(0.1, 10.0), st.floats(0.0, 20_000.0), st.lists(st.integers(0, 12), min_size=300, max_size=300))
def test_a_wait_for_each_request_ahead_is_told_from_the_engines_own_time(
    factor: float, wait_us: float, ahead: list[int]
) -> None:
    """Least squares on data without noise gives back what made them."""
    assume(len(set(ahead[-60:])) >= 6)
    one = WaitCorrection()
    for number in ahead:
        one.learn(5_000.0, number, factor * 5_000.0 + wait_us * number)
    for number in (0, 4, 12):
        told = one.factor * 5_000.0 + one.wait_us * number
        assert told == pytest.approx(factor * 5_000.0 + wait_us * number, rel=0.15, abs=2_000.0)


@given(st.lists(st.tuples(st.floats(0, 1e12), st.floats(0, 1e12), st.integers(0, 1000)), max_size=80))
def test_a_correction_stays_in_its_bounds(observations: list[tuple[float, float, int]]) -> None:
    one, queue = Correction(), WaitCorrection()
    for predicted, observed, ahead in observations:
        assert 1 / MOST_RATIO <= one.learn(predicted, observed) <= MOST_RATIO
        queue.learn(predicted, ahead, observed)
        assert 1 / MOST_RATIO <= queue.factor <= MOST_RATIO
        assert 0.0 <= queue.wait_us <= MOST_WAIT_US


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
