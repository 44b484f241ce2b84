"""Prompts have the length the trace says, and are alike exactly as far as its blocks are."""

from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridctl.liveload.prompts import WORDS, block_text, json_text, prompt_text

blocks = st.lists(st.integers(0, 2**62), max_size=6)


@given(st.integers(1, 300), blocks, st.integers(1, 64))
def test_a_prompt_has_as_many_words_as_tokens_are_asked_for(tokens: int, ids: list[int], size: int) -> None:
    text = prompt_text(5, 1, tokens, ids, size).decode()
    assert len(text.split()) == tokens
    assert len(text) == 4 * tokens - 1, "four bytes a token, the last space left out"


@given(blocks, blocks, st.integers(1, 16))
def test_prompts_are_alike_as_far_as_their_blocks(one: list[int], other: list[int], size: int) -> None:
    same = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    texts = [
        prompt_text(number, 1, size * len(ids) + 40, ids, size).decode().split()
        for number, ids in enumerate((one, other))
    ]
    assert texts[0][: same * size] == texts[1][: same * size]
    assert texts[0] != texts[1], "what no block covers is the request's own"


def test_a_partial_block_is_the_beginning_of_the_whole_one() -> None:
    whole, part = prompt_text(1, 1, 32, [7, 8], 16), prompt_text(2, 1, 21, [7, 8], 16)
    assert whole.startswith(part)
    assert prompt_text(3, 1, 8, [7, 8], 16) == whole[:31]


def test_words_follow_from_seed_and_block_in_every_process() -> None:
    drawn = hashlib.shake_128(b"block 7 99").digest(5)
    assert block_text(7, 99, 5).decode() == "".join(f"{WORDS[byte]} " for byte in drawn)


def test_another_seed_has_other_words_throughout() -> None:
    one, other = (prompt_text(1, seed, 64, [7, 8], 16).decode().split() for seed in (1, 2))
    assert one[:16] != other[:16]
    assert one[48:] != other[48:]


def test_every_word_has_three_letters_and_comes_once() -> None:
    assert len(set(WORDS)) == 256
    assert all(len(word) == 3 and word.isascii() and word.isalpha() and word.islower() for word in WORDS)


@pytest.mark.parametrize("text", ["plain", 'with "quotes" and \\', "line\nend", "\u00e9\u4e2d\U0001f600", "\x00\x1f"])
def test_a_trace_s_own_prompt_stands_in_json(text: str) -> None:
    assert json.loads(b'"%b"' % json_text(text)) == text


def test_half_a_surrogate_pair_does_not_stop_a_load() -> None:
    assert json.loads(b'"%b"' % json_text("\ud800x")) == "?x"
