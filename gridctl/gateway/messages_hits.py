"""Messages hits: kept answers in the words of Anthropic's Messages API, whole or as a stream of named events.

A message has the id of the request that gets it, and ends for the reason for which it ended when an engine gave it.
Decides nothing about what may be served. Source: the Messages API reference and its page on streaming;
`answers.messages_said` has the way back.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from gridctl.answers.whole import Whole
from gridctl.gateway.hits import pieces

_encode = msgspec.json.Encoder().encode


class _Kept(msgspec.Struct):
    """What `answers.messages_said` keeps."""

    content: list[dict[str, Any]]
    stop_reason: str
    stop_sequence: str | None = None


_kept = msgspec.json.Decoder(_Kept)


def whole_body(request_id: str, kept: Whole) -> bytes:
    """The body of an answer in one piece."""
    said = _kept.decode(kept.content)
    return _encode(_message(request_id, kept, said.content, said.stop_reason, said.stop_sequence, kept.output_tokens))


def stream_events(request_id: str, kept: Whole, *, in_pieces: bool) -> Iterator[bytes]:
    """The events of a stream: those that open it together, each piece of text, those that end it together."""
    said = _kept.decode(kept.content)
    before = _event("message_start", {"message": _message(request_id, kept, [], None, None, 0)})
    for index, block in enumerate(said.content):
        opened = {"index": index, "content_block": {**block, "text": ""}}
        yield before + _event("content_block_start", opened)
        for piece in pieces(block["text"], in_pieces) if block["text"] else ():
            yield _event("content_block_delta", {"index": index, "delta": {"type": "text_delta", "text": piece}})
        before = _event("content_block_stop", {"index": index})
    ending = {"stop_reason": said.stop_reason, "stop_sequence": said.stop_sequence}
    yield (
        before
        + _event("message_delta", {"delta": ending, "usage": _usage(kept, kept.output_tokens)})
        + _event("message_stop", {})
    )


def _event(name: str, said: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode("ascii"), _encode({"type": name, **said}))


def _message(
    request_id: str,
    kept: Whole,
    content: list[dict[str, Any]],
    stop_reason: str | None,
    stop_sequence: str | None,
    output_tokens: int,
) -> dict[str, Any]:
    return {
        "id": f"msg_{request_id}",
        "type": "message",
        "role": "assistant",
        "model": kept.model,
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": stop_sequence,
        "usage": _usage(kept, output_tokens),
    }


def _usage(kept: Whole, output_tokens: int) -> dict[str, int]:
    """The whole prompt counts as input: no engine read any of it from its cache."""
    return {
        "input_tokens": kept.prompt_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": output_tokens,
    }
