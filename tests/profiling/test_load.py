"""The load plan: what a repetition holds, and its limits."""

from __future__ import annotations

import pytest

from gridctl.errors import UsageError
from gridctl.profiling.load import LoadPlan, Round

SMALL = LoadPlan(prompt_tokens=(16, 64, 256), concurrency=(1, 4), context_tokens=(64,), output_tokens=17)


def test_a_repetition_holds_lone_prompts_then_batches_then_what_lies_between() -> None:
    assert SMALL.repetition() == (
        Round(16, 1, 9, False),
        Round(64, 1, 9, False),
        Round(256, 1, 9, False),
        Round(64, 1, 17, False),
        Round(64, 4, 17, False),
        Round(128, 1, 9, True),  # the geometric mean of 64 and 256
        Round(64, 2, 17, True),  # between batches of 1 and 4
    )


def test_repetitions_follow_until_the_requests_are_used_up() -> None:
    # a repetition takes 3 + 1 + 4 + 1 + 2 = 11 requests; 27 hold two, and five of the third
    plan = LoadPlan((16, 64, 256), (1, 4), (64,), 17, max_requests=27)
    rounds = list(plan.rounds())
    assert rounds == [*SMALL.repetition(), *SMALL.repetition(), *SMALL.repetition()[:4]]
    assert sum(one.streams for one in rounds) <= 27


def test_no_load_asks_for_more_tokens_than_allowed() -> None:
    rounds = list(LoadPlan(max_tokens=100_000).rounds())
    assert 50_000 < sum(one.tokens for one in rounds) <= 100_000


def test_what_a_load_may_come_to_is_known_before() -> None:
    # lone 8 + 9, 32 + 9, 64 + 9 tokens, batches of one and two at 16 + 9, one held out at 45 + 9, one of two at 16 + 9
    plan = LoadPlan((8, 32, 64), (1, 2), (16,), 9, max_requests=9)
    assert plan.most() == (9, 17 + 41 + 73 + 25 + 50 + 54 + 50)


def test_the_load_asked_for_by_default_fits_its_limits_twice() -> None:
    plan = LoadPlan()
    once = plan.repetition()
    assert 2 * sum(one.streams for one in once) <= plan.max_requests
    assert 2 * sum(one.tokens for one in once) <= plan.max_tokens


@pytest.mark.parametrize(
    "wrong",
    [
        {"concurrency": ()},
        {"concurrency": (0, 4)},
        {"concurrency": (1_000_000,)},
        {"prompt_tokens": (16, 64)},
        {"prompt_tokens": (-1, 64, 128)},
        {"output_tokens": 1},
        {"duration_s": 0.0},
        {"duration_s": float("nan")},
        {"duration_s": 1e9},
        {"max_requests": 3},
    ],
)
def test_a_load_that_cannot_be_measured_by_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError) as caught:
        LoadPlan(**wrong)  # type: ignore[arg-type]
    assert caught.value.fix
