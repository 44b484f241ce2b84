"""Events: the named events of a stream that has ended, as data. Decides nothing of what they mean.

Source: WHATWG HTML, server-sent events; in Anthropic's Messages API and OpenAI's Responses API the data of an event
hold its name as `type`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

_LINES = re.compile(rb"\r\n|\n|\r")


class Event(msgspec.Struct):
    """What every event tells."""

    type: str


_event = msgspec.json.Decoder(Event)


def events_of(stream: bytes) -> Iterator[tuple[str, bytes]]:
    """Type and data of each event, in order. Raises DecodeError where data are no object with a type.

    >>> list(events_of(b'event: ping\\ndata: {"type":"ping"}\\n\\n: a comment\\n\\n'))
    [('ping', b'{"type":"ping"}')]
    """
    data: list[bytes] = []
    for line in _LINES.split(stream):
        if line.startswith(b"data:"):
            data.append(line[6:] if line[5:6] == b" " else line[5:])
        elif not line and data:
            whole = b"\n".join(data)
            data = []
            if whole != b"[DONE]":  # neither API has one, some engines send it all the same
                yield _event.decode(whole).type, whole
