"""Prefix blocks of a trace → nodes of the twin, by hand and against an oracle that compares whole beginnings."""

from __future__ import annotations

import itertools
from math import lcm

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from smallgrids import trace

from gridctl.replay.prefixes import PrefixNodes, prefix_nodes
from gridctl.traces.trace import Trace


def of(block_tokens: int, *requests: tuple[int, tuple[int, ...]]) -> Trace:
    """A trace of `(input tokens, block ids)`."""
    return trace([{"input": tokens, "blocks": blocks} for tokens, blocks in requests], block_tokens=block_tokens)


def lists(nodes: PrefixNodes) -> list[list[int]]:
    """The nodes of each request."""
    return [nodes.ids[first:last].tolist() for first, last in itertools.pairwise(nodes.first)]


def test_blocks_that_engines_can_divide_stay_as_they_are() -> None:
    nodes = prefix_nodes(of(512, (1024, (0, 1)), (1600, (0, 1, 2, 3))), {16, 32})
    assert nodes.tokens == 512
    assert lists(nodes) == [[0, 1], [0, 1, 2]]  # the fourth block holds 64 tokens: not a whole one
    assert nodes.note == ""


def test_small_blocks_are_grouped_and_the_last_id_of_a_group_names_it() -> None:
    """Blocks of 16, engines of 64: four to a node. 200 tokens are three nodes and 8 tokens."""
    nodes = prefix_nodes(of(16, (200, tuple(range(13))), (128, (0, 1, 2, 3, 20, 21, 22, 23)), (63, (0, 1, 2))), {64})
    assert nodes.tokens == 64
    first, second, third = lists(nodes)
    assert (len(first), len(second), third) == (3, 2, [])
    assert first[0] == second[0]
    assert first[1] != second[1]


def test_sizes_that_do_not_divide_meet_at_their_least_common_multiple() -> None:
    assert prefix_nodes(of(24, (960, tuple(range(40)))), {16, 20}).tokens == 240
    assert prefix_nodes(of(24, (960, tuple(range(40)))), {16, 20}).first.tolist() == [0, 4]


def test_sizes_that_meet_nowhere_reasonable_mean_no_reuse_and_a_note() -> None:
    nodes = prefix_nodes(of(1021, (9000, tuple(range(8)))), {16})
    assert nodes.first.tolist() == [0, 0]
    assert nodes.note == "prefix blocks of 1021 tokens do not fit engine blocks of 16: no prefix reuse"


@pytest.mark.parametrize("sizes", [set(), {16}])
def test_traces_or_engines_without_prefixes_have_no_nodes(sizes: set[int]) -> None:
    bare = prefix_nodes(of(0, (100, ()), (50, ())), sizes)
    assert (bare.tokens, bare.first.tolist()) == (0, [0, 0, 0])
    assert prefix_nodes(of(16, (100, (1, 2))), set()).first.tolist() == [0, 0]


def test_sparse_and_negative_ids_are_made_dense() -> None:
    huge = 2**62
    nodes = prefix_nodes(of(16, (32, (huge, -5)), (32, (huge, 7))), {16})
    assert nodes.ids.min() >= 0
    assert nodes.ids.max() <= 4 * len(nodes.ids)
    (a, b), (c, d) = lists(nodes)
    assert a == c
    assert len({a, b, d}) == 3


def test_a_block_after_different_beginnings_is_not_the_same_block() -> None:
    nodes = prefix_nodes(of(16, (32, (1, 9)), (32, (2, 9)), (32, (1, 9))), {16})
    assert "repeat after different blocks" in nodes.note
    first, second, third = lists(nodes)
    assert first == third
    assert not set(first) & set(second)


def test_nor_is_it_when_several_blocks_make_a_node() -> None:
    """The beginnings differ inside the node that their common last block would name."""
    nodes = prefix_nodes(of(16, (32, (1, 9)), (32, (2, 9)), (32, (1, 9))), {32})
    first, second, third = lists(nodes)
    assert first == third
    assert first != second


def oracle(requests: list[tuple[int, tuple[int, ...]]], block_tokens: int, sizes: set[int]) -> list[list[int]]:
    """Number every distinct beginning as it comes."""
    node_tokens = lcm(block_tokens, *sizes)
    group = node_tokens // block_tokens
    numbers: dict[tuple[int, ...], int] = {}
    answer = []
    for tokens, blocks in requests:
        whole = min(tokens // node_tokens, len(blocks) // group)
        answer.append([numbers.setdefault(blocks[: (node + 1) * group], len(numbers)) for node in range(whole)])
    return answer


def first_seen(lists_of_ids: list[list[int]]) -> list[list[int]]:
    """The same lists with ids numbered as they come."""
    numbers: dict[int, int] = {}
    return [[numbers.setdefault(one, len(numbers)) for one in ids] for ids in lists_of_ids]


@settings(max_examples=300, deadline=None)
@given(
    requests=st.lists(
        st.tuples(
            st.integers(1, 200),
            st.lists(st.sampled_from((0, 1, 2, 3, 70, 2**50, -1)), max_size=12).map(tuple),
        ),
        min_size=1,
        max_size=12,
    ),
    block_tokens=st.sampled_from((8, 16)),
    sizes=st.sampled_from(({4}, {16}, {8, 32}, {48})),
)
def test_nodes_are_equal_exactly_when_their_whole_beginnings_are(
    requests: list[tuple[int, tuple[int, ...]]], block_tokens: int, sizes: set[int]
) -> None:
    nodes = prefix_nodes(of(block_tokens, *requests), sizes)
    assert first_seen(lists(nodes)) == oracle(requests, block_tokens, sizes)
    if len(nodes.ids):
        assert np.all(nodes.ids >= 0)
        assert nodes.ids.max() <= 4 * max(16, len(nodes.ids))


def test_many_beginnings_that_share_blocks_keep_apart() -> None:
    """2,000 requests over nine ids: the table of renumbered chains is probed and collides."""
    generator = np.random.default_rng(5)
    requests = [(160, tuple(generator.integers(0, 9, 10).tolist())) for _ in range(2000)]
    nodes = prefix_nodes(of(16, *requests), {16})
    assert first_seen(lists(nodes)) == oracle(requests, 16, {16})
