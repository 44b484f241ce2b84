"""Fields: what is read of a request's JSON. Data only; `body` and `splice` decide.

Apart from the code that reads them, because that is compiled where a build asks for it, and the decoder makes its
classes from the names of their types, which compiled classes do not keep.
"""

from __future__ import annotations

import msgspec

Number = int | float | None
ABSENT = msgspec.Raw()


class StreamOptions(msgspec.Struct):
    """Of a stream's options the one that concerns us."""

    include_usage: bool | None = None


class Fields(msgspec.Struct):
    """What is read of a body, whatever the endpoint."""

    model: str | msgspec.UnsetType = msgspec.UNSET
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Number = None
    max_completion_tokens: Number = None
    max_output_tokens: Number = None
    messages: msgspec.Raw = ABSENT
    prompt: msgspec.Raw = ABSENT
    input: msgspec.Raw = ABSENT
    system: msgspec.Raw = ABSENT
    instructions: msgspec.Raw = ABSENT
    tools: msgspec.Raw = ABSENT
    query: msgspec.Raw = ABSENT
    documents: msgspec.Raw = ABSENT
    prompt_embeds: msgspec.Raw = ABSENT
    prompt_cache_key: msgspec.Raw = ABSENT
    previous_response_id: msgspec.Raw = ABSENT


class Part(msgspec.Struct):
    """A part of a message's content; one without text is a picture or the like."""

    type: str = ""
    text: str | None = None


class Message(msgspec.Struct):
    """A message, as far as its length goes."""

    content: str | list[Part] | None = None


class Options(msgspec.Struct):
    """Where in a stream's options usage is asked for."""

    include_usage: msgspec.Raw = msgspec.Raw()


class Places(msgspec.Struct):
    """Where in a body stands what may have to be changed."""

    model: msgspec.Raw
    stream_options: msgspec.Raw = msgspec.Raw()
