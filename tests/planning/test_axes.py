"""Break-evens from verdicts: brackets, bisection, and what several replays come to. No replay here."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gridctl.accounts.plans import Verdict
from gridctl.planning.axes import Crossing, agreed, crossing, pooled, verdict_of
from gridctl.planning.trial import Priced

RTTS = (5.0, 10.0, 20.0, 40.0, 80.0, 160.0)


def priced(usd: float | None) -> Priced:
    return Priced(1, 1, usd, usd, 1.0)


def above(limit: float) -> Callable[[float], Verdict]:
    return lambda value: "edge" if value > limit else "core"


@pytest.mark.parametrize(
    ("edge", "core", "verdict"),
    [
        (1.0, 2.0, "edge"),
        (2.0, 1.0, "core"),
        (1.0, 1.005, "same"),
        (0.985, 1.0, "edge"),
        (None, 1.0, "core"),
        (1.0, None, "edge"),
        (None, None, "neither"),
    ],
)
def test_the_cheaper_by_more_than_the_margin_wins_and_who_misses_has_no_price(
    edge: float | None, core: float | None, verdict: Verdict
) -> None:
    assert verdict_of(priced(edge), priced(core)) == verdict


def test_a_break_even_is_bisected_to_two_percent() -> None:
    found = crossing("rtt", RTTS, above(57.0))
    assert found.verdict == "from"
    assert found.value == pytest.approx(57.0, rel=0.0225)
    assert found.value is not None
    assert found.value > 57.0  # the first value seen at which the edge pays


def test_on_a_falling_axis_the_edge_pays_until() -> None:
    found = crossing("skew", (0.25, 0.4, 0.55, 0.7, 0.85), lambda value: "edge" if value < 0.5 else "core")
    assert found.verdict == "until"
    assert found.value == pytest.approx(0.5, abs=0.15 / 32)


def test_an_edge_that_never_or_always_pays_has_no_break_even() -> None:
    assert crossing("rtt", RTTS, above(500.0)) == Crossing("never")
    assert crossing("rtt", RTTS, above(1.0)) == Crossing("always")
    assert crossing("rtt", RTTS, lambda value: "neither") == Crossing("neither")


def test_paying_only_in_the_middle_is_never_for_good() -> None:
    assert crossing("rtt", RTTS, lambda value: "edge" if 15 < value < 100 else "core") == Crossing("never")


def test_a_budget_so_tight_that_nobody_keeps_it_does_not_hide_the_break_even() -> None:
    def judge(value: float) -> Verdict:
        return "neither" if value < 350 else "edge" if value < 450 else "core"

    found = crossing("budget", (300.0, 400.0, 500.0, 1000.0), judge)
    assert found.verdict == "until"
    assert found.value == pytest.approx(450.0, rel=0.02)


def test_replays_that_differ_leave_it_undecided() -> None:
    found = pooled("rtt", RTTS, [Crossing("from", 60.0), Crossing("never"), Crossing("from", 70.0)])
    assert (found.verdict, found.value, found.paying, found.replays) == ("undecided", None, 2, 3)


def test_replays_that_agree_give_median_and_range() -> None:
    found = pooled("rtt", RTTS, [Crossing("from", 60.0), Crossing("from", 75.0), Crossing("from", 70.0)])
    assert (found.verdict, found.value, found.low, found.high) == ("from", 70.0, 60.0, 75.0)


def test_a_replay_in_which_it_always_pays_counts_as_the_axis_s_begin() -> None:
    found = pooled("rtt", RTTS, [Crossing("from", 60.0), Crossing("always"), Crossing("from", 70.0)])
    assert (found.verdict, found.value, found.low) == ("from", 60.0, 5.0)
    assert pooled("rtt", RTTS, [Crossing("always")] * 3).verdict == "always"


def test_a_point_is_decided_when_all_replays_agree() -> None:
    assert agreed(["core"] * 6) == "core"
    assert agreed(["core"] * 5 + ["same"]) == "undecided"
