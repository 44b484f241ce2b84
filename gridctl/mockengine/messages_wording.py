"""Messages wording: answers as Anthropic's Messages API words them, streamed and whole, and its errors.

Pure: bytes from values. Named events, no `[DONE]`; tokens found in the prefix cache are counted apart from the prompt's
others, as that API counts them. Source: the Messages API reference and its page on streaming.
"""

from __future__ import annotations

from typing import Any

import msgspec

from gridctl.mockengine.question import Question

_ERRORS = {400: "invalid_request_error", 401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}


def named_event(name: str, said: dict[str, Any]) -> bytes:
    """A server-sent event whose data repeat its name as their type."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), msgspec.json.encode({"type": name, **said}))


def error(status: int, message: str) -> bytes:
    """An error; what is no fault of the client's is the API's, or its being overloaded."""
    kind = _ERRORS.get(status, "overloaded_error" if status in (503, 529) else "api_error")
    return msgspec.json.encode({"type": "error", "error": {"type": kind, "message": message}})


def usage(question: Question, made: int, cached: int) -> dict[str, int]:
    """Token counts: input tokens are those that were not read from the cache."""
    return {
        "input_tokens": question.prompt_tokens - cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": made,
    }


def ending(question: Question) -> dict[str, str | None]:
    """Why the answer stops."""
    stop = question.stop_met()
    if stop is not None:
        return {"stop_reason": "stop_sequence", "stop_sequence": stop}
    return {"stop_reason": "end_turn" if question.finish_reason == "stop" else "max_tokens", "stop_sequence": None}


def whole(question: Question, name: str, number: str, words: list[str], cached: int) -> bytes:
    """An answer in one piece."""
    said = _message(name, number) | {"content": [{"type": "text", "text": "".join(words)}]} | ending(question)
    return msgspec.json.encode(said | {"usage": usage(question, len(words), cached)})


def _message(name: str, number: str) -> dict[str, Any]:
    return {
        "id": f"msg_{number}",
        "type": "message",
        "role": "assistant",
        "model": name,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }


class MessageWords:
    """The events of one streamed message."""

    def __init__(self, question: Question, name: str, number: str) -> None:
        self._question = question
        self._opening = _message(name, number)

    def role(self) -> bytes:
        """The message and its one block of text begin."""
        message = self._opening | {"usage": usage(self._question, 0, 0)}
        block = {"index": 0, "content_block": {"type": "text", "text": ""}}
        return named_event("message_start", {"message": message}) + named_event("content_block_start", block)

    def token(self, word: str, *, is_last: bool) -> bytes:
        """One token."""
        return named_event("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": word}})

    def end(self, made: int, cached: int) -> bytes:
        """The block ends, then the message: why, and what it took in all."""
        delta = {"delta": ending(self._question), "usage": usage(self._question, made, cached)}
        last = named_event("message_delta", delta) + named_event("message_stop", {})
        return named_event("content_block_stop", {"index": 0}) + last
