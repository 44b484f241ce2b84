"""Answers of the Messages and Responses APIs, as their references show them: what of them is kept, and what is not."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridctl.answers.judging import text_of
from gridctl.answers.said import read_said
from gridctl.answers.whole import Whole
from gridctl.cache.cacheable import refusal_of

MESSAGE = rb"""event: message_start
data: {"type":"message_start","message":{"id":"msg_014p","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":25,"cache_creation_input_tokens":3,"cache_read_input_tokens":4,"output_tokens":1}}}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}

event: ping
data: {"type": "ping"}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Par\u00ed"}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"s, \"sir\""}}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":15}}

event: message_stop
data: {"type":"message_stop"}

"""  # noqa: E501
RESPONSE = rb"""event: response.created
data: {"type":"response.created","sequence_number":0,"response":{"id":"resp_67","object":"response","created_at":1741,"status":"in_progress","error":null,"incomplete_details":null,"model":"m","output":[],"usage":null,"user":null}}

event: response.output_item.added
data: {"type":"response.output_item.added","sequence_number":1,"output_index":0,"item":{"id":"msg_67","type":"message","status":"in_progress","role":"assistant","content":[]}}

event: response.content_part.added
data: {"type":"response.content_part.added","sequence_number":2,"item_id":"msg_67","output_index":0,"content_index":0,"part":{"type":"output_text","text":"","annotations":[]}}

event: response.output_text.delta
data: {"type":"response.output_text.delta","sequence_number":3,"item_id":"msg_67","output_index":0,"content_index":0,"delta":"Hi","logprobs":[]}

event: response.output_text.delta
data: {"type":"response.output_text.delta","sequence_number":4,"item_id":"msg_67","output_index":0,"content_index":0,"delta":" there","logprobs":[]}

event: response.output_text.done
data: {"type":"response.output_text.done","sequence_number":5,"item_id":"msg_67","output_index":0,"content_index":0,"text":"Hi there","logprobs":[]}

