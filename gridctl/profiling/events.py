"""Events of a streamed completion, read leniently from bytes: engines differ in what they send and how they end.

Decides what counts as a token's chunk, where usage is and when the stream is over: `[DONE]`, or the connection's end
after a finish reason. Knows nothing of sockets or clocks. Bytes may be split anywhere; lines may end in CRLF.
Source: the event-stream format of the HTML standard, and OpenAI's chat and text completion chunks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

MAX_LINE_BYTES = 1 << 20
SHOWN_CHARACTERS = 160
_TEXT_KEYS = ("content", "reasoning_content", "reasoning", "refusal")


class StreamError(Exception):
    """The bytes are not a completion stream, or the engine reported an error in it."""


@dataclass(frozen=True, slots=True)
class Usage:
    """The engine's own token counts; `cached_tokens` of the prompt were not computed again."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int


@dataclass(frozen=True, slots=True)
class Event:
    """One event: whether it carries a token, ends a choice, ends the stream, or states the usage."""

    token: bool = False
    finished: bool = False
    done: bool = False
    usage: Usage | None = None


class EventReader:
    """Turns the bytes of a response into events, as they come."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Event]:
        """The events that `data` completes. Raises StreamError for what is no completion stream."""
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > MAX_LINE_BYTES:
            raise StreamError(f"a line of over {MAX_LINE_BYTES >> 20} MiB")
        for line in lines:
            event = _event(line.rstrip(b"\r"))
            if event is not None:
                yield event

    def close(self) -> Iterator[Event]:
        """The event of a last line without a line end."""
        return self.feed(b"\n") if self._rest else iter(())


def _event(line: bytes) -> Event | None:
    """The event of one line; None for comments, blank lines and other fields of the format."""
    if not line or line.startswith((b":", b"event:", b"id:", b"retry:")):
        return None
    if not line.startswith(b"data:"):
        raise StreamError(f"not an event stream: {printable(line)}")
    data = line[5:].strip()
    if not data:
        return None
    if data.startswith(b"[DONE]"):
        return Event(done=True)
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        raise StreamError(f"an event that is not JSON: {printable(data)}") from None
    if not isinstance(body, dict):
        raise StreamError(f"an event that is not an object: {printable(data)}")
    if body.get("error") and not body.get("choices"):
        raise StreamError(f"the engine reported: {error_message(body) or printable(data)}")
    choices = body.get("choices")
    first = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    return Event(token=_has_token(first), finished=bool(first.get("finish_reason")), usage=usage_of(body))


def _has_token(choice: dict[str, Any]) -> bool:
    """Whether a chunk stands for a token. An engine may send an empty text for a token that ends no character yet;
    the opening chunk that only names the role, and the closing one that only names the reason, are no tokens."""
    delta = choice.get("delta")
    if isinstance(delta, dict):
        if delta.get("tool_calls") or any(delta.get(key) for key in _TEXT_KEYS):
            return True
        return "content" in delta and "role" not in delta and not choice.get("finish_reason")
    text = choice.get("text")
    return bool(text) or (text == "" and not choice.get("finish_reason"))


def usage_of(body: dict[str, Any]) -> Usage | None:
    """The usage a response or chunk states, if it is one."""
    usage = body.get("usage")
    if not isinstance(usage, dict):
        return None
    details = usage.get("prompt_tokens_details")
    cached = _count(details.get("cached_tokens")) if isinstance(details, dict) else None
    prompt, completion = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
    if prompt is None or completion is None:
        return None
    return Usage(prompt, completion, min(cached or 0, prompt))


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 40 else None


def error_message(body: object) -> str | None:
    """What an error body says: `error.message`, `message` or `detail`, whichever the engine writes."""
    if not isinstance(body, dict):
        return None
    error = body.get("error")
    if isinstance(error, dict):
        return error_message(error)
    for value in (error, body.get("message"), body.get("detail")):
        if isinstance(value, str) and value:
            return printable(value.encode())
        if isinstance(value, list) and value:
            return printable(json.dumps(value).encode())
    return None


def printable(data: bytes) -> str:
    """The beginning of what a peer sent, safe to print: control characters replaced, cut to a line's length."""
    text = data[: 4 * SHOWN_CHARACTERS].decode("utf-8", errors="replace")
    clean = "".join(char if char.isprintable() else " " for char in text).strip()
    return clean if len(clean) <= SHOWN_CHARACTERS else clean[: SHOWN_CHARACTERS - 1] + "…"
