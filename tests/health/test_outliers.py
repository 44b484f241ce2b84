"""Engines among their peers: what the comparison must see, what mean − 1.9·σ would not, and how many may go."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridctl.health.outliers import Sample, outliers, suspects


def grid(*failed: int, requests: int = 1000, variant: str = "m/bf16", region: str = "FR") -> list[Sample]:
    """Engines of one variant in one region, each with so many failures."""
    return [Sample(row, f"e{row}", "m", variant, region, requests, count) for row, count in enumerate(failed)]


def rows(samples: list[Sample], ejected: tuple[int, ...] = ()) -> list[int]:
    return [one.row for one in outliers(samples, ejected) if not one.is_held_back]


def test_one_bad_engine_of_four_is_found_where_a_mean_less_1_9_deviations_is_blind() -> None:
    samples = grid(3, 2, 300, 4)
    rates = [1 - one.failed_share for one in samples]
    assert min(rates) > statistics.mean(rates) - 1.9 * statistics.pstdev(rates)  # √3 < 1.9
    assert rows(samples) == [2]


def test_even_a_third_that_fails_alike_is_found_though_only_as_many_are_ejected_as_may_be() -> None:
    found = outliers(grid(*[250] * 4, *[5] * 8))
    assert [one.row for one in found] == [0, 1, 2, 3]
    assert [one.is_held_back for one in found] == [False, True, True, True]  # a tenth of 12 is one


def test_a_tenth_of_the_peers_may_be_out_and_those_that_are_already_count() -> None:
    samples = grid(*[250] * 4, *[5] * 36)  # of 40: four
    assert rows(samples) == [0, 1, 2, 3]
    assert rows(samples, ejected=(20, 21)) == [0, 1]
    assert rows(samples, ejected=(20, 21, 22, 23)) == []


def test_half_failing_is_out_whatever_the_peers_do_and_however_many() -> None:
    found = outliers(grid(600, 700, 500, requests=1000))
    assert [one.row for one in found] == [1, 0, 2]
    assert found[0].cause == "700 of 1000 requests failed"


def test_few_requests_prove_nothing() -> None:
    assert outliers(grid(49, requests=49)) == ()
    assert rows(grid(25, requests=50)) == [0]
    assert outliers(grid(0, 0, 0, 30, requests=99)) == ()  # too few to compare by
    assert rows(grid(0, 0, 0, 30, requests=100)) == [3]


def test_engines_are_compared_with_those_of_their_own_variant_only() -> None:
    slow = [Sample(10 + row, "", "m", "m/w4a16", "FR", 1000, 300) for row in range(4)]
    assert outliers([*grid(0, 0, 0, 0), *slow]) == ()


def test_a_version_that_fails_everywhere_alike_is_a_suspect_and_nobody_is_ejected_for_it() -> None:
    good = [Sample(row, "", "m", "m/v1", "FR" if row % 2 else "DE", 1000, 10) for row in range(8)]
    bad = [Sample(10 + row, "", "m", "m/v2", "FR" if row % 2 else "DE", 1000, 200) for row in range(4)]
    assert outliers([*good, *bad]) == ()
    (found,) = suspects([*good, *bad])
    assert (found.kind, found.name, found.engines) == ("model version", "m/v2", 4)
    assert (found.failed_share, found.others_failed_share) == (pytest.approx(0.2), pytest.approx(0.01))
    assert found.cause == "model version m/v2 fails 20.0% of its requests, the rest of m 1.0%"


def test_a_region_that_fails_is_a_suspect() -> None:
    samples = [Sample(row, "", "m", "m/v1", "FR" if row < 3 else "DE", 1000, 100 if row < 3 else 5) for row in range(9)]
    assert [(one.kind, one.name) for one in suspects(samples)] == [("region", "FR")]


def test_a_difference_that_chance_makes_is_no_suspect() -> None:
    # 5.5 % against 5 %: (0.005)/√(0.0525·0.9475·(2/2000)) = 0.7 standard errors.
    one = Sample(0, "", "m", "m/v1", "FR", 2000, 110)
    other = Sample(1, "", "m", "m/v2", "FR", 2000, 100)
    assert suspects([one, other]) == ()


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=1, max_size=40), st.data())
def test_never_more_than_the_cap_goes_by_comparison_and_never_one_twice(
    counts: list[tuple[int, int]], data: st.DataObject
) -> None:
    samples = [Sample(row, "", "m", "m/v", "FR", good + bad, bad) for row, (good, bad) in enumerate(counts)]
    out = data.draw(st.sets(st.integers(0, len(samples) - 1)))
    found = [one for one in outliers(samples, out) if not one.is_held_back]
    gone = [one.row for one in found]
    assert len(set(gone)) == len(gone)
    assert not set(gone) & out
    absolute = {one.row for one in samples if one.requests >= 50 and one.failed >= 0.5 * one.requests}
    compared = [row for row in gone if row not in absolute]
    assert len(compared) <= max(1, len(samples) // 10)
    assert absolute - out <= set(gone)
