"""Drawn evidence: the class that is asked for, repeats from lengths, intervals."""

from __future__ import annotations

import random

import numpy as np
import pytest

from gridctl.cache.evidence import FEATURES
from gridctl.cache.population import (
    KINDS,
    Population,
    Repeats,
    alias_bin,
    expected_error,
    kinds_of,
    load_population,
    quantised,
)
from gridctl.errors import InputError


def population(aliases: list[int], stored: list[int], wrong: list[bool], rate: float = 0.01) -> Population:
    """Rows whose first feature is their number."""
    features = np.zeros((len(aliases), len(FEATURES)), np.float32)
    features[:, 0] = np.arange(len(aliases))
    return Population(
        features,
        np.array(wrong),
        np.array(wrong),
        np.array(aliases, np.int32),
        np.array(stored, np.int32),
        np.full(len(aliases), rate, np.float32),
    )


def test_evidence_is_drawn_from_the_requests_own_class() -> None:
    """Two rows of one class turn into values about their mean, at most √2 times as far from it as they are."""
    table = population([0, 0, 1, 5, 6], [10, 20, 10, 10, 20], [True, True, False, False, False])
    coin = random.Random(1)
    reach = 0.5 * 2**0.5 + 1e-9
    assert all(abs(table.draw(0, 10, 0.01, coin).features[0] - 0.5) <= reach for _ in range(50))
    assert {table.draw(1, 10, 0.01, coin).features[0] for _ in range(20)} == {2.0}
    assert all(abs(table.draw(7, 10, 0.01, coin).features[0] - 3.5) <= reach for _ in range(50))


def test_drawn_evidence_has_the_mean_and_the_covariance_of_its_class_and_is_never_the_same() -> None:
    draw = np.random.default_rng(8)
    features = draw.normal(size=(30, len(FEATURES))).astype(np.float32)
    features[:, 1] += features[:, 0]
    none = np.zeros(30, np.int32)
    table = Population(features, none == 0, none == 1, none, none, np.full(30, 0.01, np.float32))
    coin = random.Random(2)
    drawn = np.stack([table.draw(0, 0, 0.01, coin).features for _ in range(20_000)])
    assert len(np.unique(drawn[:, 0])) > 18_000
    assert np.allclose(drawn[:, :4].mean(0), features[:, :4].mean(0), atol=0.05)
    expected = np.cov(features[:, :4].T.astype(float), bias=True)
    assert np.allclose(np.cov(drawn[:, :4].T), expected, atol=0.15 * expected.max())


def test_features_survive_their_steps_to_half_a_step() -> None:
    features = np.random.default_rng(3).uniform(-2.0, 5.0, (40, len(FEATURES)))
    columns = quantised(features)
    back = columns["lowest"] + columns["features"].T * columns["step"]
    assert np.abs(back - features).max() <= 7.0 / 31 / 2 + 1e-5


def test_a_class_that_was_never_measured_takes_the_nearest_that_is_stored_alike() -> None:
    table = population([0, 2], [1, 1], [True, False])
    coin = random.Random(1)
    assert table.draw(40, 5, 0.05, coin).features[0] == 1.0
    assert table.draw(1, 5, 0.05, coin).features[0] == 1.0
    assert table.draw(0, 5, 0.05, coin).features[0] == 0.0


def test_rows_come_from_stores_of_about_the_same_size() -> None:
    table = population([0] * 400, list(range(400)), [True] * 400)
    coin = random.Random(1)
    drawn = [table.draw(0, 300, 0.01, coin).features[0] for _ in range(200)]
    assert min(drawn) >= 300 - 15 * 2**0.5
    assert max(drawn) <= 300 + 15 * 2**0.5


