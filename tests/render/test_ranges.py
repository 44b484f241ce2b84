"""Ranges as text: how they read, and what is said of verdicts that differ."""

from __future__ import annotations

import pytest

from gridctl.accounts.intervals import Ensemble, PromiseRanges, Range
from gridctl.accounts.summary import Summary
from gridctl.render.ranges import ensemble_line, flips_text, number_text, range_items, range_title, verdict_text


def ensemble(draws: int, asked: int | None = None) -> Ensemble:
    empty: dict[str, object] = {"total": None, "tokenomics": {}, "sla_total": None, "sla": {}}
    made = tuple(
        Summary(draw=n, seed=n + 1, digest="", window_s=1.0, **empty)  # type: ignore[arg-type]
        for n in range(1, draws + 1)
    )
    return Ensemble(asked=asked or draws + 1, drawn=("jitter", "profile"), draws=made)


def promise(**statuses: int) -> PromiseRanges:
    return PromiseRanges(
        workload="voice",
        tenant="*",
        region="*",
        objective="ttft_ms ≤ 500",
        ranges={},
        statuses=statuses,  # type: ignore[arg-type]
        flips=len(statuses) > 1,
    )


@pytest.mark.parametrize(
    ("metric", "low", "high", "text"),
    [
        ("usd_per_mtok", 0.28, 0.3155, "0.28…0.3155"),
        ("attainment", 0.953, 0.9931, "95.3%…99.31%"),
        ("ttft_p99_ms", 581.2, 3751.0, "581…3,751"),
        ("requests", 7, 7, "7"),
        ("observed_ms", 12.0, None, "12.0…unserved"),
    ],
)
def test_a_range_reads_as_its_number_does(metric: str, low: float, high: float | None, text: str) -> None:
    assert number_text(metric, {metric: Range(low=low, high=high, draws=9)}) == text


def test_what_has_no_range_is_absent() -> None:
    assert number_text("usd", {}) == "-"


def test_a_title_promises_no_more_than_the_draws_do() -> None:
    assert [range_title(ensemble(draws)) for draws in (1, 2, 3, 7, 19, 99)] == [
        "draws",
        "draws",
        "50% range",
        "75% range",
        "90% range",
        "90% range",
    ]


def test_the_sentence_says_how_many_of_what_and_how_likely() -> None:
    assert ensemble_line(ensemble(7)) == (
        "8 replays: ranges are of 7 draws of jitter, profile, smallest to largest; "
        "another draw falls within with a probability of 75%\n"
    )
    assert "without the 4 lowest and highest" in ensemble_line(ensemble(99))
    assert "; 12 of the 20 asked for are missing: replay run --resume\n" in ensemble_line(ensemble(7, asked=20))


def test_verdicts_that_differ_are_said_in_words() -> None:
    told = flips_text([promise(met=17, missed=3), promise(met=20)], ensemble(19))
    assert told == "1 of 2 verdicts depend on the draw:\n  voice ttft_ms ≤ 500: met in 17, missed in 3 of 20 replays\n"
    assert flips_text([promise(met=20)], ensemble(19)) == "all 1 verdicts are the same in all 20 replays\n"
    assert flips_text([], ensemble(19)) == ""
    assert (verdict_text(promise(met=20)), verdict_text(promise(met=17, missed=3))) == ("all", "met 17, missed 3")


def test_items_get_texts_for_some_and_bounds_for_all_numbers() -> None:
    (item,) = range_items([{"usd": 1.0}], [{"usd": Range(low=0.5, high=2.0, draws=9)}], ("usd",))
    assert item == {"usd": 1.0, "usd_range": "0.50…2.00", "usd_draws_low": 0.5, "usd_draws_high": 2.0}
