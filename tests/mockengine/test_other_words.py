"""The Messages and Responses APIs of a mock engine: shapes as their references have them, counts, errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from mockbench import Bench

from gridctl.mockengine.question import MESSAGES, RESPONSES, Limits, RefusedError, read_question

Run = Callable[..., None]
LIMITS = Limits("mock", 16, 4096, 64)
SAID = [{"role": "user", "content": [{"type": "text", "text": "one two three"}]}]


def named(body: bytes) -> list[tuple[str, dict[str, Any]]]:
    """The events of a stream with their names; each is `event:` and `data:` and an empty line."""
    events = []
    for block in body.decode().split("\n\n")[:-1]:
        name, data = block.split("\n")
        assert name.startswith("event: ")
        assert data.startswith("data: ")
        events.append((name[7:], json.loads(data[6:])))
    return events


def test_a_message_is_streamed_in_named_events_without_done(plain: Run) -> None:
    async def play(bench: Bench) -> None:
        asked = {"model": "mock", "max_tokens": 3, "system": "be brief", "messages": SAID}
        whole = (await bench.ask("/v1/messages", asked)).json()
        assert (whole["type"], whole["role"], whole["stop_reason"]) == ("message", "assistant", "max_tokens")
        assert whole["usage"]["input_tokens"] == 5  # be brief one two three
        assert whole["usage"]["output_tokens"] == 3
        events = named((await bench.ask("/v1/messages", {**asked, "stream": True})).body)
        assert [name for name, _ in events] == [
            "message_start", "content_block_start", *["content_block_delta"] * 3, "content_block_stop",
            "message_delta", "message_stop",
        ]  # fmt: skip
        assert all(said["type"] == name for name, said in events)
        text = "".join(said["delta"]["text"] for name, said in events if name == "content_block_delta")
        assert [{"type": "text", "text": text}] == whole["content"]
        assert events[0][1]["message"]["stop_reason"] is None
        assert events[-2][1]["delta"] == {"stop_reason": "max_tokens", "stop_sequence": None}
        assert events[-2][1]["usage"]["output_tokens"] == 3

    plain(play)


def test_a_response_is_streamed_in_numbered_events_that_end_with_all_of_it(plain: Run) -> None:
    async def play(bench: Bench) -> None:
        asked = {"model": "mock", "input": "one two three", "instructions": "be brief", "max_output_tokens": 2}
        whole = (await bench.ask("/v1/responses", asked)).json()
        assert (whole["object"], whole["status"]) == ("response", "incomplete")
        assert whole["incomplete_details"] == {"reason": "max_output_tokens"}
        assert (whole["usage"]["input_tokens"], whole["usage"]["total_tokens"]) == (5, 7)
        items = {**asked, "input": [{"role": "user", "content": [{"type": "input_text", "text": "one two three"}]}]}
        events = named((await bench.ask("/v1/responses", {**items, "stream": True})).body)
        assert [said["sequence_number"] for _, said in events] == list(range(len(events)))
        assert [name for name, _ in events][:4] == [
            "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
        ]  # fmt: skip
        text = "".join(said["delta"] for name, said in events if name == "response.output_text.delta")
        name, last = events[-1]
        assert name == "response.incomplete"
        assert last["response"]["output"][0]["content"][0]["text"] == text
        assert whole["output"][0]["content"][0]["text"] == text, "the same words are answered alike"
        complete = (await bench.ask("/v1/responses", {"model": "mock", "input": "one"})).json()
        assert (complete["status"], complete["incomplete_details"]) == ("completed", None)

    plain(play)


def test_a_stop_text_ends_a_message_and_is_named() -> None:
    body = json.dumps({"model": "mock", "max_tokens": 64, "messages": SAID, "stop_sequences": ["zzz", " "]}).encode()
    question = read_question(MESSAGES, body, LIMITS)
    assert question.finish_reason == "stop"
    assert question.stop_met() == " "
    assert " " not in "".join(question.words())


@pytest.mark.parametrize(
    ("endpoint", "asked", "param"),
    [
        (MESSAGES, {"messages": SAID}, "max_tokens"),
        (MESSAGES, {"max_tokens": 3}, "messages"),
        (MESSAGES, {"max_tokens": 3, "messages": [{"role": "user", "content": ""}]}, "messages"),
        (RESPONSES, {}, "input"),
        (RESPONSES, {"input": []}, "input"),
        (RESPONSES, {"input": [1, 2]}, "input"),
        (RESPONSES, {"input": [{"role": "user", "content": ["x"]}]}, "input"),
        ("embeddings", {"input": [{"a": 1}]}, "input"),
    ],
)
def test_what_either_api_needs_is_asked_for(endpoint: str, asked: dict[str, Any], param: str) -> None:
    with pytest.raises(RefusedError) as caught:
        read_question(endpoint, json.dumps({"model": "mock", **asked}).encode(), LIMITS)
    assert (caught.value.status, caught.value.param) == (400, param)


def test_errors_of_messages_have_that_api_s_shape_and_its_key_opens(plain: Run) -> None:
    async def play(bench: Bench) -> None:
        refused = await bench.ask("/v1/messages", {"model": "mock", "messages": SAID})
        assert (refused.status, refused.json()) == (
            401, {"type": "error", "error": {"type": "authentication_error", "message": "Unauthorized"}}
        )  # fmt: skip

    plain(play, api_key="secret")