def test_the_last_150_rows_stand_for_stores_larger_than_any_that_was_measured() -> None:
    table = population([0] * 400, list(range(400)), [True] * 400)
    coin = random.Random(1)
    drawn = [table.draw(0, 5000, 0.01, coin).features[0] for _ in range(400)]
    middle = (250 + 399) / 2
    assert max(abs(value - middle) for value in drawn) <= 75 * 2**0.5
    assert min(drawn) < 275
    assert max(drawn) > 375


def test_a_table_of_other_features_is_refused() -> None:
    empty = np.zeros(0, np.int32)
    with pytest.raises(InputError, match="measured evidence"):
        Population(np.zeros((3, 2), np.float32), empty > 0, empty > 0, empty, empty, np.zeros(0, np.float32))


@pytest.mark.parametrize("kind", KINDS)
def test_the_shipped_tables_have_wrong_candidates_wherever_no_right_one_is_stored(kind: str) -> None:
    table = load_population(kind, "minilm")  # type: ignore[arg-type]
    coin = random.Random(3)
    assert len(table) > 1000
    assert all(table.draw(0, 200, 0.02, coin).is_wrong for _ in range(200))
    assert not all(table.draw(4, 200, 0.02, coin).is_wrong for _ in range(200))


def test_a_workload_whose_answers_are_nearly_all_asked_for_twice_is_none_of_commands() -> None:
    """`few`: 40 requests for 20 answers, none alone, of 6 tokens; `long`: of 13. `many`: 20 answers asked for once, two
    twelve times, in prompts of 20 tokens and of 6."""
    keys = [*range(20), *range(20), *range(100, 120), *[200] * 12, *[201] * 12, *range(300, 310), *range(300, 310)]
    workloads = ["few"] * 40 + ["many"] * 44 + ["long"] * 20
    kinds = kinds_of(keys, workloads, [6] * 40 + [20] * 32 + [6] * 12 + [13] * 20)
    assert {kinds[key] for key in range(20)} == {"assistant"}
    assert {kinds[key] for key in range(300, 310)} == {"questions"}
    assert {kinds[key] for key in range(100, 120)} == {"commands"}
    assert (kinds[200], kinds[201]) == ("questions", "commands")


def test_bins_of_aliases_double() -> None:
    assert [alias_bin(count) for count in (0, 1, 2, 3, 4, 7, 8, 31, 32, 10_000)] == [0, 1, 2, 2, 3, 3, 4, 5, 6, 6]


def test_repeats_are_found_from_lengths_alone() -> None:
    """40,000 requests for 4,000 keys, a fifth of those whose key came before word for word; lengths of different texts
    are drawn from a bell of width 6."""
    draw = np.random.default_rng(4)
    keys, lengths, told = [], [], 0
    texts: dict[int, list[int]] = {}
    for key in draw.integers(0, 4000, 40_000).tolist():
        own = texts.setdefault(key, [])
        if own and draw.random() < 0.2:
            length = own[int(draw.integers(len(own)))]
            told += 1
        else:
            length = max(1, round(float(draw.normal(40, 6))))
        own.append(length)
        keys.append(key)
        lengths.append(length)
    repeats = Repeats(np.array(keys), np.array(lengths))
    seen: dict[tuple[int, int], int] = {}
    expected = 0.0
    for pair in zip(keys, lengths, strict=True):
        expected += repeats.chance(seen.get(pair, 0))
        seen[pair] = seen.get(pair, 0) + 1
    assert expected == pytest.approx(told, rel=0.1)


def test_without_repeats_none_are_found() -> None:
    repeats = Repeats(np.arange(1000), np.full(1000, 12))
    assert repeats.share == 0.0
    assert repeats.chance(5) == 0.0


def test_the_interval_is_wilsons() -> None:
    """5 of 100: (0.0215, 0.1118), from the literature's example (Agresti and Coull 1998 form)."""
    low, high = expected_error(5, 100)
    assert (round(low, 4), round(high, 4)) == (0.0215, 0.1118)
    assert expected_error(0, 0) == (0.0, 1.0)
