"""Hits: kept answers in the words of the API, whole or as a stream.

What goes to a client has the shape the engine's would have, under the id of the request that gets it. Streams come in
one piece, or in pieces of about a token at the pace of an engine. Decides nothing about what may be served. Source: the
OpenAI API's chat, completions and embeddings objects; `answers.said` has the way back.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import msgspec

from gridctl.answers.whole import Whole

NATURAL_TOKEN_S = 0.01
"""Between two tokens of a stream at natural pace: what a fast engine takes, and faster than anybody reads."""
DONE = b"data: [DONE]\n\n"
_IDS = {"chat": "chatcmpl-", "completions": "cmpl-", "embeddings": "embd-"}
_PIECES = re.compile(r"\s*\S{1,8}|\s+")
_encode = msgspec.json.Encoder().encode


def whole_body(endpoint: str, request_id: str, kept: Whole) -> bytes:
    """The body of an answer in one piece."""
    content = msgspec.Raw(kept.content)
    usage = _usage(kept, is_embedding=endpoint == "embeddings")
    if endpoint == "embeddings":
        return _encode({"object": "list", "data": content, "model": kept.model, "usage": usage})
    choice: dict[str, object] = {"index": 0, "logprobs": None, "finish_reason": kept.finish_reason}
    choice["text" if endpoint == "completions" else "message"] = content
    kind = "text_completion" if endpoint == "completions" else "chat.completion"
    return _encode({**_frame(endpoint, request_id, kind, kept.model), "choices": [choice], "usage": usage})


def stream_events(
    endpoint: str, request_id: str, kept: Whole, *, wants_usage: bool, in_pieces: bool
) -> Iterator[bytes]:
    """The events of a stream, its end last; each piece of the text in an event of its own."""
    kind = "text_completion" if endpoint == "completions" else "chat.completion.chunk"
    frame = _frame(endpoint, request_id, kind, kept.model)
    more: dict[str, object] = {"usage": None} if wants_usage else {}

    def event(choice: dict[str, object]) -> bytes:
        return b"data: %b\n\n" % _encode({**frame, "choices": [{"index": 0, **choice}], **more})

    said = msgspec.json.decode(kept.content)
    if endpoint == "completions":
        for piece in pieces(str(said), in_pieces):
            yield event({"text": piece, "logprobs": None, "finish_reason": None})
        yield event({"text": "", "logprobs": None, "finish_reason": kept.finish_reason})
    else:
        first = {name: value for name, value in said.items() if name != "content" and value not in (None, [])}
        yield event({"delta": {"role": "assistant", **first, "content": ""}, "logprobs": None, "finish_reason": None})
        for piece in pieces(said.get("content") or "", in_pieces):
            yield event({"delta": {"content": piece}, "logprobs": None, "finish_reason": None})
        yield event({"delta": {}, "logprobs": None, "finish_reason": kept.finish_reason})
    if wants_usage:
        yield b"data: %b\n\n" % _encode({**frame, "choices": [], "usage": _usage(kept)})
    yield DONE


def pieces(text: str, in_pieces: bool) -> list[str]:
    """A text in pieces of about a token, or as one."""
    return _PIECES.findall(text) if in_pieces else [text]


def _frame(endpoint: str, request_id: str, kind: str, model: str) -> dict[str, object]:
    return {"id": _IDS[endpoint] + request_id, "object": kind, "created": int(time.time()), "model": model}


def _usage(kept: Whole, *, is_embedding: bool = False) -> dict[str, int]:
    if is_embedding:
        return {"prompt_tokens": kept.prompt_tokens, "total_tokens": kept.prompt_tokens}
    return {
        "prompt_tokens": kept.prompt_tokens,
        "completion_tokens": kept.output_tokens,
        "total_tokens": kept.prompt_tokens + kept.output_tokens,
    }
