"""Shapes: which API's words a kept answer goes out in, by its endpoint.

Decides nothing: an answer goes out at the endpoint that it came from, which its partition sees to.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from gridctl.answers.whole import Whole
from gridctl.gateway import hits, messages_hits, responses_hits

_COMPLETE = {
    "messages": re.compile(rb'"stop_reason"\s*:\s*"(?:end_turn|stop_sequence)"'),
    "responses": re.compile(rb'"status"\s*:\s*"completed"'),
}
"""What an answer has in it whose engine says that it came to its end."""


def whole_body(endpoint: str, request_id: str, kept: Whole, own: bytes) -> bytes:
    """The body of an answer in one piece; `own` is what it repeats of its request."""
    if endpoint == "messages":
        return messages_hits.whole_body(request_id, kept)
    if endpoint == "responses":
        return responses_hits.whole_body(request_id, kept, own)
    return hits.whole_body(endpoint, request_id, kept)


def stream_events(
    endpoint: str, request_id: str, kept: Whole, own: bytes, *, wants_usage: bool, in_pieces: bool
) -> Iterator[bytes]:
    """The events of a stream, its end last; each piece of the text in an event of its own."""
    if endpoint == "messages":
        return messages_hits.stream_events(request_id, kept, in_pieces=in_pieces)
    if endpoint == "responses":
        return responses_hits.stream_events(request_id, kept, own, in_pieces=in_pieces)
    return hits.stream_events(endpoint, request_id, kept, wants_usage=wants_usage, in_pieces=in_pieces)


def is_complete(endpoint: str, said: bytes) -> bool:
    """Whether an answer that is no chat's or completion's seems to have come to its end, as far as a glance tells."""
    mark = _COMPLETE.get(endpoint)
    return endpoint == "embeddings" if mark is None else mark.search(said) is not None
