"""Responses questions: what a request of OpenAI's Responses API asks.

Only a request that leaves nothing behind has a question: it says `store: false`, since what is stored can be gone on
from by its id, which a kept answer's is not; unsaid counts as stored. Text alone has one: no tools, no reasoning, no
pictures or files, no items of former responses. Source: the Responses API reference.
"""

from __future__ import annotations

from typing import Any

import msgspec

from gridctl.answers.responses_said import OWN
from gridctl.gateway.conversations import (
    Asked,
    Content,
    Fields,
    RefusedError,
    is_said,
    joined,
    last_text,
    turns_in_form,
)

STATEFUL = ("previous_response_id", "conversation", "background", "prompt")
"""Fields by which a request goes on from, or leaves, something on the engine's side."""
_MEDIA = ("input_image", "input_file", "input_audio", "input_video")
_STORED = ("item_reference", "compaction")
_ROLES = ("user", "assistant", "system", "developer")
_READ_HERE = ("max_output_tokens", "max_completion_tokens", "max_tokens", "include", "store", *STATEFUL)


class _Part(msgspec.Struct, forbid_unknown_fields=True):
    """A part of text whose every field is read."""

    type: str
    text: str
    annotations: Any = None
    logprobs: Any = None


class _Kind(msgspec.Struct):
    type: str = "message"


class _Message(msgspec.Struct, forbid_unknown_fields=True):
    """An item that is a message; what it was called and how it ended is no part of what it says."""

    role: str
    content: str | list[msgspec.Raw]
    type: str = "message"
    id: Any = None
    status: Any = None


_part = msgspec.json.Decoder(_Part)
_kind = msgspec.json.Decoder(_Kind)
_message = msgspec.json.Decoder(_Message)
_input = msgspec.json.Decoder(str | list[msgspec.Raw])
_reasoning = msgspec.json.Decoder(dict[str, Any] | None)
_include = msgspec.json.Decoder(list[str] | None)
_encode = msgspec.json.Encoder().encode


def asked(fields: Fields) -> Asked:
    """What is asked. Raises RefusedError where nothing is that could be cached, DecodeError for no such request."""
    if bytes(fields.get("store", b"")) != b"false" or any(is_said(fields.get(name)) for name in STATEFUL):
        raise RefusedError("stored")
    reasoning = _reasoning.decode(fields["reasoning"]) if "reasoning" in fields else None
    if any(value not in (None, "none") for value in (reasoning or {}).values()):
        raise RefusedError("thinking")
    for wanted in (_include.decode(fields["include"]) if "include" in fields else None) or ():
        raise RefusedError("logprobs" if "logprobs" in wanted else "thinking" if "reasoning" in wanted else "tools")
    rest = {name: value for name, value in fields.items() if name not in _READ_HERE}
    if "max_output_tokens" in fields:
        rest["max_tokens"] = fields["max_output_tokens"]
    turns = _turns(fields.get("input"))
    own = {name: value for name, value in fields.items() if name in OWN}
    return Asked(last_text(turns), turns_in_form(turns[:-1]), rest, _encode(own) if own else b"")


def _turns(given: msgspec.Raw | None) -> list[tuple[str, Content]]:
    if given is None:
        raise RefusedError("not-text")
    try:
        items = _input.decode(given)
    except msgspec.ValidationError:
        raise RefusedError("not-text") from None
    if isinstance(items, str):
        return [("user", items)]
    return [_turn(item) for item in items]


def _turn(item: msgspec.Raw) -> tuple[str, Content]:
    """Role and content of an item that is a message. Raises RefusedError with the word for what it is instead."""
    kind = _kind.decode(item).type
    if kind != "message":
        if kind in _STORED:
            raise RefusedError("stored")
        raise RefusedError("thinking" if kind == "reasoning" else "tools" if "call" in kind else "not-text")
    try:
        message = _message.decode(item)
    except msgspec.ValidationError:
        raise RefusedError("not-text") from None
    if message.role not in _ROLES:
        raise RefusedError("not-text")
    content = message.content
    return message.role, content if isinstance(content, str) else joined([_text(part) for part in content])


def _text(part: msgspec.Raw) -> str:
    """The text of a part. Raises RefusedError with the word for what it is instead."""
    kind = _kind.decode(part).type
    if kind in _MEDIA:
        raise RefusedError("media")
    if kind not in ("input_text", "output_text"):
        raise RefusedError("not-text")
    try:
        read = _part.decode(part)
    except msgspec.ValidationError:
        raise RefusedError("not-text") from None
    if read.annotations:
        raise RefusedError("not-text")
    return read.text
