"""Streams of several engines, read to events: bytes as vLLM, transformers serve and llama-cpp-python send them."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridctl.profiling.events import Event, EventReader, StreamError, Usage, error_message, printable

VLLM = (
    b'data: {"choices":[{"index":0,"text":" a","finish_reason":null}],"usage":null}\n\n'
    b'data: {"choices":[{"index":0,"text":"","finish_reason":null}],"usage":null}\n\n'
    b'data: {"choices":[{"index":0,"text":" b","finish_reason":"length"}],"usage":null}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":3,'
    b'"prompt_tokens_details":{"cached_tokens":4}}}\n\n'
    b"data: [DONE]\n\n"
)
TRANSFORMERS = (
    b'data: {"choices":[{"delta":{"role":"assistant"},"index":0}]}\r\n\r\n'
    b': keep-alive\r\n\r\n'
    b'data: {"choices":[{"delta":{"content":"\xc3\xa9t\xc3\xa9"},"index":0}]}\r\n\r\n'
    b'data: {"choices":[{"delta":{},"finish_reason":"stop","index":0}],'
    b'"usage":{"prompt_tokens":7,"completion_tokens":1}}'
)  # fmt: skip


def read(data: bytes, cuts: list[int] | None = None) -> list[Event]:
    reader, events = EventReader(), []
    edges = [0, *sorted(cuts or []), len(data)]
    for low, high in itertools.pairwise(edges):
        events += reader.feed(data[low:high])
    return [*events, *reader.close()]


def test_a_chunk_with_an_empty_text_is_a_token_but_the_closing_ones_are_not() -> None:
    events = read(VLLM)
    assert [event.token for event in events] == [True, True, True, False, False]
    assert [event.finished for event in events] == [False, False, True, False, False]
    assert events[3].usage == Usage(prompt_tokens=9, completion_tokens=3, cached_tokens=4)
    assert events[4].done


def test_the_role_and_the_finish_reason_are_no_tokens_and_usage_may_come_with_the_latter() -> None:
    events = read(TRANSFORMERS)
    assert [event.token for event in events] == [False, True, False]
    assert events[2] == Event(finished=True, usage=Usage(7, 1, 0))


def test_reasoning_and_tool_arguments_are_tokens() -> None:
    deltas = [{"reasoning_content": "hm"}, {"reasoning": "hm"}, {"tool_calls": [{"index": 0}]}, {"content": ""}]
    data = b"".join(b"data: " + json.dumps({"choices": [{"delta": d}]}).encode() + b"\n\n" for d in deltas)
    assert [event.token for event in read(data)] == [True, True, True, True]


@given(st.lists(st.integers(0, len(VLLM + TRANSFORMERS)), max_size=12))
def test_bytes_may_be_split_anywhere(cuts: list[int]) -> None:
    data = VLLM + TRANSFORMERS
    assert read(data, cuts) == read(data)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"<html><body>Welcome</body></html>\n", "not an event stream: <html>"),
        (b"data: {oops\n\n", "not JSON"),
        (b"data: [1, 2]\n\n", "not an object"),
        (b'data: {"error": {"message": "CUDA out of memory"}}\n\n', "the engine reported: CUDA out of memory"),
        (b"data: " + b"[" * 100_000 + b"\n\n", "not JSON"),
        (b"data: " + b"x" * (1 << 20), "a line of over 1 MiB"),
    ],
)
def test_what_is_no_stream_is_refused_with_its_beginning(data: bytes, says: str) -> None:
    with pytest.raises(StreamError, match=says):
        read(data)


def test_usage_that_is_no_count_is_no_usage() -> None:
    for usage in ('{"prompt_tokens":-1,"completion_tokens":2}', '{"prompt_tokens":true,"completion_tokens":2}', '"3"'):
        assert read(b'data: {"choices":[],"usage":' + usage.encode() + b"}\n\n")[0].usage is None


def test_the_message_is_found_in_every_engines_error_shape() -> None:
    assert error_message({"error": {"message": "no such model", "code": 404}}) == "no such model"
    assert error_message({"detail": "Unprocessable"}) == "Unprocessable"
    assert error_message({"detail": [{"loc": ["ignore_eos"]}]}) == '[{"loc": ["ignore_eos"]}]'
    assert error_message({"message": "busy"}) == "busy"
    assert error_message(["?"]) is None


def test_what_a_peer_says_cannot_move_the_cursor_or_fill_the_screen() -> None:
    assert printable(b"\x1b[2Jhello\r\nworld") == "[2Jhello  world"
    assert len(printable(b"x" * 10_000)) == 160
