"""Usage fields: what is decoded of an engine's report of its usage. Data only; `usage` decides.

Apart from the code that reads them, because that is compiled where a build asks for it, and the decoder makes its
classes from the names of their types, which compiled classes do not keep.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec

MOST_TOKENS: Final = 1 << 31
Tokens = Annotated[int, msgspec.Meta(ge=0, lt=MOST_TOKENS)]


class Details(msgspec.Struct):
    """Of the prompt's tokens those that were in the cache."""

    cached_tokens: Tokens | None = None


class PlainUsage(msgspec.Struct):
    """The usual report of the usual engines, for which nothing needs to be doubted field by field."""

    prompt_tokens: Tokens
    completion_tokens: Tokens | None = None
    prompt_tokens_details: Details | None = None
    cache_read_input_tokens: None = None


class PlainAnswer(msgspec.Struct):
    """An answer in one piece with such a report."""

    usage: PlainUsage


class Answer(msgspec.Struct):
    """An answer in one piece with any report."""

    usage: Any = None
