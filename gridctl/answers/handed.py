"""Handed: answers as a worker hands them in, many at a time, and what the keeper reads out of them.

A worker has no time: it passes on the bytes that its client got, and what answers share is sent once. So the reading is
the keeper's, in its own process. Decides nothing.
"""

from __future__ import annotations

import msgspec

from gridctl.answers.question import Fresh, Question
from gridctl.answers.said import read_said


class Kind(msgspec.Struct, array_like=True, gc=False):
    """What answers of one kind share: the question and the answer without what is each one's own."""

    question: Question
    fresh: Fresh


class Handed(msgspec.Struct, array_like=True, gc=False):
    """One answer. `kind` is the place of its kind among those that are sent along; `said` the engine's words as the
    client got them; `took_us` as `Fresh.ttft_us`."""

    kind: int
    exact: bytes
    text: str
    request_id: str
    said: bytes
    is_stream: bool
    prompt_tokens: int
    output_tokens: int
    usd: float
    took_us: float
    ticket: int | None
    stamp: int


def opened(kinds: list[Kind], handed: Handed) -> tuple[Question, Fresh]:
    """The question and the answer. One that is not understood has no content, and is refused like any such. Raises
    IndexError for a kind that was not sent along."""
    kind = kinds[handed.kind]
    question: Question = msgspec.structs.replace(
        kind.question,
        exact=handed.exact,
        text=handed.text,
        request_id=handed.request_id,
        prompt_tokens=handed.prompt_tokens,
    )
    whole = read_said(question.endpoint, handed.said, is_stream=handed.is_stream)
    fresh: Fresh = msgspec.structs.replace(
        kind.fresh,
        content=whole.content,
        finish_reason=whole.finish_reason,
        model=kind.fresh.model or whole.model,
        prompt_tokens=handed.prompt_tokens,
        output_tokens=handed.output_tokens,
        usd=handed.usd,
        ttft_us=handed.took_us,
        has_tool_call=whole.has_tool_call,
        ticket=handed.ticket,
        request_id=handed.request_id,
        stamp=handed.stamp,
    )
    return question, fresh
