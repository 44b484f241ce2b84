"""Responses said: what an engine said in the words of OpenAI's Responses API, in the form in which it is kept.

Kept are the messages of the output and, in the engine's order, the fields around them that follow from what every asker
of the same question asked; those that are one asker's own are kept by name alone, for each gets its own back. Decides
what is understood: messages of plain text. Calls of tools are told apart; reasoning, annotations and probabilities make
a response none that is understood, for what cannot be given again as it was is not given again. Source: the Responses
API reference and its page on streaming events.
"""

from __future__ import annotations

from typing import Any

import msgspec

from gridctl.answers.events import events_of
from gridctl.answers.whole import Whole

MADE = frozenset(
    ("id", "object", "created_at", "completed_at", "model", "output", "usage", "status", "error", "incomplete_details",
     "service_tier")
)  # fmt: skip
"""Fields that are made anew for everybody who gets the answer."""
OWN = frozenset(
    ("instructions", "max_output_tokens", "metadata", "prompt_cache_key", "prompt_cache_retention",
     "safety_identifier", "user")
)  # fmt: skip
"""Fields that repeat what one asker said. The instructions are the same for all, but are a prompt, and prompts are kept
only where they are looked for by meaning."""
SHARED = frozenset(
    ("background", "frequency_penalty", "max_tool_calls", "parallel_tool_calls", "presence_penalty",
     "previous_response_id", "reasoning", "store", "temperature", "text", "tool_choice", "tools", "top_k",
     "top_logprobs", "top_p", "truncation")
)  # fmt: skip
"""Fields that repeat what all askers of the question said, or nobody; any that is none of these is left out."""
_ENDS = ("response.completed", "response.incomplete")
_BROKEN = ("response.failed", "error")
_encode = msgspec.json.Encoder().encode


class _Usage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None


class _Response(msgspec.Struct):
    """What of a response decides."""

    object: str
    status: str
    output: list[dict[str, Any]]
    model: str = ""
    error: Any = None
    incomplete_details: dict[str, Any] | None = None
    usage: _Usage | None = None


class _End(msgspec.Struct):
    response: msgspec.Raw


class _TextDelta(msgspec.Struct):
    output_index: int
    content_index: int
    delta: str


_response = msgspec.json.Decoder(_Response)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_end = msgspec.json.Decoder(_End)
_text_delta = msgspec.json.Decoder(_TextDelta)


def read_whole(body: bytes) -> Whole:
    """An answer in one piece; not understood where it has another shape."""
    try:
        return _read(body, {})
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Whole()


def read_stream(stream: bytes) -> Whole:
    """A whole stream that ended well: its last event holds the response. Not understood where that has another text
    than the pieces before it. O(len(stream))."""
    pieces: dict[tuple[int, int], list[str]] = {}
    last = b""
    try:
        for kind, data in events_of(stream):
            if last or kind in _BROKEN:
                return Whole()
            if kind == "response.output_text.delta":
                piece = _text_delta.decode(data)
                pieces.setdefault((piece.output_index, piece.content_index), []).append(piece.delta)
            elif kind in _ENDS:
                last = bytes(_end.decode(data).response)
        return _read(last, {place: "".join(some) for place, some in pieces.items()})
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Whole()


def _read(body: bytes, said: dict[tuple[int, int], str]) -> Whole:
    response = _response.decode(body)
    if response.object != "response" or response.error is not None:
        return Whole()
    usage = response.usage or _Usage()
    kinds = [str(item.get("type")) for item in response.output]
    made = Whole(
        finish_reason=_finish_reason(response),
        model=response.model,
        prompt_tokens=usage.input_tokens or 0,
        output_tokens=usage.output_tokens or 0,
        has_tool_call=any(kind.endswith(("_call", "_call_output")) or kind.startswith("mcp_") for kind in kinds),
    )
    texts = _texts(response.output)
    if texts is None or not any(texts.values()) or any(texts.get(place) != text for place, text in said.items()):
        return made
    for item in response.output:
        item["id"] = None
    around = {
        name: value if name in SHARED else _blank(value)
        for name, value in _fields.decode(body).items()
        if name in SHARED or name in OWN or name in MADE
    }
    details = response.incomplete_details
    made.content = _encode(
        {"output": response.output, "status": response.status, "incomplete_details": details, "response": around}
    )
    return made


def _blank(value: msgspec.Raw) -> dict[str, Any] | None:
    """What stands in the place of a value that is not kept: what the engine says there to who said nothing."""
    return {} if bytes(value)[:1] == b"{" else None


def _finish_reason(response: _Response) -> str:
    """Why it ended, in the words that `cache.cacheable` knows; "" for what is no end."""
    if response.status == "completed":
        return "stop"
    reason = (response.incomplete_details or {}).get("reason") if response.status == "incomplete" else None
    return {"max_output_tokens": "length", "content_filter": "content_filter"}.get(str(reason), "")


def _texts(output: list[dict[str, Any]]) -> dict[tuple[int, int], str] | None:
    """The texts by their places, None where there is anything else."""
    texts: dict[tuple[int, int], str] = {}
    for index, item in enumerate(output):
        parts = item.get("content")
        if item.get("type") != "message" or item.get("role") != "assistant" or not isinstance(parts, list):
            return None
        for place, part in enumerate(parts):
            is_plain = (
                isinstance(part, dict)
                and part.get("type") == "output_text"
                and isinstance(part.get("text"), str)
                and not part.get("annotations")
                and not part.get("logprobs")
            )
            if not is_plain:
                return None
            texts[index, place] = part["text"]
    return texts
