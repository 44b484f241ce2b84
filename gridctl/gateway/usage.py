"""Usage: how many tokens an engine says that a request had, in whichever API's words.

Engines differ and err: a number that is missing, negative, huge or no whole number counts as not said. Decides nothing
about what is forwarded. Sources: the OpenAI API's `usage` (chat, completions, embeddings, responses) and Anthropic's,
whose `input_tokens` leave out what was read from the cache or written to it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

MOST_TOKENS = 1 << 31
TAIL_BYTES = 8192
_USAGE_AT_END = re.compile(rb'"usage"[ \t\r\n]*:[ \t\r\n]*(\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\})')


@dataclass(slots=True)
class Usage:
    """Tokens as reported; None where the engine did not say. `prompt_tokens` include the cached ones."""

    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None


_Tokens = Annotated[int, msgspec.Meta(ge=0, lt=MOST_TOKENS)]


class _Details(msgspec.Struct):
    cached_tokens: _Tokens | None = None


class _PlainUsage(msgspec.Struct):
    """The usual report of the usual engines, for which nothing needs to be doubted field by field."""

    prompt_tokens: _Tokens
    completion_tokens: _Tokens | None = None
    prompt_tokens_details: _Details | None = None
    cache_read_input_tokens: None = None


class _PlainAnswer(msgspec.Struct):
    usage: _PlainUsage


class _Answer(msgspec.Struct):
    usage: Any = None


_plain_answer = msgspec.json.Decoder(_PlainAnswer)
_answer = msgspec.json.Decoder(_Answer)


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
