"""The index against comparing everything by hand, through adding, replacing, removing, and the graph."""

from __future__ import annotations

import random

import numpy as np
import pytest
from numpy.typing import NDArray

from gridctl.cache.index import Index
from gridctl.errors import InputError

ROUNDED = np.sqrt(24) / 65_534
"""Most a cosine of 24 numbers is off beside a graph: each fraction by half of 1/32,767, |a · b| ≤ |a| · |b|."""


def test_the_nearest_are_those_of_a_plain_comparison_through_any_edits(rows: NDArray[np.float32]) -> None:
    index, kept, draw = Index(24), {}, random.Random(2)
    for step in range(600):
        entry = draw.randrange(200)
        if draw.random() < 0.3:
            assert index.remove(entry) == (kept.pop(entry, None) is not None)
        else:
            kept[entry] = rows[draw.randrange(300)]
            index.add(entry, kept[entry])
        if step % 10 == 0 and kept:
            asked = rows[draw.randrange(300)]
            entries, cosines = index.nearest(asked, 5)
            by_hand = sorted(((-float(np.clip(row @ asked, -1, 1)), entry) for entry, row in kept.items()))[:5]
            assert len(index) == len(kept)
            np.testing.assert_allclose(cosines, [-cosine for cosine, _ in by_hand], atol=1e-6)
            assert set(entries.tolist()) <= set(kept)
            np.testing.assert_allclose([kept[one] @ asked for one in entries.tolist()], cosines, atol=1e-6)


def test_the_graph_finds_what_the_comparison_finds_with_cosines_of_the_rows(rows: NDArray[np.float32]) -> None:
    pytest.importorskip("usearch")
    drawn = np.random.default_rng(1).normal(size=(1500, 24))
    drawn = (drawn / np.linalg.norm(drawn, axis=1)[:, None]).astype(np.float32)
    plain, graph = Index(24, None), Index(24, 1000)
    plain.add_many(range(1500), drawn)
    graph.add_many(range(1400), drawn[:1400])
    for entry in range(1400, 1500):
        graph.add(entry, drawn[entry])
    for entry in range(0, 300, 2):
        assert graph.remove(entry)
        plain.remove(entry)
    assert graph.has_graph
    assert not plain.has_graph
    same = 0
    for row in rows[:200]:
        entries, cosines = plain.nearest(row, 3)
        proposed, exact = graph.nearest(row, 3)
        same += entries[0] == proposed[0]
        assert not set(proposed.tolist()) & set(range(0, 300, 2))
        if entries.tolist() == proposed.tolist():
            np.testing.assert_allclose(exact, cosines, rtol=0, atol=ROUNDED)
    assert same >= 190
    np.testing.assert_allclose(graph.vector(1), drawn[1], rtol=0, atol=0.51 / 32_767)
    assert 1 in graph
    assert 0 not in graph
    with pytest.raises(KeyError):
        graph.vector(0)


def test_a_graph_that_grows_a_few_rows_at_a_time_loses_and_invents_nothing(rows: NDArray[np.float32]) -> None:
    """Adding, replacing and removing while rows go over, and after; beside it a plain dictionary."""
    pytest.importorskip("usearch")
    index, kept, draw, was_growing = Index(24, 150), dict[int, NDArray[np.float32]](), random.Random(9), 0
    for step in range(700):
        entry = draw.randrange(400)
        if draw.random() < 0.2:
            assert index.remove(entry) == (kept.pop(entry, None) is not None)
        else:
            kept[entry] = rows[draw.randrange(300)]
            index.add(entry, kept[entry])
        assert len(index) == len(kept)
        was_growing += len(kept) > 150 and not index.has_graph
        if step % 20 == 0 and kept:
            asked = rows[draw.randrange(300)]
            entries, cosines = index.nearest(asked, 5)
            assert set(entries.tolist()) <= set(kept)
            by_hand = [min(1.0, float(kept[one] @ asked)) for one in entries.tolist()]
            np.testing.assert_allclose(by_hand, cosines, rtol=0, atol=ROUNDED)
            assert cosines[0] == pytest.approx(min(1.0, max(float(row @ asked) for row in kept.values())), abs=ROUNDED)
    assert index.has_graph
    assert was_growing > 10
    for entry in list(kept):
        np.testing.assert_allclose(index.vector(entry), kept.pop(entry), rtol=0, atol=0.51 / 32_767)
        assert index.remove(entry)
    assert not len(index)
    assert index.nearest(rows[0], 3)[0].tolist() == []
    index.add(5, rows[1])
    assert index.nearest(rows[1], 3)[0].tolist() == [5]


@pytest.mark.parametrize("bad", [[1.0], [np.nan] * 24, [0.0] * 24, [np.inf] * 24, np.ones((2, 2, 2))])
def test_what_is_no_vector_is_refused_when_added_and_when_asked(rows: NDArray[np.float32], bad: object) -> None:
    index = Index(24)
    index.add(1, rows[0])
    for does in (lambda: index.add(2, bad), lambda: index.nearest(bad, 1)):
        with pytest.raises(InputError):
            does()
    assert len(index) == 1


def test_vectors_of_any_length_are_stored_as_units() -> None:
    index = Index(2)
    index.add(7, [30.0, 40.0])
    np.testing.assert_allclose(index.vector(7), [0.6, 0.8], atol=1e-7)


def test_adding_many_wants_one_new_number_each(rows: NDArray[np.float32]) -> None:
    index = Index(24)
    for entries in ([1, 1], [1]):
        with pytest.raises(InputError, match="one new number"):
            index.add_many(entries, rows[:2])
    assert index.nearest(rows[0], 3)[0].tolist() == []


def test_a_vector_a_little_longer_than_one_is_the_same_beside_a_graph() -> None:
    """What is within a thousandth of a unit is taken as one; as a fraction of 16 bits it must not turn negative."""
    pytest.importorskip("usearch")
    index = Index(8, 10)
    index.add_many(range(20), np.random.default_rng(1).normal(size=(20, 8)))
    long = np.zeros(8, np.float32)
    long[3] = 1.0004
    index.add(99, long)
    assert index.has_graph
    entries, cosines = index.nearest(long, 1)
    assert entries.tolist() == [99]
    assert cosines[0] == pytest.approx(1.0, abs=1e-3)
