"""Conversations: what of a request of the Messages or Responses API is its question, in the form of a chat's.

Both APIs say in several ways what means the same: a text, or a list of one part with that text. Decides which forms are
one, and by which fields a request of any such API is none that could be cached. Knows no partition and no key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from gridctl.cache.partition import canonical

Fields = dict[str, msgspec.Raw]
Content = str | list[dict[str, str]]
"""The text of a turn, or the texts of its parts."""
HEADERS = {"messages": (b"anthropic-version", b"anthropic-beta"), "responses": (b"openai-beta",)}
"""Headers that go on to engines and may change what they say."""
SPOKEN = "the headers of this request"
"""Where those stand among a request's fields: a name that no field of either API has."""
_encode = msgspec.json.Encoder().encode
_UNSET = (b"null", b"false", b"[]", b"{}")


class Asked(NamedTuple):
    """What a request asks. `text` is the last turn's, None where it is not a user's text; `earlier` the turns before it
    as a JSON array's inside; `fields` all others that may change the answer, under the names that chats use for what
    both have; `own` what an answer repeats of its request, as JSON."""

    text: str | None
    earlier: bytes
    fields: Fields
    own: bytes = b""


class RefusedError(Exception):
    """A request that bypasses the cache; `reason` is the word for why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def spoken(endpoint: str, headers: Mapping[bytes, bytes]) -> bytes:
    """What the head of a request says beside its body to engines; nothing for most."""
    said = [headers.get(name, b"").decode("latin-1") for name in HEADERS.get(endpoint, ())]
    return canonical(said).encode() if any(said) else b""


def is_said(value: msgspec.Raw | None) -> bool:
    """Whether a field says something: not null, false, nor an empty list or object."""
    return value is not None and bytes(value) not in _UNSET


def joined(texts: list[str]) -> Content:
    """The content of a turn of these texts: of one it is that text, whichever way it was written."""
    return texts[0] if len(texts) == 1 else [{"type": "text", "text": text} for text in texts]


def turns_in_form(turns: list[tuple[str, Content]]) -> bytes:
    """Roles and contents as the inside of a JSON array, in the form of a chat's messages."""
    return _encode([{"content": content, "role": role} for role, content in turns])[1:-1]


def last_text(turns: list[tuple[str, Content]]) -> str | None:
    """The text of the last turn, None when it is not a user's."""
    if not turns or turns[-1][0] != "user":
        return None
    content = turns[-1][1]
    return content if isinstance(content, str) else "\n".join([part["text"] for part in content])
