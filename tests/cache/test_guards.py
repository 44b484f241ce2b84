"""Guards: what they tell apart, by hand and on real pairs whose labels teach nothing; the model by its slope."""

from __future__ import annotations

import csv
import gzip
import math
import random
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridctl.cache.guards import Rarity, compare, likeness, read
from gridctl.cache.model import WrongModel, fit
from gridctl.cache.words import resembling


@pytest.mark.parametrize(
    ("a", "b", "measure"),
    [
        ("set alarm for 5", "set alarm for 7", "numbers_differ"),
        ("set alarm for five", "set alarm for seven", "numbers_differ"),
        ("a loan of 1,500", "a loan of 1500.5", "numbers_differ"),
        ("meeting on monday", "meeting on tuesday", "dates_differ"),
        ("run ten miles", "run ten kilometers", "units_differ"),
        ("turn the light on", "turn the light off", "polarity_differs"),
        ("enable two factor login", "disable two factor login", "polarity_differs"),
        ("my card is working", "my card is not working", "polarity_differs"),
        ("print a[0]", "print a(0)", "code_differs"),
    ],
)
def test_pairs_that_part_in_one_thing(a: str, b: str, measure: str) -> None:
    assert getattr(compare(read(a), read(b), Rarity()), measure)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("set alarm for five", "set alarm for 5"),
        ("turn the light on", "please turn on the lights"),
        ("a loan of 1,500", "loan of 1500"),
        ("don't turn it off", "do not turn it off"),
    ],
)
def test_pairs_that_part_in_nothing(a: str, b: str) -> None:
    pair = compare(read(a), read(b), Rarity())
    assert pair.has_no_leftover or not (read(a).details | read(b).details)
    differs = (pair.numbers_differ, pair.dates_differ, pair.units_differ, pair.polarity_differs)
    assert differs == (False,) * 4


@pytest.mark.parametrize("text", ["eeeee", "eeeeeee weather", "ee e", "ßßß eeeeeeeee"])
def test_words_that_are_all_ending_can_be_compared(text: str) -> None:
    pair = compare(read(text), read("weather in paris"), Rarity())
    assert 0.0 <= pair.kept_share <= 1.0


def dice(a: str, b: str) -> float:
    left, right = {a[at : at + 2] for at in range(len(a) - 1)}, {b[at : at + 2] for at in range(len(b) - 1)}
    return 2 * len(left & right) / (len(left) + len(right)) if left and right else 0.0


@pytest.mark.parametrize("length", [5, 60])
def test_words_that_resemble_each_other_are_those_whose_letter_pairs_do_in_short_texts_and_long(length: int) -> None:
    draw = random.Random(length)

    def some() -> frozenset[str]:
        return frozenset("".join(draw.choices("abc", k=draw.randint(1, 9))) for _ in range(length)) | {"42", "7"}

    for _ in range(30):
        words, others = some(), some()
        words -= others
        expected = {word for word in words if any(dice(word, other) >= 0.67 for other in others)}
        assert resembling(words, others) == expected


@pytest.mark.parametrize(
    ("a", "b"),
    [("play jazz", "play some jazz"), ("привет мир", "привет всем"), ("東京の天気", "東京の地図"), ("", "a")],
)
def test_the_overlap_is_the_share_of_letter_triples_that_both_texts_have(a: str, b: str) -> None:
    sets = [{f" {text} "[at : at + 3] for at in range(len(text))} if text else set() for text in (a, b)]
    union = sets[0] | sets[1]
    expected = len(sets[0] & sets[1]) / len(union) if union else 0.0
    assert compare(read(a), read(b), Rarity()).gram_overlap == pytest.approx(expected)


def test_a_reading_of_a_usual_prompt_takes_less_than_a_kilobyte() -> None:
    one = read("how long does it take until the money that i sent abroad arrives")
    fields = [getattr(one, name) for name in one.__struct_fields__]
    assert sys.getsizeof(one) + sum(sys.getsizeof(field) for field in fields if field) < 1024


def test_the_kept_share_is_the_written_ratio() -> None:
    """Detail words: weather, paris | weather, london. Nothing was seen, so all weigh alike and one of three is kept."""
    pair = compare(read("weather in paris"), read("weather in london"), Rarity())
    assert pair.kept_share == pytest.approx(1 / 3)


def test_rarity_is_the_written_logarithm() -> None:
    rarity = Rarity()
    for text in ("weather tokyo", "weather london", "weather oslo"):
        rarity.add(read(text))
    assert rarity.of("tokyo") == pytest.approx(math.log(4 / 1.5))
    assert rarity.of("bergen") == pytest.approx(math.log(4 / 0.5))
    assert rarity.of("weather") == pytest.approx(math.log(4 / 3.5))


