"""Answers are read alike however their bytes arrive, from engines that all write them a little differently."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridctl.liveload.answers import LONGEST_LINE, AnswerReader, message_of


def event(**body: Any) -> bytes:
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def chunk(reason: str | None = None, **delta: Any) -> bytes:
    return event(choices=[{"index": 0, "delta": delta, "finish_reason": reason}])


def read(*pieces: bytes) -> AnswerReader:
    reader = AnswerReader()
    for number, piece in enumerate(pieces):
        reader.feed(piece, 100 + number)
    reader.close(999)
    return reader


USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 5}}
STREAM = (
    b": a comment\r\n\r\n"
    + chunk(role="assistant", content="")
    + chunk(content="one")
    + chunk(content="\u00e9\u4e2d")
    + chunk(content=" three", reason="length")
    + event(choices=[], usage=USAGE)
    + b"data: [DONE]\n\n"
)


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_bytes_may_be_split_anywhere(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(STREAM)]
    reader = read(*(STREAM[low:high] for low, high in itertools.pairwise(places)))
    assert (reader.chunks, reader.is_done, reader.has_finished, reader.error) == (3, True, True, "")
    assert (reader.prompt_tokens, reader.output_tokens, reader.cached_tokens) == (9, 3, 5)
    assert reader.is_complete


def test_the_first_and_the_last_token_are_stamped_and_nothing_else() -> None:
    reader = read(chunk(role="assistant", content=""), chunk(content="a"), chunk(content="b"), chunk(reason="stop"),
                  event(choices=[], usage=USAGE), b"data: [DONE]\n\n")  # fmt: skip
    assert (reader.first_ns, reader.last_ns, reader.chunks) == (101, 102, 2)


@pytest.mark.parametrize(
    ("piece", "is_token"),
    [
        (chunk(content="a"), True),
        (chunk(content=""), True),
        (chunk(content="", role="assistant"), False),
        (chunk(content="", reason="stop"), False),
        (chunk(content="last", reason="stop"), True),
        (chunk(reasoning_content="hm"), True),
        (chunk(reasoning="hm"), True),
        (chunk(tool_calls=[{"index": 0}]), True),
        (chunk(content=None, tool_calls=None), False),
        (event(choices=[{"text": "a", "finish_reason": None}]), True),
        (event(choices=[{"text": "", "finish_reason": None}]), True),
        (event(choices=[{"text": "", "finish_reason": "stop"}]), False),
        (event(choices=[]), False),
        (event(object="ping"), False),
        (b"event: ping\ndata:\n\n" + chunk(content="a"), True),
        (chunk(content="a").replace(b"\n\n", b"\r\n\r\n"), True),
        (chunk(content="a").replace(b"data: ", b"data:"), True),
    ],
    ids=range(17),
)
def test_what_is_a_token_and_what_is_none(piece: bytes, is_token: bool) -> None:
    reader = read(piece.replace(b"data:\n\n", b""))
    assert (reader.chunks, reader.error) == (int(is_token), "")


def test_an_engine_may_end_without_done_and_state_its_usage_on_the_last_token() -> None:
    last = {"index": 0, "delta": {"content": "b"}, "finish_reason": "stop"}
    reader = read(chunk(content="a"), event(choices=[last], usage={"prompt_tokens": 4, "completion_tokens": 2}))
    assert reader.is_complete
    assert (reader.chunks, reader.output_tokens, reader.cached_tokens) == (2, 2, 0)


def test_an_answer_that_just_ends_is_not_complete() -> None:
    assert not read(chunk(content="a")).is_complete
    assert not read(b"data: [DONE]\n\n").is_complete, "without a token there was no answer"
    assert read(chunk(content="a"), b"data: [DONE]").is_complete, "the last line may lack its end"


def test_an_error_in_the_stream_ends_the_answer() -> None:
    reader = read(chunk(content="a"), event(error={"message": "out of memory", "type": "x"}), b"data: [DONE]\n\n")
    assert (reader.error, reader.is_complete) == ("out of memory", False)


@pytest.mark.parametrize("text", [b"data: {\n\n", b"data: [1]\n\n", b"data: \xff\n\n", b"data: 5\n\n",
                                  b'data: {"choices": 5}\n\n', b"data: " + b"[" * 50_000 + b"\n\n"])  # fmt: skip
def test_what_is_no_completion_is_an_error_and_no_crash(text: bytes) -> None:
    reader = read(text)
    assert reader.error
    assert not reader.is_complete


def test_a_line_without_an_end_is_given_up() -> None:
    reader = AnswerReader()
    for _ in range(40):
        reader.feed(b"x" * (LONGEST_LINE // 32), 1)
    assert reader.error
    assert len(reader._rest) <= LONGEST_LINE


@pytest.mark.parametrize(
    ("body", "said"),
    [({"error": {"message": "m"}}, "m"), ({"detail": "d"}, "d"), ({"message": "x"}, "x"), ("plain", "plain"), ([], ""),
     ({"error": {"message": None}}, ""), (None, "")],
)  # fmt: skip
def test_errors_come_in_many_shapes(body: Any, said: str) -> None:
    assert message_of(body) == said
