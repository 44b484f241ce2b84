"""Usage as engines report it, and as they should not."""

from __future__ import annotations

import json

import pytest

from gridctl.gateway.usage import Usage, merged, usage_at_end, usage_of, usage_of_answer


@pytest.mark.parametrize(
    ("said", "usage"),
    [
        ({"prompt_tokens": 5, "completion_tokens": 2}, Usage(5, None, 2)),
        ({"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}, Usage(5, 4, 2)),
        ({"prompt_tokens": 5, "prompt_tokens_details": None, "total_tokens": 5}, Usage(5, None, None)),
        ({"input_tokens": 5, "output_tokens": 2, "input_tokens_details": {"cached_tokens": 1}}, Usage(5, 1, 2)),
        ({"input_tokens": 5, "cache_read_input_tokens": 7, "cache_creation_input_tokens": 3}, Usage(15, 7, None)),
        ({"prompt_tokens": -5, "completion_tokens": 2}, Usage(None, None, 2)),
        ({"prompt_tokens": True, "completion_tokens": 1e3}, None),
        ({"prompt_tokens": 1 << 40, "completion_tokens": "7"}, None),
        ({}, None),
        ([1], None),
        (None, None),
    ],
)  # fmt: skip
def test_numbers_that_cannot_be_are_not_believed(said: object, usage: Usage | None) -> None:
    assert usage_of(said) == usage


def test_an_answer_in_one_piece_is_read() -> None:
    body = json.dumps({"choices": [{"message": {"content": '"usage":{"prompt_tokens":1}'}}],
                       "usage": {"prompt_tokens": 9, "completion_tokens": 8}}).encode()  # fmt: skip
    assert usage_of_answer(body) == Usage(9, None, 8)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'"x"', b"\xff", b"[" * 100_000, b'{"usage":' + b"[" * 100_000])
def test_an_answer_that_is_no_answer_has_no_usage(body: bytes) -> None:
    assert usage_of_answer(body) is None


def test_the_end_of_a_long_answer_holds_its_usage() -> None:
    body = json.dumps(
        {"data": [0.5] * 4000, "usage": {"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 2}}}
    )
    assert usage_at_end(body.encode()[-8192:]) == Usage(9, 2, None)
    assert usage_at_end(b"no usage here") is None


def test_later_reports_replace_earlier_ones_where_they_say_something() -> None:
    assert merged(Usage(5, 1, 1), Usage(None, None, 9)) == Usage(5, 1, 9)
    assert merged(None, Usage(5)) == Usage(5)
