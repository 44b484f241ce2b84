"""A request's life adds up to the run's columns, and words point at the requests they say."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gridctl.accounts.pointing import find_request
from gridctl.accounts.rows import Run
from gridctl.accounts.timeline import timeline
from gridctl.errors import NotFoundError, UsageError


@pytest.fixture
def run(make_run: Callable[..., Run], make_workload: Callable, make_engine: Callable) -> Run:
    """A workload of 500 ms to the first token, 30 ms a token, with 40 ms at the client:

    0 is good: 20 + 40 + 10 + 100 = 170 ms to the first token, 90 ms for 9 more, 10 ms each;
    1 is late for its queue: 20 + 40 + 600 + 100 = 760 ms, 1.52 times its limit;
    2 was preempted while decoding: 900 ms for 9 tokens, 100 ms each, 3.33 times its limit;
    3 was refused; 4 has one token, so no TPOT, and takes 80 ms of network."""
    served = {"input_tokens": 50, "output_tokens": 10, "rtt_ms": 20, "compute_ms": 100, "decode_ms": 90}
    return make_run(
        [
            {**served, "queue_ms": 10},
            {**served, "queue_ms": 600, "arrival_ms": 5},
            {**served, "queue_ms": 10, "decode_ms": 900, "preemptions": 1},
            {"outcome": "rejected", "reason": "infeasible", "engine": -1, "output_tokens": 10},
            {**served, "output_tokens": 1, "decode_ms": 0, "rtt_ms": 80},
        ],
        engines=(make_engine(),),
        workloads={"chat": make_workload(("ttft_ms", 500.0), ("tpot_ms", 30.0), overhead_ms=40.0)},
    )


def test_the_steps_of_a_request_add_up_to_what_its_client_saw(run: Run) -> None:
    line = timeline(run, 0)
    assert [(one.step, one.begin_ms, one.took_ms) for one in line.steps] == [
        ("to the engine", 0.0, 10.0),
        ("queue", 10.0, 10.0),
        ("prefill", 20.0, 100.0),
        ("to the client", 120.0, 50.0),
        ("decode", 170.0, 90.0),
    ]
    assert (line.ttft_ms, line.tpot_ms, line.e2e_ms) == (170.0, 10.0, 260.0)
    assert (line.good, line.cause, [one.met for one in line.objectives]) == (True, "", [True, True])
    for number in (0, 1, 2, 4):
        line = timeline(run, number)
        assert sum(one.took_ms for one in line.steps) == line.e2e_ms
        assert sum(one.took_ms for one in line.steps[:4]) == line.ttft_ms


def test_a_missed_objective_has_its_cause(run: Run) -> None:
    queued, preempted = timeline(run, 1), timeline(run, 2)
    assert [(one.metric, one.actual_ms, one.met, one.cause) for one in queued.objectives] == [
        ("ttft_ms", 760.0, False, "queue"),
        ("tpot_ms", 10.0, True, ""),
    ]
    assert [(one.met, one.cause) for one in preempted.objectives] == [(True, ""), (False, "preemption")]
    assert (queued.cause, preempted.cause, queued.sent_ms) == ("queue", "preemption", 5.0)


def test_a_request_that_was_refused_has_no_times_and_one_token_has_no_tpot(run: Run) -> None:
    refused, single = timeline(run, 3), timeline(run, 4)
    assert (refused.outcome, refused.reason, refused.steps, refused.site) == ("rejected", "infeasible", (), "")
    assert (refused.ttft_ms, refused.e2e_ms, refused.output_tokens) == (None, None, 0)
    assert [(one.met, one.cause) for one in refused.objectives] == [(False, "rejected"), (False, "rejected")]
    assert (single.tpot_ms, single.objectives[1].met, single.good) == (None, None, True)


@pytest.mark.parametrize(
    ("word", "number"),
    [
        ("0", 0),
        ("004", 4),
        ("worst", 3),
        ("worst-ttft", 1),
        ("worst-tpot", 2),
        ("worst-e2e", 2),
        ("worst-network", 4),
        ("missed", 1),
        ("missed:2", 2),
        ("missed:3", 3),
        ("rejected:1", 3),
        ("preempted:1", 2),
    ],
)
def test_a_word_points_at_its_request(run: Run, word: str, number: int) -> None:
    assert find_request(run, word) == number


def test_the_worst_of_those_served_is_the_furthest_over_its_limit(run: Run) -> None:
    assert find_request(run.part(slice(0, 3)), "worst") == 2


@pytest.mark.parametrize("word", ["5", "9" * 40, "missed:4", "failed:1", "preempted:2"])
def test_what_is_not_there_is_not_found(run: Run, word: str) -> None:
    with pytest.raises(NotFoundError):
        find_request(run, word)


@pytest.mark.parametrize(
    "word", ["", "-1", "1.5", "wurst", "worst-speed", "missed:0", "missed:x", "missed:-1", "²", "٣"]
)
def test_what_is_no_word_is_refused(run: Run, word: str) -> None:
    with pytest.raises(UsageError) as refused:
        find_request(run, word)
    assert refused.value.fix
