"""Responses wording: answers as OpenAI's Responses API words them, streamed and whole.

Pure: bytes from values, but that a stream remembers its text, which its last events repeat. Named, numbered events, no
`[DONE]`. Source: the Responses API reference and its page on streaming events.
"""

from __future__ import annotations

from typing import Any

import msgspec

from gridctl.mockengine.question import Question


def usage(question: Question, made: int, cached: int) -> dict[str, Any]:
    """Token counts: `cached` of the input's were not computed again."""
    return {
        "input_tokens": question.prompt_tokens,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": made,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": question.prompt_tokens + made,
    }


def response(name: str, number: str, created: int) -> dict[str, Any]:
    """A response that has just begun."""
    return {
        "id": f"resp_{number}",
        "object": "response",
        "created_at": created,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "model": name,
        "output": [],
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": None,
    }


def ended(question: Question, begun: dict[str, Any], item: dict[str, Any], made: int, cached: int) -> dict[str, Any]:
    """The same response when it has ended: complete, or cut at the tokens that were allowed."""
    is_cut = question.finish_reason == "length"
    return begun | {
        "status": "incomplete" if is_cut else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
        "output": [item],
        "usage": usage(question, made, cached),
    }


def whole(question: Question, name: str, number: str, created: int, words: list[str], cached: int) -> bytes:
    """An answer in one piece."""
    item = _item(question, number, "".join(words))
    return msgspec.json.encode(ended(question, response(name, number, created), item, len(words), cached))


def _item(question: Question, number: str, text: str) -> dict[str, Any]:
    return {
        "id": f"msg_{number}",
        "type": "message",
        "status": "incomplete" if question.finish_reason == "length" else "completed",
        "role": "assistant",
        "content": [_part(text)],
    }


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


class ResponseWords:
    """The events of one streamed response."""

    def __init__(self, question: Question, name: str, number: str, created: int) -> None:
        self._question = question
        self._number = number
        self._begun = response(name, number, created)
        self._said: list[str] = []
        self._events = 0
        self._place = {"item_id": f"msg_{number}", "output_index": 0, "content_index": 0}

    def _event(self, name: str, said: dict[str, Any]) -> bytes:
        numbered = {"type": name, **said, "sequence_number": self._events}
        self._events += 1
        return b"event: %b\ndata: %b\n\n" % (name.encode(), msgspec.json.encode(numbered))

    def role(self) -> bytes:
        """The response, its one message and that one's text begin."""
        item = {**_item(self._question, self._number, ""), "status": "in_progress", "content": []}
        return b"".join(
            (
                self._event("response.created", {"response": self._begun}),
                self._event("response.in_progress", {"response": self._begun}),
                self._event("response.output_item.added", {"output_index": 0, "item": item}),
                self._event("response.content_part.added", {**self._place, "part": _part("")}),
            )
        )

    def token(self, word: str, *, is_last: bool) -> bytes:
        """One token."""
        self._said.append(word)
        return self._event("response.output_text.delta", {**self._place, "delta": word, "logprobs": []})

    def end(self, made: int, cached: int) -> bytes:
        """Text, message and response end, each told whole."""
        text = "".join(self._said)
        item = _item(self._question, self._number, text)
        last = ended(self._question, self._begun, item, made, cached)
        return b"".join(
            (
                self._event("response.output_text.done", {**self._place, "text": text, "logprobs": []}),
                self._event("response.content_part.done", {**self._place, "part": _part(text)}),
                self._event("response.output_item.done", {"output_index": 0, "item": item}),
                self._event(f"response.{last['status']}", {"response": last}),
            )
        )
