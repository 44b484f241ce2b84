"""Turns: the messages of a chat as the cache reads them: the last one's text, and what came before, in one form.

Decides when a conversation is text alone: a message with a field that nobody thought of is read the long way, and a
last one with such a field has no text. The form of earlier turns is that of `cache.partition.canonical`, whatever order
and spacing the client wrote; nearly all are a role and a text, which are read and written at once.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from gridctl.cache.partition import canonical

_MEDIA = re.compile(rb'"type"\s*:\s*"(?:input_)?(?:image|audio|video|file)')
_SYSTEM = ("system", "developer")
_TOOL_ROLES = ("tool", "function")


class _Part(msgspec.Struct, forbid_unknown_fields=True):
    """A piece of a message that is text and nothing else."""

    type: str
    text: str


class _Turn(msgspec.Struct, forbid_unknown_fields=True):
    """A last message whose every field is read."""

    role: str
    content: str | list[_Part]
    name: str | None = None


class _Plain(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """An earlier message of two fields, which stand as `canonical` sorts them."""

    content: str
    role: str


class _Role(msgspec.Struct):
    """What an earlier message tells of tools."""

    role: str
    tool_calls: Any = None
    function_call: Any = None


_raw_turns = msgspec.json.Decoder(list[msgspec.Raw])
_plain_turns = msgspec.json.Decoder(list[_Plain])
_roles = msgspec.json.Decoder(list[_Role])
_turn = msgspec.json.Decoder(_Turn)
_encode = msgspec.json.Encoder().encode


def turns_of(messages: bytes) -> tuple[bytes, msgspec.Raw] | None:
    """The turns before the last one, as a JSON array's inside, and the last one; None where there is none."""
    turns = _raw_turns.decode(messages)
    if not turns:
        return None
    return b",".join(turns[:-1]) if len(turns) > 1 else b"", turns[-1]


def has_media(messages: bytes) -> bool:
    """Whether a message is a picture or the like."""
    return b'"type"' in messages and _MEDIA.search(messages) is not None


def last_text(raw: msgspec.Raw) -> str | None:
    """The text of the last turn, None when it is not a user's, or not text alone."""
    try:
        turn = _turn.decode(raw)
    except msgspec.ValidationError:
        return None
    if turn.role != "user" or turn.name is not None:
        return None
    if isinstance(turn.content, str):
        return turn.content
    return "\n".join(part.text for part in turn.content) if all(p.type == "text" for p in turn.content) else None


def earlier_of(earlier: bytes) -> tuple[str, str, str | None]:
    """The leading system prompts and the conversation after them, both canonical; and why they may not be cached."""
    if not earlier:
        return "[]", "[]", None
    array = b"[" + earlier + b"]"
    try:
        plain = _plain_turns.decode(array)
    except msgspec.ValidationError:
        return _earlier_of_any(array)
    leading = 0
    while leading < len(plain) and plain[leading].role in _SYSTEM:
        leading += 1
    reason = "tools" if any(turn.role in _TOOL_ROLES for turn in plain) else None
    return _encode(plain[:leading]).decode(), _encode(plain[leading:]).decode(), reason


def _earlier_of_any(array: bytes) -> tuple[str, str, str | None]:
    turns: list[Any] = msgspec.json.decode(array)
    reason: str | None = None
    if any(one.role in _TOOL_ROLES or one.tool_calls or one.function_call for one in _roles.decode(array)):
        reason = "tools"
    elif has_media(array):
        reason = "media"
    leading = 0
    while leading < len(turns) and turns[leading].get("role") in _SYSTEM:
        leading += 1
    return canonical(turns[:leading]), canonical(turns[leading:]), reason
