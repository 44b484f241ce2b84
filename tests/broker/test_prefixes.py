"""The prefix index against a plain model of it, and the share that is believed to be still there, by hand."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridctl.broker.prefixes import (
    HALF_AGE_NS,
    NIL,
    PrefixIndex,
    empty_index,
    forget,
    matching,
    remember,
    resident_share,
    resize,
)
from gridctl.kernels import compiled
from gridctl.units import NS_PER_S

ROWS = 3


@compiled
def _remember(index: PrefixIndex, row: int, blocks: np.ndarray, tokens: int, now_ns: int) -> None:
    remember(index, row, blocks, tokens, now_ns)


@compiled
def _matching(index: PrefixIndex, row: int, blocks: np.ndarray) -> int:
    return matching(index, row, blocks)


@compiled
def _share(index: PrefixIndex, row: int, block: int, kv_in_use: int, now_ns: int) -> float:
    return resident_share(index, row, block, kv_in_use, now_ns)


def prompt(*blocks: int) -> np.ndarray:
    return np.array(blocks, np.int64) * 0x1234567 + 99


def index_of(limit: int, pairs: int = 64) -> PrefixIndex:
    index = empty_index(ROWS, pairs)
    for row in range(ROWS):
        resize(index, row, limit * 128, 128)
    return index


class Model:
    """Per engine an ordered dictionary of blocks, least recently sent first."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.sent: list[OrderedDict[int, None]] = [OrderedDict() for _ in range(ROWS)]

    def remember(self, row: int, blocks: list[int]) -> None:
        held = self.sent[row]
        for block in reversed(blocks[: self.limit]):
            if block not in held and len(held) >= self.limit:
                held.popitem(last=False)
            held[block] = None
            held.move_to_end(block)

    def matching(self, row: int, blocks: list[int]) -> int:
        count = 0
        while count < len(blocks) and blocks[count] in self.sent[row]:
            count += 1
        return count


# A tree of prompts: each conversation goes on from its own last turn, so a block always follows the same ones.
_PATHS = st.lists(st.integers(0, 1), min_size=1, max_size=9).map(
    lambda turns: [int("1" + "".join(map(str, turns[: depth + 1])), 2) for depth in range(len(turns))]
)
_STEPS = st.lists(st.tuples(st.sampled_from(["send", "send", "send", "forget"]), st.integers(0, ROWS - 1), _PATHS))


@settings(max_examples=150, deadline=None)
@given(steps=_STEPS, limit=st.integers(1, 12))
def test_it_remembers_what_a_dictionary_in_order_of_use_would(
    steps: list[tuple[str, int, list[int]]], limit: int
) -> None:
    index, model = index_of(limit), Model(limit)
    for what, row, path in steps:
        blocks = prompt(*path)
        if what == "send":
            _remember(index, row, blocks, 128 * len(path), 0)
            model.remember(row, blocks.tolist())
        else:
            forget(index, row, limit // 2)
            while len(model.sent[row]) > limit // 2:
                model.sent[row].popitem(last=False)
        for other in range(ROWS):
            assert int(_matching(index, other, blocks)) == model.matching(other, blocks.tolist())
            assert int(index.holders[other].pairs) == len(model.sent[other])
    for row in range(ROWS):
        assert _listed(index, row) == list(model.sent[row])


def _listed(index: PrefixIndex, row: int) -> list[int]:
    """An engine's blocks, least recently sent first, read along its list."""
    found, number = [], int(index.holders[row].oldest)
    while number != NIL:
        found.append(int(index.pairs[number].block))
        number = int(index.pairs[number].newer)
    return found


def test_a_prompt_longer_than_the_cache_keeps_its_beginning() -> None:
    index = index_of(4)
    long = prompt(*range(1, 11))
    _remember(index, 0, long, 1280, 0)
    assert int(_matching(index, 0, long)) == 4


def test_the_end_of_a_prompt_is_forgotten_before_its_beginning() -> None:
    index = index_of(6)
    first, second = prompt(1, 2, 3, 4), prompt(11, 12, 13, 14)
    _remember(index, 0, first, 512, 0)
    _remember(index, 0, second, 512, 0)
    assert int(_matching(index, 0, second)) == 4
    assert int(_matching(index, 0, first)) == 2


def test_a_full_index_takes_from_those_with_most_until_all_have_their_share() -> None:
    index = index_of(32, pairs=16)
    for row in range(ROWS):
        resize(index, row, 128 * 8, 128)  # never more than half of all pairs
    _remember(index, 0, prompt(*range(1, 9)), 1024, 0)
    _remember(index, 1, prompt(*range(1, 9)), 1024, 0)
    assert int(index.holders.pairs.sum()) == 16
    _remember(index, 2, prompt(*range(1, 9)), 1024, 0)
    assert sorted(index.holders.pairs.tolist()) == [5, 5, 6], "16 pairs, shared by three"
    assert int(_matching(index, 2, prompt(*range(1, 9)))) == int(index.holders.pairs[2])
    assert _listed(index, 2) == prompt(*range(1, 9))[: int(index.holders.pairs[2])][::-1].tolist()


def test_an_engine_without_a_prefix_cache_holds_nothing() -> None:
    index = empty_index(1, 16)
    resize(index, 0, 0, 128)
    _remember(index, 0, prompt(1, 2), 256, 0)
    assert int(_matching(index, 0, prompt(1, 2))) == 0


def test_what_was_just_sent_is_believed_to_be_there() -> None:
    index = index_of(10)
    _remember(index, 0, prompt(1), 128, 5)
    assert float(_share(index, 0, int(prompt(1)[0]), 0, 5)) == 1.0


def test_after_ten_minutes_it_is_believed_by_half() -> None:
    index = index_of(10)
    _remember(index, 0, prompt(1), 128, 0)
    assert HALF_AGE_NS == 600 * NS_PER_S
    assert float(_share(index, 0, int(prompt(1)[0]), 0, HALF_AGE_NS)) == 0.5


@pytest.mark.parametrize(
    ("sent_since", "kv_in_use", "share"),
    [
        (1280, 0, 1.0),  # just fits beside it: the cache holds 1,280 tokens
        (1920, 0, 0.5),  # 640 tokens too many, half a cache
        (2560, 0, 0.0),  # a whole cache too many
        (640, 1280, 0.5),  # running requests hold all of it: half a cache was displaced
        (1280, 5000, 0.0),  # an engine that says it holds more than it can
    ],
)
def test_what_was_sent_since_displaces_it(sent_since: int, kv_in_use: int, share: float) -> None:
    index = index_of(10)
    _remember(index, 0, prompt(1), 128, 0)
    _remember(index, 0, prompt(2), sent_since, 0)
    assert float(_share(index, 0, int(prompt(1)[0]), kv_in_use, 0)) == pytest.approx(share)
