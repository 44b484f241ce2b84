"""Responses hits: kept answers in the words of OpenAI's Responses API, whole or as a stream of numbered events.

A response and its messages have ids of the request that gets them; what a response repeats of its request is repeated
of this one. Decides nothing about what may be served. Source: the Responses API reference and its page on streaming
events; `answers.responses_said` has the way back.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import msgspec

from gridctl.answers.whole import Whole
from gridctl.gateway.hits import pieces

_encode = msgspec.json.Encoder().encode


class _Kept(msgspec.Struct):
    """What `answers.responses_said` keeps. `response` has the fields around the output in the engine's order."""

    output: list[dict[str, Any]]
    status: str
    incomplete_details: msgspec.Raw
    response: dict[str, msgspec.Raw]


_kept = msgspec.json.Decoder(_Kept)
_own = msgspec.json.Decoder(dict[str, msgspec.Raw])


def whole_body(request_id: str, kept: Whole, own: bytes) -> bytes:
    """The body of an answer in one piece. `own` are the fields, as JSON, that the answer repeats of its request."""
    return _encode(_Response(request_id, kept, own).ended())


def stream_events(request_id: str, kept: Whole, own: bytes, *, in_pieces: bool) -> Iterator[bytes]:
    """The events of a stream: those that open it together, each piece of text, those that end it together."""
    response, number = _Response(request_id, kept, own), 0

    def event(name: str, said: dict[str, Any]) -> bytes:
        nonlocal number
        told = _encode({"type": name, "sequence_number": number, **said})
        number += 1
        return b"event: %b\ndata: %b\n\n" % (name.encode("ascii"), told)

    begun = {"response": response.begun()}
    before = event("response.created", begun) + event("response.in_progress", begun)
    for at, item in enumerate(response.output):
        opened = {**item, "status": "in_progress", "content": []}
        before += event("response.output_item.added", {"output_index": at, "item": opened})
        for place, part in enumerate(item["content"]):
            here = {"item_id": item["id"], "output_index": at, "content_index": place}
            yield before + event("response.content_part.added", {**here, "part": {**part, "text": ""}})
            for piece in pieces(part["text"], in_pieces) if part["text"] else ():
                yield event("response.output_text.delta", {**here, "delta": piece, "logprobs": []})
            before = event("response.output_text.done", {**here, "text": part["text"], "logprobs": []})
            before += event("response.content_part.done", {**here, "part": part})
        before += event("response.output_item.done", {"output_index": at, "item": item})
    yield before + event(f"response.{response.status}", {"response": response.ended()})


class _Response:
    """A kept response in the hands of one request."""

    def __init__(self, request_id: str, kept: Whole, own: bytes) -> None:
        said = _kept.decode(kept.content)
        self._kept = kept
        self._around, self._own = said.response, _own.decode(own) if own else {}
        self._details = said.incomplete_details
        self._id, self._now_s = f"resp_{request_id}", int(time.time())
        self.status = said.status
        self.output = said.output
        for index, item in enumerate(self.output):
            item["id"] = f"msg_{request_id}" if index == 0 else f"msg_{request_id}_{index}"

    def begun(self) -> dict[str, Any]:
        """As it is at its beginning."""
        nothing_yet = dict.fromkeys(("usage", "completed_at", "incomplete_details"))
        return self._with({**nothing_yet, "status": "in_progress", "output": []})

    def ended(self) -> dict[str, Any]:
        """As it is at its end."""
        kept = self._kept
        usage = {
            "input_tokens": kept.prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": kept.output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": kept.prompt_tokens + kept.output_tokens,
        }
        end_s = self._now_s if self.status == "completed" else None
        made = {"status": self.status, "output": self.output, "usage": usage, "completed_at": end_s}
        return self._with({**made, "incomplete_details": self._details})

    def _with(self, made: dict[str, Any]) -> dict[str, Any]:
        """All its fields, in the engine's order: those made now, those of this request, those that were kept."""
        made = {
            "id": self._id, "object": "response", "created_at": self._now_s, "model": self._kept.model, "error": None,
            "service_tier": None, **made,
        }  # fmt: skip
        return {name: made[name] if name in made else self._said(name) for name in self._around}

    def _said(self, name: str) -> object:
        said = self._own.get(name)
        return self._around[name] if said is None or bytes(said) == b"null" else said
