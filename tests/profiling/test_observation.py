"""Step times from arrivals, on timelines worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from gridctl.profiling.load import Round
from gridctl.profiling.observation import (
    MeasuredRound,
    Observations,
    RequestTiming,
    decode_rows,
    is_burst,
    prefill_rows,
)


def stream(
    sent_s: float, first_s: float, gap_s: float, tokens: int, prompt: int = 100, cached: int = 0
) -> RequestTiming:
    return RequestTiming(sent_s, first_s + gap_s * np.arange(tokens), prompt, cached, tokens)


def observed(*requests: RequestTiming, round_trip_s: float = 0.0) -> Observations:
    plan = Round(100, len(requests), 17, False)
    return Observations("http://x/v1", "m", round_trip_s, (MeasuredRound(plan, requests),))


def test_a_lone_prefill_is_its_first_token_less_the_round_trip_and_less_what_was_cached() -> None:
    (row,) = prefill_rows(observed(stream(1.0, 1.25, 0.01, 9, prompt=100, cached=16), round_trip_s=0.05))
    assert row.seconds == pytest.approx(0.2)
    assert (row.tokens, row.cached) == (84, 16)


def test_a_first_token_quicker_than_the_network_is_no_prefill() -> None:
    assert prefill_rows(observed(stream(1.0, 1.01, 0.01, 9), round_trip_s=0.05)) == []


def test_two_streams_in_step_are_a_batch_of_two_that_reads_both_contexts() -> None:
    (row,) = decode_rows(observed(stream(0.0, 1.0, 0.01, 9), stream(0.0, 1.0, 0.01, 9, prompt=300)))
    assert row.sequences == 2
    assert row.seconds == pytest.approx(0.01)
    # halfway through gap g each has made g tokens, g = 1..8: 100 + 300 + 2 · 4.5
    assert row.kv_tokens == pytest.approx(409.0)


def test_while_another_request_waits_for_its_first_token_nothing_is_timed() -> None:
    early, late = stream(0.0, 1.0, 0.1, 27), stream(0.0, 1.9, 0.1, 9)
    rows = decode_rows(observed(early, late))
    # until 1.9 the late one's prefill may share the steps; then both decode, 1.9 to 2.7; then the early one alone
    assert [(row.sequences, round(row.seconds, 6)) for row in rows] == [(1, 0.1), (2, 0.1)]
    assert rows[0].kv_tokens > 100 + 17


def test_tokens_that_come_in_pairs_are_counted_by_the_usage() -> None:
    arrivals = 1.0 + 0.02 * np.arange(17)
    paired = RequestTiming(0.0, arrivals, 100, 0, output_tokens=33)
    (row,) = decode_rows(observed(paired))
    assert row.seconds == pytest.approx(0.01)
    assert row.kv_tokens > 110


def test_a_missing_chunk_at_the_end_is_not_taken_for_pairs() -> None:
    assert RequestTiming(0.0, 1.0 + 0.01 * np.arange(16), 100, 0, output_tokens=17).tokens_per_chunk == 1.0


def test_one_hiccup_in_a_round_does_not_count() -> None:
    arrivals = 1.0 + 0.01 * np.arange(33)
    arrivals[20:] += 3.0
    (row,) = decode_rows(observed(RequestTiming(0.0, arrivals, 100, 0, 33)))
    assert row.seconds == pytest.approx(0.01)


def test_an_answer_that_comes_all_at_once_times_nothing() -> None:
    burst = stream(0.0, 1.0, 1e-5, 33)
    assert is_burst(burst)
    assert decode_rows(observed(burst)) == []
    assert not is_burst(stream(0.0, 1.0, 0.01, 33))


def test_an_answer_of_one_token_times_a_prefill_only() -> None:
    one = stream(0.0, 1.0, 0.01, 1)
    assert decode_rows(observed(one)) == []
    assert len(prefill_rows(observed(one))) == 1