event: response.completed
data: {"type":"response.completed","sequence_number":6,"response":{"id":"resp_67","object":"response","created_at":1741,"status":"completed","error":null,"incomplete_details":null,"instructions":"be kind","metadata":{"who":"bob"},"model":"m","output":[{"id":"msg_67","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"Hi there","annotations":[]}]}],"temperature":0.0,"user":"bob","secret_of_bob":1,"usage":{"input_tokens":36,"output_tokens":8,"total_tokens":44}}}

"""  # noqa: E501


def read(endpoint: str, said: bytes) -> Whole:
    return read_said(endpoint, said, is_stream=said.startswith(b"event:"))


def refused(whole: Whole) -> str | None:
    return refusal_of(whole.finish_reason, 200, whole.content, whole.has_tool_call)


def message(*blocks: dict[str, Any], stop: str | None = "end_turn", **more: Any) -> bytes:
    usage = {"input_tokens": 3, "output_tokens": 2}
    told = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": list(blocks)}
    return json.dumps({**told, "stop_reason": stop, "stop_sequence": None, "usage": usage, **more}).encode()


def text(said: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": said, **more}


def response(*items: dict[str, Any], **more: Any) -> bytes:
    told = {"id": "resp_1", "object": "response", "created_at": 1, "status": "completed", "model": "m"}
    return json.dumps({**told, "output": list(items), **more}).encode()


def item(*parts: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": list(parts),
        **more,
    }


def part(said: str, **more: Any) -> dict[str, Any]:
    return {"type": "output_text", "text": said, "annotations": [], **more}


def cut_by(reason: str) -> dict[str, Any]:
    return {"status": "incomplete", "incomplete_details": {"reason": reason}}


TOOL_USE = {"type": "tool_use", "id": "1", "name": "f", "input": {}}


def test_a_streamed_message_is_kept_as_its_blocks_and_its_end() -> None:
    whole = read("messages", MESSAGE)
    assert json.loads(whole.content) == {
        "content": [{"type": "text", "text": 'París, "sir"'}], "stop_reason": "end_turn", "stop_sequence": None,
    }  # fmt: skip
    assert (whole.finish_reason, whole.model, refused(whole)) == ("stop", "m", None)
    # 25 that were computed, 3 written to the engine's cache and 4 read from it.
    assert (whole.prompt_tokens, whole.output_tokens) == (32, 15)
    assert text_of(whole.content) == 'París, "sir"'


def test_a_streamed_response_is_kept_without_what_is_one_askers_own() -> None:
    whole = read("responses", RESPONSE)
    assert (whole.finish_reason, whole.model, whole.prompt_tokens, whole.output_tokens) == ("stop", "m", 36, 8)
    assert refused(whole) is None
    kept = json.loads(whole.content)
    assert [one["content"][0]["text"] for one in kept["output"]] == ["Hi there"]
    for own in (b"bob", b"be kind", b"resp_67", b"msg_67", b"secret"):
        assert own not in whole.content
    assert kept["response"]["temperature"] == 0.0
    assert text_of(whole.content) == "Hi there"


def test_lines_may_end_in_either_way() -> None:
    for endpoint, said in (("messages", MESSAGE), ("responses", RESPONSE)):
        assert read(endpoint, said.replace(b"\n", b"\r\n")) == read(endpoint, said)
    assert read("responses", RESPONSE + b"data: [DONE]\n\n") == read("responses", RESPONSE)


@pytest.mark.parametrize("endpoint", ["messages", "responses"])
def test_a_stream_that_lacks_any_event_but_a_sign_of_life_is_not_kept_as_if_it_were_whole(endpoint: str) -> None:
    said = MESSAGE if endpoint == "messages" else RESPONSE
    events = said.split(b"\n\n")[:-1]
    whole = read(endpoint, said)
    for gone in range(len(events)):
        left = b"".join(one + b"\n\n" for at, one in enumerate(events) if at != gone)
        found = read(endpoint, left)
        name = events[gone].split(b"\n")[0].removeprefix(b"event: ").decode()
        if name in ("ping", "response.created", "response.output_item.added", "response.content_part.added"):
            assert found == whole, name
        elif name == "content_block_delta":
            assert text_of(found.content) in ("Parí", 's, "sir"'), "the API gives no text to compare with"
        elif name != "response.output_text.done":
            assert not found.is_understood, name
    for end in range(len(events)):
        assert not read(endpoint, b"".join(one + b"\n\n" for one in events[:end])).is_understood


def test_what_follows_the_end_or_breaks_it_is_no_answer() -> None:
    wrong = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'
    assert not read("messages", MESSAGE + wrong).is_understood
    assert not read("messages", MESSAGE.replace(b"event: ping", wrong + b"event: ping")).is_understood
    assert not read("responses", RESPONSE + RESPONSE).is_understood
    assert not read("responses", wrong + RESPONSE).is_understood
    assert not read("messages", MESSAGE.replace(b'"index":0,"delta"', b'"index":1,"delta"')).is_understood
    assert not read("messages", MESSAGE.replace(b'{"type": "ping"}', b'{"type":"something_new"}')).is_understood


@pytest.mark.parametrize(
    ("endpoint", "said", "reason"),
    [
        ("messages", message(text("a")), None),
        ("messages", message(text("a"), stop="stop_sequence", stop_sequence="###"), None),
        ("messages", message(text("a", citations=None)), None),
        ("messages", message(text("a"), stop="max_tokens"), "incomplete"),
        ("messages", message(text("a"), stop="model_context_window_exceeded"), "incomplete"),
        ("messages", message(text("a"), stop="pause_turn"), "incomplete"),
        ("messages", message(text("a"), stop=None), "incomplete"),
        ("messages", message(text("a"), stop="refusal"), "refused"),
        ("messages", message(text("a"), TOOL_USE, stop="tool_use"), "tools"),
        ("messages", message(text("a"), {"type": "server_tool_use", "id": "1", "name": "f", "input": {}}), "tools"),
        ("messages", message({"type": "thinking", "thinking": "t", "signature": "s"}, text("a")), "empty-answer"),
        ("messages", message(text("a", citations=[{"type": "char_location"}])), "empty-answer"),
        ("messages", message(text("")), "empty-answer"),
        ("messages", message(), "empty-answer"),
        ("messages", b'{"type":"error","error":{"type":"api_error","message":"x"}}', "incomplete"),
        ("messages", b"\xff", "incomplete"),
        ("messages", b"[" * 100_000, "incomplete"),
        ("responses", response(item(part("a"))), None),
        ("responses", response(item(part("a"), part("b")), item(part("c"))), None),
        ("responses", response(item(part("a")), **cut_by("max_output_tokens")), "incomplete"),
        ("responses", response(item(part("a")), **cut_by("content_filter")), "refused"),
        ("responses", response(item(part("a")), status="failed", error={"code": "server_error"}), "incomplete"),
        ("responses", response(item(part("a")), status="queued"), "incomplete"),
        ("responses", response(item(part("a")), {"type": "function_call", "name": "f"}), "tools"),
        ("responses", response({"type": "web_search_call", "id": "w"}, item(part("a"))), "tools"),
        ("responses", response({"type": "reasoning", "id": "r", "summary": []}, item(part("a"))), "empty-answer"),
        ("responses", response(item({"type": "refusal", "refusal": "no"})), "empty-answer"),
        ("responses", response(item(part("a", annotations=[{"type": "url_citation"}]))), "empty-answer"),
        ("responses", response(item(part("a", logprobs=[{"token": "a"}]))), "empty-answer"),
        ("responses", response(item(part(""))), "empty-answer"),
        ("responses", response(), "empty-answer"),
        ("responses", b'{"error":{"message":"x"}}', "incomplete"),
        ("responses", b"\xff", "incomplete"),
        ("responses", b"[" * 100_000, "incomplete"),
    ],
)  # fmt: skip
def test_what_is_kept_of_answers_in_one_piece(endpoint: str, said: bytes, reason: str | None) -> None:
    assert refused(read(endpoint, said)) == reason


def test_a_response_whose_pieces_make_another_text_than_its_end_is_not_understood() -> None:
    assert not read("responses", RESPONSE.replace(b'"delta":" there"', b'"delta":" everybody"')).is_understood


TEXTS = st.lists(st.text(st.characters(codec="utf-8"), max_size=12), min_size=1, max_size=6)


@settings(max_examples=150, deadline=None)
@given(blocks=st.lists(TEXTS, min_size=1, max_size=3))
def test_a_stream_is_kept_as_the_same_answer_in_one_piece(blocks: list[list[str]]) -> None:
    """Random texts in random pieces, over what the references say of both forms."""
    told: list[dict[str, Any]] = [{"type": "message_start", "message": json.loads(message(stop=None))}]
    for index, pieces in enumerate(blocks):
        told.append({"type": "content_block_start", "index": index, "content_block": text("")})
        deltas = [{"type": "text_delta", "text": piece} for piece in pieces]
        told += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        told.append({"type": "content_block_stop", "index": index})
    told.append({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {}})
    told.append({"type": "message_stop"})
    assert read("messages", events(told)) == read("messages", message(*[text("".join(one)) for one in blocks]))
    last = json.loads(response(item(*[part("".join(pieces)) for pieces in blocks])))
    told = [
        {"type": "response.output_text.delta", "output_index": 0, "content_index": index, "delta": piece}
        for index, pieces in enumerate(blocks)
        for piece in pieces
    ]
    told.append({"type": "response.completed", "response": last})
    assert read("responses", events(told)) == read("responses", json.dumps(last).encode())


def events(told: list[dict[str, Any]]) -> bytes:
    return b"".join(b"event: %b\ndata: %b\n\n" % (one["type"].encode(), msgspec.json.encode(one)) for one in told)
