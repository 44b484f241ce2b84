"""Answers: what a streamed completion says, event by event, read leniently because engines differ.

Decides which chunk stands for a token, what ends an answer, and what the usage was: `[DONE]`, or a finish reason and
the end of the response. Bytes may be split anywhere; lines may end in CRLF. Knows no sockets; time is an input.
"""

from __future__ import annotations

from typing import Any

import msgspec

LONGEST_LINE = 1 << 20


class _Delta(msgspec.Struct):
    role: str | None = None
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: Any = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Any = None


_decoder = msgspec.json.Decoder(_Chunk)


class AnswerReader:
    """One streamed answer. Times are whatever clock `feed` is given; 0 is never."""

    __slots__ = (
        "_rest",
        "cached_tokens",
        "chunks",
        "error",
        "first_ns",
        "has_finished",
        "is_done",
        "last_ns",
        "output_tokens",
        "prompt_tokens",
    )

    def __init__(self) -> None:
        self._rest = b""
        self.first_ns = self.last_ns = 0
        self.chunks = 0
        self.prompt_tokens = self.output_tokens = self.cached_tokens = -1
        self.has_finished = self.is_done = False
        self.error = ""

    @property
    def is_complete(self) -> bool:
        """Whether the answer has come to its end."""
        return (self.is_done or self.has_finished) and not self.error and self.chunks > 0

    def feed(self, data: bytes, now_ns: int) -> None:
        """Read what came at `now_ns`."""
        if self._rest:
            data = self._rest + data
        lines = data.split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            if line.startswith(b"data:"):
                self._event(line[5:].strip(), now_ns)
        if len(self._rest) > LONGEST_LINE:
            self.error = "a line without an end"
            self._rest = b""

    def close(self, now_ns: int) -> None:
        """The response is over; its last line may lack an end."""
        if self._rest:
            self.feed(b"\n", now_ns)

    def _event(self, text: bytes, now_ns: int) -> None:
        if text.startswith(b"[DONE]"):
            self.is_done = True
            return
        try:
            chunk = _decoder.decode(text)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            self.error = self.error or "an event that is no completion"
            return
        if chunk.error and not chunk.choices:
            self.error = message_of(chunk.error) or "an error"
        if chunk.usage is not None:
            self._take_usage(chunk.usage)
        for choice in chunk.choices or ():
            if _has_token(choice):
                self.chunks += 1
                self.first_ns = self.first_ns or now_ns
                self.last_ns = now_ns
            self.has_finished = self.has_finished or bool(choice.finish_reason)

    def _take_usage(self, usage: _Usage) -> None:
        if usage.prompt_tokens is not None and usage.completion_tokens is not None:
            self.prompt_tokens, self.output_tokens = usage.prompt_tokens, usage.completion_tokens
            details = usage.prompt_tokens_details
            self.cached_tokens = max(0, details.cached_tokens or 0) if details is not None else 0


def _has_token(choice: _Choice) -> bool:
    """Whether a chunk stands for a token. An empty text does, when it neither opens nor closes the answer: the token
    ended no character yet."""
    delta = choice.delta
    if delta is None:
        return bool(choice.text) or (choice.text == "" and not choice.finish_reason)
    if delta.content or delta.tool_calls or delta.reasoning_content or delta.reasoning or delta.refusal:
        return True
    return delta.content == "" and delta.role is None and not choice.finish_reason


def message_of(error: Any) -> str:
    """What an error body or event says, whatever its shape."""
    if isinstance(error, dict):
        for key in ("message", "detail", "error"):
            if error.get(key):
                return message_of(error[key])
        return ""
    return error if isinstance(error, str) else ""
