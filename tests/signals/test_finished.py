"""Times of a finished request, which objectives it missed, and whether it was good: by hand."""

from __future__ import annotations

import pytest

from gridctl.signals.finished import METRICS, OUTCOMES, Finished, e2e_ns, missed, tpot_ns, ttft_ns, verdict

MS = 1_000_000


def streamed(**fields: object) -> Finished:
    """Arrives at 1 s, first token after 40 ms, ten more 10 ms apart, ends 5 ms later."""
    request = Finished(
        outcome="completed",
        status=200,
        stream=True,
        arrival_ns=1000 * MS,
        first_token_ns=1040 * MS,
        last_token_ns=1140 * MS,
        end_ns=1145 * MS,
        output_tokens=11,
    )
    for name, value in fields.items():
        setattr(request, name, value)
    return request


def test_times_of_a_stream() -> None:
    request = streamed()
    assert (ttft_ns(request), tpot_ns(request), e2e_ns(request)) == (40 * MS, 10 * MS, 145 * MS)


def test_one_token_has_no_time_per_token() -> None:
    assert tpot_ns(streamed(output_tokens=1)) is None
    assert tpot_ns(streamed(output_tokens=0)) is None
    assert tpot_ns(streamed(output_tokens=2)) == 100 * MS


def test_an_answer_in_one_piece_has_no_first_token() -> None:
    request = streamed(stream=False, first_token_ns=-1, last_token_ns=-1)
    assert (ttft_ns(request), tpot_ns(request), e2e_ns(request)) == (None, None, 145 * MS)
    assert missed(request, (("ttft_ms", 1), ("tpot_ms", 1))) == ()


def test_a_clock_that_goes_backwards_makes_no_negative_time() -> None:
    request = streamed(arrival_ns=2000 * MS)
    assert (ttft_ns(request), e2e_ns(request)) == (0, 0)
    assert tpot_ns(streamed(last_token_ns=1030 * MS)) is None


def test_an_objective_is_met_up_to_and_including_its_threshold() -> None:
    limits = [("ttft_ms", 40 * MS), ("tpot_ms", 10 * MS), ("e2e_ms", 145 * MS)]
    assert missed(streamed(), limits) == ()
    assert missed(streamed(), [(metric, most - 1) for metric, most in limits]) == METRICS


def test_of_two_thresholds_on_one_metric_each_counts_and_it_is_named_once() -> None:
    assert missed(streamed(), (("ttft_ms", 10 * MS), ("ttft_ms", 30 * MS), ("e2e_ms", 1000 * MS))) == ("ttft_ms",)


def test_what_the_client_waits_unseen_counts_in_ttft_and_end_to_end_not_per_token() -> None:
    limits = (("ttft_ms", 40 * MS), ("tpot_ms", 10 * MS), ("e2e_ms", 145 * MS))
    assert missed(streamed(), limits, unseen_ns=1) == ("ttft_ms", "e2e_ms")


def test_a_client_that_left_before_the_first_token_had_missed_what_was_over_by_then() -> None:
    gone = streamed(outcome="cancelled", first_token_ns=-1, last_token_ns=-1, output_tokens=0, end_ns=1300 * MS)
    assert missed(gone, (("ttft_ms", 200 * MS), ("e2e_ms", 4000 * MS)), is_whole=False) == ("ttft_ms",)
    assert missed(gone, (("ttft_ms", 400 * MS), ("e2e_ms", 4000 * MS)), is_whole=False) == ()


@pytest.mark.parametrize(
    ("outcome", "status", "misses", "expected"),
    [
        ("completed", 200, (), "good"),
        ("completed", 200, ("tpot_ms",), "bad"),
        ("completed", 400, (), "excluded"),
        ("completed", 404, (), "excluded"),
        ("completed", 408, (), "bad"),
        ("completed", 429, (), "bad"),
        ("completed", 500, (), "bad"),
        ("refused", 400, (), "excluded"),
        ("refused", 401, (), "excluded"),
        ("refused", 413, (), "excluded"),
        ("rejected", 429, (), "bad"),
        ("rejected", 503, (), "bad"),
        ("failed", 502, (), "bad"),
        ("failed", 200, (), "bad"),
        ("cancelled", 499, (), "excluded"),
        ("cancelled", 499, ("ttft_ms",), "bad"),
        ("expired", 504, (), "bad"),
    ],
)
def test_verdicts(outcome: str, status: int, misses: tuple[str, ...], expected: str) -> None:
    assert outcome in OUTCOMES
    assert verdict(outcome, status, misses) == expected


def test_an_outcome_nobody_knows_is_bad() -> None:
    assert verdict("surprise", 200, ()) == "bad"
