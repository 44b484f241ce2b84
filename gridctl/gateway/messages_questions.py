"""Messages questions: what a request of Anthropic's Messages API asks.

Text alone has a question: tools and what they said, pictures, documents and thoughts have none, earlier ones neither.
Where an engine may keep a prompt is no part of it, nor whether a text is written as a list of one block. Who asks is
`metadata.user_id`. Source: the Messages API reference.
"""

from __future__ import annotations

from typing import Any

import msgspec

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

STATEFUL = ("container", "mcp_servers")
"""Fields by which a request reaches tools that the engine's side runs."""
_THINKS = ("thinking", "redacted_thinking")
_MEDIA = ("image", "document", "search_result", "container_upload")


class _Block(msgspec.Struct, forbid_unknown_fields=True):
    """A block of text whose every field is read."""

    type: str
    text: str
    cache_control: Any = None
    citations: Any = None


class _Kind(msgspec.Struct):
    type: str


class _Turn(msgspec.Struct, forbid_unknown_fields=True):
    role: str
    content: str | list[msgspec.Raw]


class _Thinking(msgspec.Struct):
    type: str


class _Metadata(msgspec.Struct):
    user_id: msgspec.Raw = msgspec.Raw()


_block = msgspec.json.Decoder(_Block)
_kind = msgspec.json.Decoder(_Kind)
_turns = msgspec.json.Decoder(list[_Turn])
_system = msgspec.json.Decoder(str | list[msgspec.Raw] | None)
_thinking = msgspec.json.Decoder(_Thinking | None)
_metadata = msgspec.json.Decoder(_Metadata | None)
_encode = msgspec.json.Encoder().encode
_READ_HERE = ("system", "cache_control", "user", "safety_identifier", "max_completion_tokens")


def asked(fields: Fields) -> Asked:
    """What is asked. Raises RefusedError where nothing is that could be cached, DecodeError for no such request."""
    thinking = _thinking.decode(fields["thinking"]) if "thinking" in fields else None
    if thinking is not None and thinking.type != "disabled":
        raise RefusedError("thinking")
    if any(is_said(fields.get(name)) for name in STATEFUL):
        raise RefusedError("tools")
    rest = {name: value for name, value in fields.items() if name not in _READ_HERE}
    system = _system.decode(fields["system"]) if "system" in fields else None
    if system is not None:
        rest["system"] = msgspec.Raw(_encode(_content(system)))
    user = _user(fields)
    if user is not None:
        rest["user"] = user
    turns = [(turn.role, _content(turn.content)) for turn in _read(fields.get("messages"))]
    if not turns or any(role not in ("user", "assistant") for role, _ in turns):
        raise RefusedError("not-text")
    return Asked(last_text(turns), turns_in_form(turns[:-1]), rest)


def _read(messages: msgspec.Raw | None) -> list[_Turn]:
    if messages is None:
        raise RefusedError("not-text")
    try:
        return _turns.decode(messages)
    except msgspec.ValidationError:
        raise RefusedError("not-text") from None


def _content(content: str | list[msgspec.Raw]) -> Content:
    return content if isinstance(content, str) else joined([_text(block) for block in content])


def _text(block: msgspec.Raw) -> str:
    """The text of a block. Raises RefusedError with the word for what it is instead."""
    kind = _kind.decode(block).type
    if kind != "text":
        if "tool" in kind:
            raise RefusedError("tools")
        raise RefusedError("thinking" if kind in _THINKS else "media" if kind in _MEDIA else "not-text")
    try:
        read = _block.decode(block)
    except msgspec.ValidationError:
        raise RefusedError("not-text") from None
    if read.citations:
        raise RefusedError("media")
    return read.text


def _user(fields: Fields) -> msgspec.Raw | None:
    metadata = _metadata.decode(fields["metadata"]) if "metadata" in fields else None
    return metadata.user_id if metadata is not None and bytes(metadata.user_id) else None
