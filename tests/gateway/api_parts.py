"""Engines that speak the Messages and Responses APIs, as those references word them, and readers of what comes back."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any

from gateway_parts import STREAM_HEAD, Answer, Served, whole

MESSAGES: dict[str, Any] = {
    "model": "tiny", "max_tokens": 64, "temperature": 0, "messages": [{"role": "user", "content": "hi"}],
}  # fmt: skip
RESPONSES: dict[str, Any] = {"model": "tiny", "store": False, "temperature": 0, "input": "hi"}
ASKED = {"/v1/messages": MESSAGES, "/v1/responses": RESPONSES}
PIECES = ("one ", "two,\n", '"three" ✓')


def message(text: str, stop: str = "end_turn", stop_sequence: str | None = None) -> dict[str, Any]:
    usage = {"input_tokens": 8, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 4, "output_tokens": 7}
    return {
        "id": "msg_engine", "type": "message", "role": "assistant", "model": "tiny",
        "content": [{"type": "text", "text": text}], "stop_reason": stop, "stop_sequence": stop_sequence,
        "usage": usage,
    }  # fmt: skip


def message_events(pieces: tuple[str, ...], **ending: Any) -> list[dict[str, Any]]:
    said = message("".join(pieces), **ending)
    begun = {**said, "content": [], "stop_reason": None, "stop_sequence": None}
    begun["usage"] = {**said["usage"], "output_tokens": 0}
    delta = {name: said[name] for name in ("stop_reason", "stop_sequence")}
    return [
        {"type": "message_start", "message": begun},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *[{"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": one}} for one in pieces],
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": delta, "usage": said["usage"]},
        {"type": "message_stop"},
    ]


def response(text: str, asked: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
    status = "completed" if reason is None else "incomplete"
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    item = {"id": "msg_engine", "type": "message", "status": status, "role": "assistant", "content": [part]}
    return {
        "id": "resp_engine", "object": "response", "created_at": 1_700_000_000, "status": status, "error": None,
        "incomplete_details": None if reason is None else {"reason": reason},
        "instructions": asked.get("instructions"), "max_output_tokens": asked.get("max_output_tokens"), "model": "tiny",
        "output": [item], "parallel_tool_calls": True, "temperature": asked.get("temperature", 1.0),
        "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [], "top_p": 1.0,
        "metadata": asked.get("metadata", {}), "store": False, "user": asked.get("user"),
        "usage": {
            "input_tokens": 12, "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": 7, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 19,
        },
    }  # fmt: skip


def response_events(pieces: tuple[str, ...], asked: dict[str, Any], reason: str | None = None) -> list[dict[str, Any]]:
    last = response("".join(pieces), asked, reason)
    begun = {**last, "status": "in_progress", "incomplete_details": None, "output": [], "usage": None}
    (item,) = last["output"]
    (part,) = item["content"]
    place = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    told: list[dict[str, Any]] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
        {"type": "response.output_item.added", "output_index": 0,
         "item": {**item, "status": "in_progress", "content": []}},
        {"type": "response.content_part.added", **place, "part": {**part, "text": ""}},
        *[{"type": "response.output_text.delta", **place, "delta": one, "logprobs": []} for one in pieces],
        {"type": "response.output_text.done", **place, "text": part["text"], "logprobs": []},
        {"type": "response.content_part.done", **place, "part": part},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": f"response.{last['status']}", "response": last},
    ]  # fmt: skip
    return [{**one, "sequence_number": number} for number, one in enumerate(told)]


def written(events: list[dict[str, Any]]) -> bytes:
    return b"".join(b"event: %b\ndata: %b\n\n" % (one["type"].encode(), json.dumps(one).encode()) for one in events)


def body_of(path: str, asked: dict[str, Any], **ending: Any) -> bytes:
    """An engine's answer to a request, whole or as the body of a stream."""
    if asked.get("stream"):
        of_path = message_events(PIECES, **ending) if path == "/v1/messages" else response_events(
            PIECES, asked, **ending
        )  # fmt: skip
        return written(of_path)
    text = "".join(PIECES)
    said = message(text, **ending) if path == "/v1/messages" else response(text, asked, **ending)
    return json.dumps(said).encode()


def speaks(**ending: Any) -> Callable[[Served], Coroutine[Any, Any, None]]:
    """An engine of both APIs."""

    async def script(served: Served) -> None:
        path = served.head.split(b" ")[1].split(b"?")[0].decode()
        body = body_of(path, served.said, **ending)
        if served.said.get("stream"):
            served.send(STREAM_HEAD + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
        else:
            served.send(whole(body))

    return script


def events_of(answer: Answer) -> list[dict[str, Any]]:
    """The events of a stream, each under the name that its data say."""
    found = []
    for event in answer.body.split(b"\n\n")[:-1]:
        name, data = event.split(b"\n")
        said = json.loads(data.removeprefix(b"data: "))
        assert name == b"event: " + said["type"].encode()
        found.append(said)
    return found


def joined(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Events with neighbouring pieces of text as one, numbers left out once they are seen to count up."""
    numbers = [one["sequence_number"] for one in events if "sequence_number" in one]
    assert numbers == list(range(len(numbers)))
    made: list[dict[str, Any]] = []
    for one in json.loads(json.dumps(events)):
        one.pop("sequence_number", None)
        before = made[-1] if made else {}
        if one["type"] == before.get("type") == "content_block_delta":
            before["delta"]["text"] += one["delta"]["text"]
        elif one["type"] == before.get("type") == "response.output_text.delta":
            before["delta"] += one["delta"]
        else:
            made.append(one)
    return made
