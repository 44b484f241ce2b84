"""Said: what an engine said, in the words of the API, in the form in which it is kept: one message, text or list.

A kept answer is the message of a chat, the text of a completion (both JSON), or the vectors of embeddings; those of the
other APIs are read by modules of their own. Of a stream it is the message that the pieces make. Decides only whether an
answer is understood; whether it may be kept is `cache.cacheable`'s. Source: the OpenAI API's chat, completions and
embeddings objects.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from gridctl.answers import messages_said, responses_said
from gridctl.answers.whole import Whole

Reader = Callable[[bytes], Whole]

OTHERS: dict[str, tuple[Reader, Reader]] = {
    "messages": (messages_said.read_whole, messages_said.read_stream),
    "responses": (responses_said.read_whole, responses_said.read_stream),
}
"""Who reads the answers of the other APIs, whole and streamed, by endpoint."""
_encode = msgspec.json.Encoder().encode


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


def read_said(endpoint: str, said: bytes, *, is_stream: bool) -> Whole:
    """An answer as it came, whole or as the events of a stream; not understood where it has another shape."""
    return read_stream(endpoint, said) if is_stream else read_whole(endpoint, said)


def read_whole(endpoint: str, body: bytes) -> Whole:
    """An answer in one piece; not understood where it has another shape."""
    if endpoint in OTHERS:
        return OTHERS[endpoint][0](body)
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
    if endpoint in OTHERS:
        return OTHERS[endpoint][1](events)
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
