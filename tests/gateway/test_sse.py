"""Event streams: followed however they are cut, relayed byte for byte."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridctl.gateway.chunks import FramingError
from gridctl.gateway.sse import MAX_EVENT_BYTES, EventScanner


def delta(content: str | None, finish: str | None = None, **more: object) -> bytes:
    said = {
        "choices": [{"index": 0, "delta": {} if content is None else {"content": content}, "finish_reason": finish}]
    }
    return b"data: " + json.dumps({**said, **more}, separators=(",", ":")).encode() + b"\n\n"


ROLE = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":12,"completion_tokens":3}}\n\n'
DONE = b"data: [DONE]\n\n"
PIECES = [ROLE, delta("a"), USAGE, b": c\n\n", b"\xff\xfe\n\n", b"data: {]\n\n", b"\r\r", b"id: 1\n"]
STREAM = ROLE + delta("a") + delta("b") + delta("c") + delta(None, "stop") + USAGE + DONE


def feed(scanner: EventScanner, stream: bytes, step: int) -> bytes:
    return b"".join(scanner.feed(stream[at : at + step]) for at in range(0, len(stream), step))


@pytest.mark.parametrize("step", [1, 2, 5, 17, 100, 10_000])
def test_a_stream_is_relayed_untouched_however_it_is_cut(step: int) -> None:
    scanner = EventScanner("chat")
    assert feed(scanner, STREAM, step) == STREAM
    assert scanner.is_done
    assert scanner.is_whole
    assert scanner.deltas == 3
    assert scanner.usage is not None
    assert (scanner.usage.prompt_tokens, scanner.usage.output_tokens) == (12, 3)


@pytest.mark.parametrize("step", [1, 5, 100, 10_000])
def test_the_usage_that_we_asked_for_is_taken_out_and_nothing_else(step: int) -> None:
    scanner = EventScanner("chat", drops_usage=True)
    assert feed(scanner, STREAM, step) == STREAM.replace(USAGE, b"")
    assert scanner.usage is not None


def test_usage_on_the_chunk_that_ends_is_not_taken_out() -> None:
    stream = ROLE + delta("a") + delta(None, "stop", usage={"prompt_tokens": 1, "completion_tokens": 1}) + DONE
    scanner = EventScanner("chat", drops_usage=True)
    assert scanner.feed(stream) == stream
    assert scanner.usage is not None


@pytest.mark.parametrize("ending", ["\r\n", "\n", "\r"])
@pytest.mark.parametrize("step", [1, 3, 10_000])
def test_every_line_ending_of_the_standard_is_understood(ending: str, step: int) -> None:
    stream = STREAM.replace(b"\n", ending.encode())
    scanner = EventScanner("chat", drops_usage=True)
    assert feed(scanner, stream, step) == stream.replace(USAGE.replace(b"\n", ending.encode()), b"")
    assert scanner.is_done
    assert scanner.deltas == 3


def test_the_first_token_is_neither_the_role_nor_a_comment() -> None:
    scanner = EventScanner("chat")
    scanner.feed(b": keep-alive\n\n" + ROLE)
    assert not scanner.has_token
    scanner.feed(delta("a"))
    assert scanner.has_token


@pytest.mark.parametrize(
    "said",
    [
        {"delta": {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": ""}}]}},
        {"delta": {"reasoning_content": "hm"}},
        {"delta": {"reasoning": "hm"}},
        {"text": "x"},
    ],
)
def test_a_tool_call_or_a_thought_is_a_token_too(said: dict[str, object]) -> None:
    scanner = EventScanner("completions")
    scanner.feed(b"data: " + json.dumps({"choices": [said]}).encode() + b"\n\n")
    assert scanner.has_token


def test_words_in_the_text_are_not_taken_for_the_protocol() -> None:
    scanner = EventScanner("chat")
    scanner.feed(ROLE + delta("a"))
    scanner.feed(delta('data: [DONE] "usage":{"prompt_tokens":9} "finish_reason":"stop" "error":{}'))
    assert (scanner.is_done, scanner.is_finished, scanner.is_error) == (False, False, False)
    assert scanner.usage is None
    assert not scanner.is_whole


def test_an_event_is_held_until_it_is_whole() -> None:
    scanner = EventScanner("chat")
    assert scanner.feed(ROLE + delta("a")[:-1]) == ROLE
    assert scanner.feed(b"\n") == delta("a")


def test_multibyte_characters_may_be_cut_anywhere() -> None:
    stream = delta("é漢🙂") + DONE
    raw = stream.replace(b"\\u00e9\\u6f22\\ud83d\\ude42", "é漢🙂".encode())
    assert raw != stream
    scanner = EventScanner("chat")
    assert feed(scanner, raw, 1) == raw


@pytest.mark.parametrize(
    ("stream", "is_whole"),
    [
        (ROLE + delta("a") + DONE, True),
        (ROLE + delta("a") + delta(None, "stop"), True),  # transformers serve never says [DONE]
        (ROLE + delta("a"), False),
        (ROLE + delta("a") + delta(None, "stop") + b"data: {", False),
        (b"", False),
    ],
)
def test_a_stream_without_an_ending_is_cut_short(stream: bytes, is_whole: bool) -> None:
    scanner = EventScanner("chat")
    scanner.feed(stream)
    assert scanner.is_whole is is_whole


def test_an_error_inside_a_stream_is_seen() -> None:
    scanner = EventScanner("chat")
    event = b'data: {"error":{"message":"boom","code":500}}\n\n'
    assert scanner.feed(ROLE + delta("a")) != b""
    assert scanner.feed(event) == event
    assert scanner.is_error


def test_nothing_after_the_end_is_forwarded() -> None:
    scanner = EventScanner("chat")
    assert scanner.feed(DONE + delta("late")) == DONE
    assert scanner.feed(delta("later")) == b""


def test_an_endless_event_is_an_error() -> None:
    scanner = EventScanner("chat")
    for _ in range(MAX_EVENT_BYTES // 1024):
        scanner.feed(b"x" * 1024)
    with pytest.raises(FramingError):
        scanner.feed(b"x")


def test_anthropic_streams_end_with_message_stop_and_count_cumulative_usage() -> None:
    def event(name: str, **more: object) -> bytes:
        return b"event: %b\ndata: %b\n\n" % (name.encode(), json.dumps({"type": name, **more}).encode())

    usage = {"input_tokens": 10, "cache_read_input_tokens": 30, "output_tokens": 1}
    start = event("message_start", message={"usage": usage})
    text = event("content_block_delta", index=0, delta={"type": "text_delta", "text": "x"})
    stream = start + event("ping") + text * 3 + event("message_delta", delta={}, usage={"output_tokens": 7})
    scanner = EventScanner("messages", drops_usage=True)
    assert feed(scanner, stream, 50) == stream
    assert not scanner.is_done
    assert scanner.feed(event("message_stop")) == event("message_stop")
    assert scanner.is_done
    assert scanner.usage is not None
    assert (scanner.usage.prompt_tokens, scanner.usage.cached_tokens, scanner.usage.output_tokens) == (40, 30, 7)
    assert scanner.deltas == 3


def test_streams_of_the_responses_api_end_with_the_response() -> None:
    def event(name: str, **more: object) -> bytes:
        return b"event: %b\ndata: %b\n\n" % (name.encode(), json.dumps({"type": name, **more}).encode())

    usage = {"input_tokens": 5, "input_tokens_details": {"cached_tokens": 2}, "output_tokens": 2}
    text = event("response.output_text.delta", delta="x")
    stream = event("response.created") + text * 2 + event("response.completed", response={"usage": usage})
    scanner = EventScanner("responses")
    assert feed(scanner, stream, 33) == stream
    assert scanner.is_whole
    assert scanner.deltas == 2
    assert scanner.usage is not None
    assert (scanner.usage.prompt_tokens, scanner.usage.cached_tokens, scanner.usage.output_tokens) == (5, 2, 2)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PIECES)), st.integers(1, 60))
def test_any_stream_is_forwarded_in_order_and_unchanged(events: list[bytes], step: int) -> None:
    stream = b"".join(events)
    scanner = EventScanner("chat")
    assert stream.startswith(feed(scanner, stream, step))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.integers(1, 50), st.sampled_from(["chat", "messages", "responses", "rerank"]))
def test_no_bytes_break_the_scanner(stream: bytes, step: int, dialect: str) -> None:
    assert stream.startswith(feed(EventScanner(dialect), stream, step))


EVENTS = [
    ROLE,
    delta("a"),
    delta('"usage": 7 and "error" and [DONE]'),
    delta("b", usage=None),
    delta(None, "stop"),
    USAGE,
    b": a comment\n\n",
    b"event: named\n" + delta("c"),
    delta("d").replace(b"\n\n", b"\r\n\r\n"),
    b'data: {"error":{"message":"x"}}\n\n',
    DONE,
]


@given(st.lists(st.sampled_from(EVENTS), max_size=24), st.booleans())
@settings(max_examples=300, deadline=None)
def test_a_block_of_many_events_tells_what_its_events_tell_one_by_one(events: list[bytes], drops_usage: bool) -> None:
    whole, single = (EventScanner("chat", drops_usage=drops_usage) for _ in range(2))
    assert whole.feed(b"".join(events)) == b"".join(map(single.feed, events))
    for name in ("has_token", "deltas", "usage", "is_finished", "is_done", "is_error", "is_whole"):
        assert getattr(whole, name) == getattr(single, name), name