@given(st.text(max_size=60), st.text(max_size=60))
def test_comparing_either_way_round_says_the_same(a: str, b: str) -> None:
    rarity = Rarity()
    one, other = compare(read(a), read(b), rarity), compare(read(b), read(a), rarity)
    assert likeness(one) == pytest.approx(likeness(other))
    assert one.polarity_differs == other.polarity_differs
    assert 0.0 <= one.kept_share <= 1.0


def recall_at(scores: np.ndarray, same: np.ndarray, precision: float) -> float:
    order = np.argsort(-scores, kind="stable")
    right = np.cumsum(same[order])
    ends = np.append(np.diff(scores[order]) != 0, True)
    kept = ends & (right >= precision * np.arange(1, len(same) + 1))
    return float(right[kept].max() / same.sum()) if kept.any() else 0.0


def test_a_third_of_the_same_answers_are_found_at_98_percent_precision(semantic_folder: Path) -> None:
    """Labels are only counted, none is learnt from. The interval is a bootstrap over pairs."""
    with gzip.open(semantic_folder / "hwu64_pairs.csv.gz", "rt", encoding="utf-8", newline="") as file:
        pairs = list(csv.DictReader(file))
    readings = {text: read(text) for pair in pairs for text in (pair["a"], pair["b"])}
    rarity = Rarity()
    for reading in readings.values():
        rarity.add(reading)
    scores = np.array([likeness(compare(readings[pair["a"]], readings[pair["b"]], rarity)) for pair in pairs])
    same = np.array([int(pair["same_answer"]) for pair in pairs])
    draw = np.random.default_rng(1)
    drawn = [draw.integers(0, len(pairs), len(pairs)) for _ in range(60)]
    recalls = [recall_at(scores[rows], same[rows], 0.98) for rows in drawn]
    assert recall_at(scores, same, 0.98) >= 0.33
    assert np.quantile(recalls, 0.05) >= 0.25


def test_the_fit_is_where_the_penalised_slope_vanishes() -> None:
    draw = np.random.default_rng(4)
    rows = np.hstack([np.ones((400, 1)), draw.normal(size=(400, 3))])
    wrong = (draw.random(400) < 1 / (1 + np.exp(-rows @ [0.5, 1.0, -2.0, 0.0]))).astype(float)
    weights, towards = draw.random(400) + 0.5, np.array([0.0, 0.3, 0.0, 0.1])
    found, covariance = fit(rows, wrong, weights, towards, 2.0)
    chance = 1 / (1 + np.exp(-rows @ found))
    slope = rows.T @ (weights * (chance - wrong)) + np.array([1e-6, 2, 2, 2]) * (found - towards)
    np.testing.assert_allclose(slope, 0.0, atol=1e-6)
    step = 1e-4 * np.array([0.0, 1.0, 0.0, 0.0])
    moved = 1 / (1 + np.exp(-rows @ (found + step)))
    bend = rows.T @ (weights * (moved - chance)) + 2.0 * step
    np.testing.assert_allclose(np.linalg.inv(covariance)[:, 1] * 1e-4, bend, rtol=2e-3, atol=1e-7)


def test_the_model_is_silent_before_it_learnt_and_the_same_each_time() -> None:
    def learnt() -> WrongModel:
        draw, model = np.random.default_rng(2), WrongModel()
        for _ in range(150):
            row = draw.normal(size=4)
            model.learn("chat", row, bool(row[0] > 0))
        return model

    assert WrongModel().chance("chat", np.zeros(4)) is None
    one, other = learnt(), learnt()
    likely, unlikely = np.array([3.0, 0, 0, 0]), np.array([-3.0, 0, 0, 0])
    assert one.chance("chat", likely) == other.chance("chat", likely)
    assert one.chance("chat", likely) > 0.9 > 0.1 > one.chance("chat", unlikely)  # type: ignore[operator]
    assert one.chance("new", likely) == pytest.approx(one.chance("chat", likely), abs=0.1)


def test_far_from_every_label_the_model_is_less_sure() -> None:
    draw, model = np.random.default_rng(2), WrongModel()
    for _ in range(300):
        row = draw.normal(size=4) * [1.0, 1.0, 1.0, 0.01]
        model.learn("chat", row, bool(row[0] > draw.normal() * 0.5))
    known, strange = np.array([-2.0, 0, 0, 0]), np.array([-2.0, 0, 0, 3.0])
    assert model.chance("chat", strange) > model.chance("chat", known)  # type: ignore[operator]
