"""Hits: kept answers in the words of the API, whole or as a stream; and an engine's answer in the form it is kept in.

A kept answer is the message of a chat, the text of a completion (both JSON), or the vectors of embeddings. What goes to
a client has the shape the engine's would have, under the id of the request that gets it. Streams come in one piece, or
in pieces of about a token at the pace of an engine. Decides nothing about what may be served or kept. Source: the
OpenAI API's chat, completions and embeddings objects.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import msgspec

NATURAL_TOKEN_S = 0.01
"""Between two tokens of a stream at natural pace: what a fast engine takes, and faster than anybody reads."""
DONE = b"data: [DONE]\n\n"
_IDS = {"chat": "chatcmpl-", "completions": "cmpl-", "embeddings": "embd-"}
_PIECES = re.compile(r"\s*\S{1,8}|\s+")
_encode = msgspec.json.Encoder().encode


class Whole(msgspec.Struct):
    """What of an answer is kept. `is_kept` False: it is none that could be."""

    content: bytes = b""
    finish_reason: str = ""
    model: str = ""
    prompt_tokens: int = 0
    output_tokens: int = 0
    has_tool_call: bool = False

    @property
    def is_understood(self) -> bool:
        return bool(self.content)


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Message(msgspec.Struct):
    content: str | None = None
    tool_calls: Any = None
    function_call: Any = None
    audio: Any = None


class _Choice(msgspec.Struct):
    message: msgspec.Raw = msgspec.Raw()
    text: str | None = None
    finish_reason: str | None = None


class _Answer(msgspec.Struct):
    model: str = ""
    choices: list[_Choice] = []
    data: msgspec.Raw = msgspec.Raw()
    usage: _Usage | None = None


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: Any = None
    function_call: Any = None
    audio: Any = None
    refusal: str | None = None


class _Part(msgspec.Struct):
    index: int = 0
    delta: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    model: str = ""
    choices: list[_Part] = []
    usage: _Usage | None = None
    error: Any = None


_answer = msgspec.json.Decoder(_Answer)
_message = msgspec.json.Decoder(_Message)
_chunk = msgspec.json.Decoder(_Chunk)


# ── from an engine ──


def read_whole(endpoint: str, body: bytes) -> Whole:
    """An answer in one piece; not understood where it has another shape."""
    try:
        said = _answer.decode(body)
        usage = said.usage or _Usage()
        counts = usage.prompt_tokens or 0, usage.completion_tokens or 0
        if endpoint == "embeddings":
            return Whole(bytes(said.data), "stop", said.model, *counts)
        if len(said.choices) != 1:
            return Whole()
        choice = said.choices[0]
        reason = choice.finish_reason or ""
        if endpoint == "completions":
            content = b"" if choice.text is None else _encode(choice.text)
            return Whole(content, reason, said.model, *counts)
        message = _message.decode(choice.message)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Whole()
    has_tools = bool(message.tool_calls or message.function_call or message.audio)
    content = bytes(choice.message) if message.content else b""
    return Whole(content, reason, said.model, *counts, has_tools)


def read_stream(endpoint: str, events: bytes) -> Whole:
    """A whole stream that ended well; not understood where it has another shape. O(len(events))."""
    text: list[str] = []
    thoughts: list[str] = []
    found = Whole()
    try:
        for line in events.replace(b"\r\n", b"\n").split(b"\n"):
            if not line.startswith(b"data:") or line[5:].strip() == b"[DONE]":
                continue
            said = _chunk.decode(line[5:])
            if said.error is not None or len(said.choices) > 1:
                return Whole()
            found.model = found.model or said.model
            if said.usage is not None:
                found.prompt_tokens = said.usage.prompt_tokens or 0
                found.output_tokens = said.usage.completion_tokens or 0
            for part in said.choices:
                _take(part, found, text, thoughts)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Whole()
    whole = "".join(text)
    if not whole or not found.finish_reason:
        return Whole()
    if endpoint == "completions":
        found.content = _encode(whole)
        return found
    message = {"role": "assistant", "content": whole}
    if thoughts:
        message["reasoning_content"] = "".join(thoughts)
    found.content = _encode(message)
    return found


def _take(part: _Part, found: Whole, text: list[str], thoughts: list[str]) -> None:
    if part.text:
        text.append(part.text)
    delta = part.delta
    if delta is not None:
        if delta.content:
            text.append(delta.content)
        if delta.reasoning_content:
            thoughts.append(delta.reasoning_content)
        if delta.tool_calls or delta.function_call or delta.audio or delta.refusal:
            found.has_tool_call = True
    if part.finish_reason:
        found.finish_reason = part.finish_reason


# ── to a client ──


def whole_body(endpoint: str, request_id: str, kept: Whole) -> bytes:
    """The body of an answer in one piece."""
    content = msgspec.Raw(kept.content)
    usage = _usage(kept, is_embedding=endpoint == "embeddings")
    if endpoint == "embeddings":
        return _encode({"object": "list", "data": content, "model": kept.model, "usage": usage})
    choice: dict[str, object] = {"index": 0, "logprobs": None, "finish_reason": kept.finish_reason}
    choice["text" if endpoint == "completions" else "message"] = content
    kind = "text_completion" if endpoint == "completions" else "chat.completion"
    return _encode({**_frame(endpoint, request_id, kind, kept.model), "choices": [choice], "usage": usage})


def stream_events(
    endpoint: str, request_id: str, kept: Whole, *, wants_usage: bool, in_pieces: bool
) -> Iterator[bytes]:
    """The events of a stream, its end last; each piece of the text in an event of its own."""
    kind = "text_completion" if endpoint == "completions" else "chat.completion.chunk"
    frame = _frame(endpoint, request_id, kind, kept.model)
    more: dict[str, object] = {"usage": None} if wants_usage else {}

    def event(choice: dict[str, object]) -> bytes:
        return b"data: %b\n\n" % _encode({**frame, "choices": [{"index": 0, **choice}], **more})

    said = msgspec.json.decode(kept.content)
    if endpoint == "completions":
        for piece in _pieces(str(said), in_pieces):
            yield event({"text": piece, "logprobs": None, "finish_reason": None})
        yield event({"text": "", "logprobs": None, "finish_reason": kept.finish_reason})
    else:
        first = {name: value for name, value in said.items() if name != "content" and value not in (None, [])}
        yield event({"delta": {"role": "assistant", **first, "content": ""}, "logprobs": None, "finish_reason": None})
        for piece in _pieces(said.get("content") or "", in_pieces):
            yield event({"delta": {"content": piece}, "logprobs": None, "finish_reason": None})
        yield event({"delta": {}, "logprobs": None, "finish_reason": kept.finish_reason})
    if wants_usage:
        yield b"data: %b\n\n" % _encode({**frame, "choices": [], "usage": _usage(kept)})
    yield DONE


def _pieces(text: str, in_pieces: bool) -> list[str]:
    return _PIECES.findall(text) if in_pieces else [text]


def _frame(endpoint: str, request_id: str, kind: str, model: str) -> dict[str, object]:
    return {"id": _IDS[endpoint] + request_id, "object": kind, "created": int(time.time()), "model": model}


def _usage(kept: Whole, *, is_embedding: bool = False) -> dict[str, int]:
    if is_embedding:
        return {"prompt_tokens": kept.prompt_tokens, "total_tokens": kept.prompt_tokens}
    return {
        "prompt_tokens": kept.prompt_tokens,
        "completion_tokens": kept.output_tokens,
        "total_tokens": kept.prompt_tokens + kept.output_tokens,
    }
