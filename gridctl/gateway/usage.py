"""Usage: how many tokens an engine says that a request had, in whichever API's words.

Engines differ and err: a number that is missing, negative, huge or no whole number counts as not said. Decides nothing
about what is forwarded. Sources: the OpenAI API's `usage` (chat, completions, embeddings, responses) and Anthropic's,
whose `input_tokens` leave out what was read from the cache or written to it.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from gridctl.gateway.usage_fields import MOST_TOKENS, Answer, PlainAnswer

_USAGE_AT_END: Final = re.compile(rb'"usage"[ \t\r\n]*:[ \t\r\n]*(\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\})')


class Usage:
    """Tokens as reported; None where the engine did not say. `prompt_tokens` include the cached ones."""

    __slots__ = ("cached_tokens", "output_tokens", "prompt_tokens")

    def __init__(
        self, prompt_tokens: int | None = None, cached_tokens: int | None = None, output_tokens: int | None = None
    ) -> None:
        self.prompt_tokens = prompt_tokens
        self.cached_tokens = cached_tokens
        self.output_tokens = output_tokens

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Usage) and self._said() == other._said()

    def __hash__(self) -> int:
        return hash(self._said())

    def __repr__(self) -> str:
        return f"Usage{self._said()}"

    def _said(self) -> tuple[int | None, int | None, int | None]:
        return self.prompt_tokens, self.cached_tokens, self.output_tokens


_plain_answer: Final = msgspec.json.Decoder(PlainAnswer)
_answer: Final = msgspec.json.Decoder(Answer)


def usage_of(said: object) -> Usage | None:
    """What a decoded `usage` object says, or None when it says nothing that can be understood."""
    if not isinstance(said, dict):
        return None
    usage = Usage(
        _count(said, "prompt_tokens", "input_tokens"),
        _count(said, "cache_read_input_tokens"),
        _count(said, "completion_tokens", "output_tokens"),
    )
    if usage.cached_tokens is not None and usage.prompt_tokens is not None:
        usage.prompt_tokens += usage.cached_tokens + (_count(said, "cache_creation_input_tokens") or 0)
    details = said.get("prompt_tokens_details", said.get("input_tokens_details"))
    if usage.cached_tokens is None and isinstance(details, dict):
        usage.cached_tokens = _count(details, "cached_tokens")
    if usage.prompt_tokens is None and usage.output_tokens is None:
        return None
    return usage


def usage_of_answer(body: bytes) -> Usage | None:
    """What the body of an answer in one piece says; None when it is no JSON object or has no usage. O(len(body))."""
    try:
        plain = _plain_answer.decode(body).usage
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        plain = None
    if plain is not None:
        details = plain.prompt_tokens_details
        return Usage(
            plain.prompt_tokens, details.cached_tokens if details is not None else None, plain.completion_tokens
        )
    try:
        return usage_of(_answer.decode(body).usage)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def usage_at_end(tail: bytes) -> Usage | None:
    """What the end of a long answer says, where the rest has been forwarded already: its last `usage` object."""
    found = _USAGE_AT_END.findall(tail)
    if not found:
        return None
    try:
        return usage_of(msgspec.json.decode(found[-1]))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def merged(earlier: Usage | None, later: Usage | None) -> Usage | None:
    """Both reports of one stream: the later one's numbers where it states them."""
    if earlier is None or later is None:
        return earlier or later
    return Usage(
        earlier.prompt_tokens if later.prompt_tokens is None else later.prompt_tokens,
        earlier.cached_tokens if later.cached_tokens is None else later.cached_tokens,
        earlier.output_tokens if later.output_tokens is None else later.output_tokens,
    )


def _count(said: dict[str, Any], *names: str) -> int | None:
    for name in names:
        value = said.get(name)
        if type(value) is int and 0 <= value < MOST_TOKENS:
            return value
    return None
