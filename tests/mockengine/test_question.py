"""What requests ask: tokens, blocks, lengths and stops, and what is refused with which words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gridctl.mockengine.question import CHAT, EMBEDDING, TEXT, Limits, RefusedError, read_question
from gridctl.mockengine.words import answer_words, chained_blocks, cut_at_stop, drawn_length, tokens_of

LIMITS = Limits(model="mock", block_size=4, longest_context=1000, mean_output_tokens=100)


def read(body: object, endpoint: str = TEXT) -> Any:
    return read_question(endpoint, body if isinstance(body, bytes) else json.dumps(body).encode(), LIMITS)


def test_a_word_is_a_token_and_a_very_long_one_several() -> None:
    assert tokens_of("  the grid\n pays ") == ["the", "grid", "pays"]
    assert tokens_of("") == []
    assert len(tokens_of("short " + "x" * 41)) == 1 + 11
    assert tokens_of("x" * 24) == ["x" * 24]


def test_messages_parts_and_tools_are_the_prompt() -> None:
    asked = read({"messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "why"}]}, CHAT)
    assert asked.prompt_tokens == 3
    parts = [{"type": "text", "text": "one two"}, {"type": "text", "text": "three"}]
    assert read({"messages": [{"role": "user", "content": parts}]}, CHAT).prompt_tokens == 3
    assert read({"messages": [{"role": "user", "content": "x"}], "tools": [{"a": 1}]}, CHAT).prompt_tokens == 2
    called = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    assert read({"messages": [called, {"role": "user", "content": "on"}]}, CHAT).prompt_tokens == 1


def test_prompts_may_be_token_numbers() -> None:
    assert read({"prompt": [1, 2, 3, 4, 5]}).prompt_tokens == 5
    assert len(read({"prompt": [1, 2, 3, 4, 5]}).blocks) == 1
    assert read({"prompt": ["a b"]}).prompt_tokens == 2
    assert read({"input": [[1, 2], [3]]}, EMBEDDING).inputs == 2


def test_blocks_are_equal_as_far_as_prompts_are() -> None:
    one = chained_blocks(["a", "b", "c", "d", "e", "f", "g", "h", "i"], 4)
    other = chained_blocks(["a", "b", "c", "d", "e", "f", "g", "x", "i"], 4)
    assert (len(one), len(other)) == (2, 2)
    assert (one[0] == other[0], one[1] == other[1]) == (True, False)
    assert chained_blocks(["x", "b", "c", "d", "e", "f", "g", "h"], 4)[1] != one[1], (
        "a block stands for everything before it, too"
    )


def test_the_answer_is_as_long_as_asked() -> None:
    assert (read({"prompt": "a", "max_tokens": 7}).output_tokens, read({"prompt": "a"}).finish_reason) == (7, "stop")
    chat = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 3, "max_completion_tokens": 9}
    assert read(chat, CHAT).output_tokens == 9, "the newer name goes first, as at OpenAI"
    assert read({"prompt": "a", "max_tokens": 7}).finish_reason == "length"


def test_a_length_nobody_asks_for_follows_from_the_prompt() -> None:
    lengths = {read({"prompt": f"prompt {number}"}).output_tokens for number in range(200)}
    assert min(lengths) >= 50
    assert max(lengths) <= 150
    assert len(lengths) > 40
    assert read({"prompt": "the same"}).output_tokens == read({"prompt": "the same"}).output_tokens
    assert read({"prompt": "a", "min_tokens": 149}).output_tokens >= 149
    mean = sum(drawn_length(seed, 100) for seed in range(101)) / 101
    assert mean == pytest.approx(100)


def test_an_answer_is_the_same_in_every_process() -> None:
    # By hand: the first bytes of SHAKE-128 of eight zero bytes, taken modulo the eighty words.
    import hashlib

    from gridctl.mockengine.words import ANSWER_WORDS

    drawn = hashlib.shake_128(bytes(8)).digest(3)
    words = [ANSWER_WORDS[byte % len(ANSWER_WORDS)] for byte in drawn]
    assert answer_words(0, 3) == [words[0], " " + words[1], " " + words[2]]


def test_stop_texts_end_the_answer_and_are_left_out() -> None:
    assert cut_at_stop(["the", " end", " of", " it"], [" of"]) == (["the", " end", ""], True)
    assert cut_at_stop(["the", " end", " of", " it"], ["d o", "it"]) == (["the", " en", ""], True)
    assert cut_at_stop(["the", " end"], ["never", ""]) == (["the", " end"], False)
    free = read({"prompt": "a b c", "max_tokens": 50})
    third = free.words()[2]
    stopped = read({"prompt": "a b c", "max_tokens": 50, "stop": [third]})
    text = "".join(free.words())
    assert "".join(stopped.words()) == text[: text.index(third)]
    assert stopped.finish_reason == "stop"
    assert stopped.output_tokens == len(stopped.words()) <= 3
    assert read({"prompt": "a b c", "max_tokens": 50, "stop": third, "ignore_eos": True}).output_tokens == 50


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"{", 400, "cannot be read"),
        (b"", 400, "cannot be read"),
        (b"[]", 400, "cannot be read"),
        (b"\xff\xfe", 400, "cannot be read"),
        (b'{"prompt":' + b"[" * 100_000, 400, "cannot be read"),
        ({"prompt": 5}, 400, "cannot be read"),
        ({"prompt": "a", "max_tokens": "many"}, 400, "cannot be read"),
        ({"prompt": "a", "max_tokens": 0}, 400, "max_tokens"),
        ({"prompt": "a", "max_tokens": -1}, 400, "max_tokens"),
        ({"prompt": "a", "max_tokens": 5, "min_tokens": 6}, 400, "min_tokens"),
        ({"prompt": "a", "max_tokens": 1000}, 400, "maximum context length is 1000"),
        ({"prompt": "a " * 1000}, 400, "maximum context length is 1000"),
        ({"prompt": ""}, 400, "empty"),
        ({"prompt": []}, 400, "empty"),
        ({"prompt": ["a", "b"]}, 400, "one prompt"),
        ({}, 400, "prompt is missing"),
        ({"prompt": "a", "n": 2}, 400, "n must be 1"),
        ({"prompt": "a", "model": "gpt-9"}, 404, "`gpt-9` does not exist"),
    ],
    ids=range(18),
)
def test_what_cannot_be_served_is_refused_with_its_reason(body: object, status: int, said: str) -> None:
    with pytest.raises(RefusedError) as caught:
        read(body)
    assert (caught.value.status, said in caught.value.message) == (status, True), caught.value.message


def test_unknown_fields_are_none_of_the_engine_s_business() -> None:
    assert read({"prompt": "a", "max_tokens": 1, "guided_json": {"x": [1]}, "logit_bias": None}).output_tokens == 1
    assert read({"prompt": "a", "max_tokens": 1, "stop": None, "n": None, "stream": None}).output_tokens == 1


def test_embeddings_take_no_output_and_limited_dimensions() -> None:
    assert read({"input": "a b"}, EMBEDDING).output_tokens == 1
    with pytest.raises(RefusedError, match="dimensions"):
        read({"input": "a", "dimensions": 10**9}, EMBEDDING)
