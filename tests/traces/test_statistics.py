"""Figures worked out by hand on small traces, and the published ones of the real files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridctl.traces.reader import read_trace
from gridctl.traces.reuse import prefix_reuse
from gridctl.traces.statistics import dispersion, interarrival_cv, nearest_rank, peak_rate, statistics

Write = Callable[..., Path]
S = 10**9


def rows(*requests: tuple[int, int, list[int]]) -> str:
    return "".join(
        f'{{"timestamp":{t},"input_length":{n},"output_length":10,"hash_ids":{ids}}}\n' for t, n, ids in requests
    )


def test_mooncake_reuses_34_65_percent_of_its_prompt_tokens(real_traces: Path) -> None:
    figures = statistics(read_trace(real_traces / "mooncake_conversation_trace.first-half.jsonl.gz"))
    assert figures.reused_share is not None
    assert f"{figures.reused_share:.2%}" == "34.65%"
    assert figures.top_blocks[0] == (0, 5606)  # every request shares block 0


def test_azure_burstiness_is_as_published(real_traces: Path) -> None:
    conversation = statistics(read_trace(real_traces / "AzureLLMInferenceTrace_conv.first-half.csv.gz"))
    code = statistics(read_trace(real_traces / "AzureLLMInferenceTrace_code.first-half.csv.gz"))
    assert conversation.mean_rps == pytest.approx(5.5, abs=0.1)
    assert conversation.interarrival_cv == pytest.approx(1.1, abs=0.05)
    assert code.interarrival_cv == pytest.approx(13.6, abs=0.1)


def test_reuse_is_the_longest_known_prefix_capped_by_the_prompt(write: Write) -> None:
    trace = read_trace(
        write(
            rows(
                (0, 1024, [1, 2]),  # nothing known: 0
                (1, 1024, [1, 3]),  # block 1: 512
                (2, 900, [1, 2]),  # both blocks, capped by the prompt: 900
                (3, 1536, [9, 1, 2]),  # known blocks behind an unknown one do not count: 0
                (4, 512, [3]),  # 3 was seen: 512
            )
        )
    )
    reuse = prefix_reuse(trace)
    assert reuse.reused_tokens.tolist() == [0, 512, 900, 0, 512]
    assert (reuse.blocks, reuse.unique_blocks) == (10, 4)
    assert reuse.top_blocks == ((1, 4), (2, 3), (3, 2))
    assert statistics(trace).reused_share == pytest.approx(1924 / 4996)


def test_a_block_is_not_known_to_the_request_that_brings_it(write: Write) -> None:
    trace = read_trace(write(rows((0, 1024, [5, 5]), (0, 1024, [5, 5]))), block_tokens=512)
    assert prefix_reuse(trace).reused_tokens.tolist() == [0, 1024]


@given(st.lists(st.lists(st.integers(0, 12), max_size=5), min_size=1, max_size=12), st.sampled_from([1, 10**15]))
def test_reuse_agrees_with_a_loop_over_a_set(prompts: list[list[int]], spread: int) -> None:
    from dataclasses import replace

    from gridctl.traces.generate import GenerateSpec, generate

    counts = [len(prompt) for prompt in prompts]
    one = generate(GenerateSpec(duration_s=1.0, rate_rps=5.0, arrival_cv=0.0, block_tokens=0), [], [], 1)
    trace = replace(
        one,
        arrival_ns=np.arange(len(prompts)),
        input_tokens=np.array([max(1, 4 * count) for count in counts]),
        block_offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        block_ids=np.array([spread * block for prompt in prompts for block in prompt], np.int64),
        block_tokens=4,
    )
    seen: set[int] = set()
    expected = []
    for prompt in prompts:
        known = 0
        while known < len(prompt) and prompt[known] in seen:
            known += 1
        expected.append(4 * known)
        seen |= set(prompt)
    reuse = prefix_reuse(trace)
    assert reuse.reused_tokens.tolist() == expected
    assert reuse.unique_blocks == len(seen)
    holders = {block: sum(block in prompt for prompt in prompts) for block in seen}
    shared = sorted(((n, block) for block, n in holders.items() if n > 1), key=lambda pair: (-pair[0], pair[1]))
    assert reuse.top_blocks[:1] == tuple((spread * block, n) for n, block in shared[:1])


def test_peak_rate_slides_over_any_window() -> None:
    arrivals = np.array([0, 900, 1100, 1800, 5000]) * (S // 1000)
    assert peak_rate(arrivals, 1) == 3  # 900, 1100 and 1800 ms
    assert peak_rate(arrivals, 10) == 0.5


def test_a_window_does_not_hold_its_end() -> None:
    assert peak_rate(np.array([0, S]), 1) == 1


def test_cv_of_hand_made_gaps() -> None:
    # gaps 1, 1, 4: mean 2, variance (1 + 1 + 4) / 3 = 2
    assert interarrival_cv(np.array([0, 1, 2, 6])) == pytest.approx(2**0.5 / 2)
    assert interarrival_cv(np.array([0, 5])) is None
    assert interarrival_cv(np.array([3, 3, 3])) is None


def test_dispersion_counts_whole_seconds_only() -> None:
    # counts per second 3, 1, 0; the last request starts the fourth second, which is not whole
    arrivals = np.array([0.0, 0.1, 0.9, 1.5, 3.2]) * S
    assert dispersion(arrivals.astype(np.int64), 1) == pytest.approx(np.var([3, 1, 0]) / (4 / 3))
    assert dispersion(np.array([0, S]), 1) is None


def test_nearest_rank_is_a_value_of_the_sample() -> None:
    ordered = np.array([15, 20, 35, 40, 50])
    assert [nearest_rank(ordered, p) for p in (5, 30, 40, 50, 99)] == [15, 20, 20, 35, 50]


def test_groups_add_up_and_name_what_is_not_said(write: Write) -> None:
    trace = read_trace(
        write(
            '{"gridctl_trace":"v1","block_tokens":4}\n'
            '{"timestamp":0,"input_length":8,"output_length":1,"hash_ids":[1,2],"workload":"a"}\n'
            '{"timestamp":0,"input_length":8,"output_length":2,"hash_ids":[1,3],"workload":"b"}\n'
            '{"timestamp":0,"input_length":8,"output_length":3,"hash_ids":[1,2],"workload":"a"}\n'
            '{"timestamp":0,"input_length":8,"output_length":4}\n'
        )
    )
    groups = {group.name: group for group in statistics(trace).groups}
    assert {name: group.requests for name, group in groups.items()} == {"a": 2, "b": 1, "": 1}
    assert (groups["a"].input_tokens, groups["a"].output_tokens, groups["a"].share) == (16, 4, 0.5)
    assert (groups["a"].reused_share, groups["b"].reused_share, groups[""].reused_share) == (0.5, 0.5, 0.0)


def test_one_request_has_no_rate(write: Write) -> None:
    figures = statistics(read_trace(write(rows((5, 100, [])))))
    assert (figures.requests, figures.duration_s) == (1, 0.0)
    assert (figures.mean_rps, figures.interarrival_cv, figures.dispersion_1s, figures.reused_share) == (None,) * 4
