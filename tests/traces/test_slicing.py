"""Cutting, speeding up, repeating and merging, on traces small enough to see."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gridctl.errors import InputError
from gridctl.traces.reader import read_trace
from gridctl.traces.slicing import cut, merge, repeat, scale_time, take
from gridctl.traces.statistics import statistics
from gridctl.traces.trace import Trace

Write = Callable[..., Path]


@pytest.fixture
def trace(write: Write) -> Trace:
    rows = [
        (0, 8, [1, 2], "a", 4),
        (1000, 4, [1], "b", None),
        (2500, 12, [1, 2, 3], None, 4),
        (4000, 4, [], "a", None),
    ]
    text = '{"gridctl_trace":"v1","name":"t","block_tokens":4}\n'
    for t, n, ids, origin, session in rows:
        more = (f',"origin":"{origin}"' if origin else "") + (f',"session":{session}' if session is not None else "")
        text += f'{{"timestamp":{t},"input_length":{n},"output_length":1,"hash_ids":{ids},"prompt":"p{t}"{more}}}\n'
    return read_trace(write(text))


def test_taking_rows_takes_their_blocks_and_prompts(trace: Trace) -> None:
    import numpy as np

    part = take(trace, np.array([2, 3, 0]))
    assert part.block_ids.tolist() == [1, 2, 3, 1, 2]
    assert part.block_offsets.tolist() == [0, 3, 3, 5]
    assert part.prompts == ("p2500", "p4000", "p0")


def test_a_cut_holds_its_start_and_not_its_end(trace: Trace) -> None:
    part = cut(trace, 1.0, 4.0)
    assert part.arrival_ns.tolist() == [0, 1_500_000_000]
    assert part.prompts == ("p1000", "p2500")
    assert len(cut(trace, 1.0, None, limit=1)) == 1
    with pytest.raises(InputError, match=r"lasts 4\.000 s"):
        cut(trace, 5.0)


def test_speed_divides_time(trace: Trace) -> None:
    assert scale_time(trace, 2.0).arrival_ns.tolist() == [0, 500_000_000, 1_250_000_000, 2_000_000_000]
    assert scale_time(trace, 1.0) is trace
    with pytest.raises(InputError, match="speed"):
        scale_time(trace, 0.0)
    with pytest.raises(InputError, match="speed"):
        scale_time(trace, float("nan"))


def test_repetition_is_new_traffic_at_the_same_rate(trace: Trace) -> None:
    twice = repeat(trace, 2)
    # the mean gap of 4/3 s lies between the copies
    assert twice.arrival_ns[4] == 4_000_000_000 + 4_000_000_000 // 3
    assert twice.session.tolist() == [4, -1, 4, -1, 9, -1, 9, -1]
    one, two = statistics(trace), statistics(twice)
    assert two.reused_share == one.reused_share
    assert two.unique_blocks == 2 * one.unique_blocks
    assert statistics(repeat(trace, 2, shared_blocks=True)).unique_blocks == one.unique_blocks


def test_merging_keeps_order_and_names(trace: Trace, write: Write) -> None:
    other = read_trace(
        write(
            '{"gridctl_trace":"v1","name":"o","block_tokens":4}\n'
            '{"timestamp":0,"input_length":4,"output_length":1,"hash_ids":[1],"origin":"c"}\n'
            '{"timestamp":1000,"input_length":4,"output_length":1,"hash_ids":[1],"origin":"a"}\n',
            "other",
        )
    )
    both = merge([trace, other])
    assert both.name == "t+o"
    assert [both.origins[n] if n >= 0 else None for n in both.origin] == ["a", "c", "b", "a", None, "a"]
    assert both.prompts == ("p0", "", "p1000", "", "p2500", "p4000")
    ids = [both.block_ids[both.block_offsets[i] : both.block_offsets[i + 1]].tolist() for i in range(6)]
    assert ids == [[1, 2], [5], [1], [5], [1, 2, 3], []]


def test_merging_different_blocks_is_refused(trace: Trace, write: Write) -> None:
    other = read_trace(write('{"timestamp":0,"input_length":600,"output_length":1,"hash_ids":[1,2]}\n', "other"))
    with pytest.raises(InputError, match="differ in size"):
        merge([trace, other])
    with pytest.raises(InputError, match="nothing"):
        merge([])
    with pytest.raises(InputError, match="repetitions"):
        repeat(trace, 0)
