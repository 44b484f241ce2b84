"""Stretches of prefix nodes, by hand and against a tree of whole beginnings."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gridctl.engine.state import NIL
from gridctl.engine.stretches import Stretches, StretchFinder
from gridctl.traces.spans import spans_of

Prompt = tuple[int, ...]


def found(*prompts: Prompt) -> tuple[Stretches, list[int]] | None:
    finder = StretchFinder(max((node for prompt in prompts for node in prompt), default=-1) + 1)
    counts = np.array([len(prompt) for prompt in prompts], np.int64)
    nodes = np.array([node for prompt in prompts for node in prompt], np.int64)
    spans = spans_of(nodes, np.concatenate([[0], np.cumsum(counts)]))
    finder.mark(*spans, counts)
    finder.number()
    if not finder.link(*spans, counts):
        return None
    return finder.stretches(), finder.leaves(*spans, counts).tolist()


def depths(stretches: Stretches, leaf: int) -> list[int]:
    """Where the stretches of a prompt end."""
    ends = []
    while leaf != NIL:
        ends.append(int(stretches.depth[leaf]))
        leaf = int(stretches.parent[leaf])
    return ends[::-1]


def test_two_prompts_part_where_they_differ_and_where_one_ends() -> None:
    answer = found((0, 1, 2, 3), (0, 1, 4, 5, 6), (0, 1, 4), ())
    assert answer is not None
    stretches, leaves = answer
    assert [depths(stretches, leaf) for leaf in leaves] == [[2, 4], [2, 3, 5], [2, 3], []]
    assert leaves[3] == NIL
    assert stretches.longest == 3


def test_a_hundred_nodes_that_never_part_are_one_stretch() -> None:
    answer = found(tuple(range(100)), tuple(range(100)))
    assert answer is not None
    assert depths(answer[0], answer[1][0]) == [100]
    assert answer[0].longest == 1


def test_ids_in_no_order_are_a_stretch_each() -> None:
    answer = found((7, 3, 9, 40))
    assert answer is not None
    assert depths(answer[0], answer[1][0]) == [1, 2, 3, 4]


def test_an_id_after_different_beginnings_is_refused() -> None:
    assert found((0, 2), (1, 2)) is None
    assert found((5, 5)) is None
    assert found((0, 1), (1,)) is None


@settings(max_examples=300, deadline=None)
@given(
    turns=st.lists(st.lists(st.sampled_from("abc"), max_size=9).map(tuple), min_size=1, max_size=12),
    shift=st.integers(0, 70),
)
def test_a_stretch_ends_exactly_where_some_prompt_ends_or_parts(turns: list[tuple[str, ...]], shift: int) -> None:
    """Ids are numbered as beginnings are first seen; a beginning is the last of a stretch when it is a whole prompt or
    is followed by a node other than the next number."""
    numbers: dict[tuple[str, ...], int] = {}
    prompts = [
        tuple(shift + numbers.setdefault(turn[: end + 1], len(numbers)) for end in range(len(turn))) for turn in turns
    ]
    answer = found(*prompts)
    assert answer is not None
    stretches, leaves = answer
    ends = {prompt[-1] for prompt in prompts if prompt}
    ends |= {a for prompt in prompts for a, b in itertools.pairwise(prompt) if b != a + 1}
    for prompt, leaf in zip(prompts, leaves, strict=True):
        assert depths(stretches, leaf) == [place + 1 for place, node in enumerate(prompt) if node in ends]
    for one, leaf in zip(prompts, leaves, strict=True):
        for other, other_leaf in zip(prompts, leaves, strict=True):
            assert (leaf == other_leaf) == (one[-1:] == other[-1:])
