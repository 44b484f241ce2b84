"""Words left over between two prompts: weights by hand, and that they are learnt from the prompts of a group."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from gridctl.cache.groups import AnswerGroups
from gridctl.cache.guards import read
from gridctl.cache.leftovers import LeftoverRecord


def test_a_word_weighs_by_how_often_it_was_left_over_in_either_kind_of_pair() -> None:
    """3 pairs of one answer, all with "please" left over; 1 of two answers, with "kitchen" and "bedroom". Shares of the
    kinds: (1 + 1)/6 different, (3 + 1)/6 the same, so ln(share/share) = ln(1/2)."""
    record = LeftoverRecord()
    for _ in range(3):
        record.learn(read("lamp on"), read("lamp on please"), is_same=True)
    record.learn(read("lamp kitchen"), read("lamp bedroom"), is_same=False)
    please = math.log((0 + 1 / 3) / (3 + 2 / 3)) - math.log(1 / 2)
    kitchen = math.log((1 + 1 / 3) / (0 + 2 / 3)) - math.log(1 / 2)
    found = record.measure(read("lamp please"), read("lamp"))
    assert found.weight == pytest.approx(please)
    assert found.heaviest == 0.0
    both = record.measure(read("lamp kitchen"), read("lamp please"))
    assert both.weight == pytest.approx(please + kitchen)
    assert both.heaviest == pytest.approx(kitchen)


def test_a_word_never_seen_weighs_nothing_and_is_counted() -> None:
    record = LeftoverRecord()
    record.learn(read("a lamp"), read("a lamp please"), is_same=True)
    assert record.measure(read("zebra"), read("giraffe")) == (pytest.approx(0.0), pytest.approx(0.0), 2)


def test_groups_teach_from_their_own_prompts_and_from_others(rows: NDArray[np.float32]) -> None:
    groups = AnswerGroups(rows.shape[1])
    first, _ = groups.found("lamp on", rows[0])
    groups.alias(first, "lamp on please", rows[1])
    groups.found("radio on", rows[2])
    please = groups.leftovers.measure(read("x please"), read("x"))
    radio = groups.leftovers.measure(read("x radio"), read("x"))
    assert please.weight < 0.0 < radio.weight
