"""The two-covariance model: its log-odds against Gaussian densities written out, and what drawn groups teach it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from gridctl.cache.evidence import FEATURES, MOST_ODDS, weigh
from gridctl.cache.groups import AnswerGroups
from gridctl.cache.kinship import FIRST_PAIRS, Kinship, kinship_of

Floats = NDArray[np.float32]


def log_density(value: float, mean: float, variance: float) -> float:
    return float(-0.5 * np.log(2.0 * np.pi * variance) - 0.5 * (value - mean) ** 2 / variance)


def test_log_odds_are_those_of_gaussians_for_the_groups_prompts_and_for_a_new_answer() -> None:
    """One direction, b = 3: after two prompts with middle 2 the answer lies at 6/7 · 2 ± √(3/7), so the next prompt has
    variance 1 + 3/7 about 12/7; that of a new answer has variance 4 about 0."""
    one = Kinship(np.ones((1, 1), np.float32), np.array([3.0], np.float32), np.zeros(1, np.float32))
    odds, cosines = one.compare(np.array([1.5], np.float32), np.array([[2.0], [-2.0]], np.float32), [2, 1])
    assert odds[0] == pytest.approx(log_density(1.5, 12.0 / 7.0, 10.0 / 7.0) - log_density(1.5, 0.0, 4.0), rel=1e-5)
    assert odds[1] == pytest.approx(log_density(1.5, -1.5, 1.75) - log_density(1.5, 0.0, 4.0), rel=1e-5)
    assert cosines.tolist() == pytest.approx([1.0, -1.0])


def drawn(seed: int, answers: int, each: int) -> tuple[Floats, list[int]]:
    """Prompts of answers that lie apart in the first two of eight directions and scatter most in the last two."""
    draw = np.random.default_rng(seed)
    places = draw.normal(size=(answers, 8)) * [1.0, 1.0, 0, 0, 0, 0, 0, 0]
    keys = [answer for answer in range(answers) for _ in range(each)]
    noise = draw.normal(size=(len(keys), 8)) * [0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 1.5, 1.5]
    return (places[keys] + noise).astype(np.float32), keys


def test_the_directions_in_which_answers_lie_apart_are_told_from_those_in_which_prompts_scatter() -> None:
    vectors, keys = drawn(1, 60, 5)
    centres = np.stack([vectors[np.array(keys) == key].mean(0) for key in keys])
    found = kinship_of(vectors, centres, np.full(len(keys), 5.0, np.float32))
    assert found is not None
    # Variance between answers over that within: 1 / 0.04 = 25 in two directions (60 answers: give or take a third), 0
    # in the others (a learnt one is never quite 0).
    largest = np.sort(found.between)[::-1]
    assert 12.0 < largest[1] <= largest[0] < 40.0
    assert largest[2] < 1.0
    strength = np.abs(found.directions[:, np.argsort(found.between)[-2:]]).sum(1)
    assert strength[:2].min() > 10.0 * strength[6:].max()


def test_a_scatter_is_not_learnt_from_prompts_that_stand_alone() -> None:
    vectors, _ = drawn(2, 100, 1)
    assert kinship_of(vectors, vectors, np.ones(100, np.float32)) is None


def test_prompts_that_do_not_scatter_at_all_give_finite_evidence() -> None:
    groups = AnswerGroups(8)
    axes = np.eye(8, dtype=np.float32)
    for place in range(8):
        number, _ = groups.found(f"prompt {place}", axes[place])
        for again in range(20):
            groups.alias(number, f"prompt {place} again {again}", axes[place])
    assert groups.kinship() is not None
    for vector in (axes[3], np.full(8, 8**-0.5, np.float32), -axes[0]):
        found = weigh("prompt", vector, groups)
        assert found is not None
        assert np.isfinite(found.features).all()
        assert abs(found.features[FEATURES.index("kin_log_odds")]) <= MOST_ODDS**0.5


def test_evidence_says_who_is_kin_where_the_cosine_is_misled_by_the_scatter() -> None:
    vectors, keys = drawn(3, 40, 6)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    groups, numbers = AnswerGroups(8), dict[int, int]()
    asked = list(range(5, len(keys), 6))  # the last prompt of each answer
    for place, key in enumerate(keys):
        if place in asked:
            continue
        if key in numbers:
            assert groups.alias(numbers[key], f"prompt {place}", vectors[place]) is not None
        else:
            numbers[key], _ = groups.found(f"prompt {place}", vectors[place])
    kinship, plain, learnt = groups.kinship(), 0, 0
    assert kinship is not None
    for place in asked:
        every = list(numbers.values())
        centres = np.stack([groups.centre(number) for number in every])
        odds, _ = kinship.compare(vectors[place], centres, [5] * len(every))
        learnt += every[int(odds.argmax())] == numbers[keys[place]]
        near = centres @ vectors[place] / np.linalg.norm(centres, axis=1)
        plain += every[int(near.argmax())] == numbers[keys[place]]
    assert learnt > 1.5 * plain


def test_it_is_learnt_when_enough_prompts_share_answers_and_not_at_every_look() -> None:
    vectors, keys = drawn(4, 30, 6)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    groups, numbers, learnt = AnswerGroups(8), dict[int, int](), list[int]()
    last = None
    for place, key in enumerate(keys):
        if key in numbers:
            groups.alias(numbers[key], f"prompt {place}", vectors[place])
        else:
            numbers[key], _ = groups.found(f"prompt {place}", vectors[place])
        pairs = place + 1 - len(numbers)
        now = groups.kinship()
        if now is not last:
            learnt.append(pairs)
            last = now
    assert learnt == [FIRST_PAIRS, 80, 100, 125]  # a quarter more each time


def test_the_share_of_lone_prompts_follows_what_comes_and_goes(rows: Floats) -> None:
    groups = AnswerGroups(24)
    assert groups.lone_share == 0.0
    first, founder = groups.found("a", rows[0])
    second, _ = groups.found("b", rows[1])
    assert groups.lone_share == 1.0
    alias = groups.alias(first, "a too", rows[2])
    assert alias is not None
    assert groups.lone_share == pytest.approx(1 / 3)
    groups.alias(first, "a three", rows[3])
    assert groups.lone_share == pytest.approx(1 / 4)
    groups.drop_alias(founder)
    groups.drop_alias(alias)
    assert groups.lone_share == 1.0
    groups.drop(second)
    assert groups.lone_share == 1.0
    groups.drop(first)
    assert groups.lone_share == 0.0
