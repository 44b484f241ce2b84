"""Exchange: one request being answered on one connection, from its question to the last byte.

It is what the pace tells of tokens. Tokens that a slow client cannot take yet are kept as a count, not as bytes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

from gridctl.mockengine import messages_wording, responses_wording, wording
from gridctl.mockengine.faults import Fault
from gridctl.mockengine.question import EMBEDDING, MESSAGES, RESPONSES, Question
from gridctl.mockengine.telemetry import Counters
from gridctl.units import NS_PER_S


class Line(Protocol):
    """The connection an answer is written to."""

    @property
    def is_paused(self) -> bool: ...
    @property
    def keeps_alive(self) -> bool: ...

    def write(self, data: bytes) -> None: ...
    def finished(self) -> None:
        """The answer is complete."""
        ...

    def cut(self, *, is_reset: bool) -> None:
        """The answer ends here; no more of it is wanted from the engine."""
        ...


class Events(Protocol):
    """The events of one streamed answer, as bytes."""

    def role(self) -> bytes:
        """What comes before the first token."""
        ...

    def token(self, word: str, *, is_last: bool) -> bytes: ...
    def end(self, made: int, cached: int) -> bytes:
        """What comes after the last token; `made` and `cached` are for the usage."""
        ...


def _events(question: Question, model: str, number: str, created: int) -> Events:
    if question.endpoint == MESSAGES:
        return messages_wording.MessageWords(question, model, number)
    if question.endpoint == RESPONSES:
        return responses_wording.ResponseWords(question, model, number, created)
    return wording.StreamWords(question, model, number, created)


class Exchange:
    """Answers `question` on `line` as its tokens come. `fault` is what goes wrong with it, if anything."""

    __slots__ = (
        "_began_ns",
        "_cached",
        "_counters",
        "_created",
        "_fault",
        "_line",
        "_made",
        "_model",
        "_number",
        "_sent",
        "_stream",
        "_words",
        "blocks",
        "output_tokens",
        "priority",
        "prompt_tokens",
        "question",
    )

    def __init__(
        self, question: Question, line: Line, *, model: str, number: str, counters: Counters, fault: Fault | None
    ) -> None:
        self.question = question
        self.prompt_tokens = question.prompt_tokens
        self.output_tokens = question.output_tokens
        self.priority = question.priority
        self.blocks: Sequence[int] = question.blocks
        self._line = line
        self._model = model
        self._number = number
        self._counters = counters
        self._fault = fault
        self._made = self._sent = self._cached = 0
        self._began_ns = time.monotonic_ns()
        self._created = int(time.time())
        self._words = [] if question.endpoint == EMBEDDING else question.words()
        self._stream = _events(question, model, number, self._created) if question.is_stream else None

    def given(self, tokens: int, cached_tokens: int) -> None:
        """Tokens have been made."""
        if self._made == 0:
            self._counters.first_tokens += 1
            self._counters.first_token_s += (time.monotonic_ns() - self._began_ns) / NS_PER_S
            self._counters.prompt_tokens += self.prompt_tokens
        self._counters.output_tokens += tokens - self._made
        self._made, self._cached = tokens, cached_tokens
        self.flush()

    def flush(self) -> None:
        """Write what has been made and can be taken."""
        if self._line.is_paused or self._sent == self._made:
            return
        if self._fault is not None and self._made >= self._half and self._fault.kind in ("reset", "truncate"):
            self._cut_short(is_reset=self._fault.kind == "reset")
            return
        is_complete = self._made == self.output_tokens
        if self._stream is not None:
            self._write_events(self._stream, self._made)
        elif is_complete:
            self._line.write(wording.response(200, self._body(), keep_alive=self._line.keeps_alive))
        if is_complete:
            self._finish()

    @property
    def _half(self) -> int:
        return (self.output_tokens + 1) // 2

    def _write_events(self, stream: Events, upto: int, *, is_cut: bool = False) -> None:
        """Write the tokens before number `upto`, and the end after the last of them all."""
        parts = []
        if self._sent == 0:
            role = stream.role()
            parts += [wording.STREAM_HEAD, wording.chunked(role) if role else b""]
        last = -1 if is_cut else self.output_tokens - 1
        events = [stream.token(self._words[at], is_last=at == last) for at in range(self._sent, upto)]
        self._sent = upto
        is_complete = upto == self.output_tokens and not is_cut
        if is_complete:
            events.append(stream.end(upto, self._cached))
        if events:
            parts.append(wording.chunked(b"".join(events)))
        if is_complete:
            parts.append(wording.LAST_CHUNK)
        self._line.write(b"".join(parts))

    def _body(self) -> bytes:
        self._sent = self._made
        if self.question.endpoint == EMBEDDING:
            return wording.embeddings(self.question, self._model)
        if self.question.endpoint == MESSAGES:
            return messages_wording.whole(self.question, self._model, self._number, self._words, self._cached)
        say = responses_wording.whole if self.question.endpoint == RESPONSES else wording.whole
        return say(self.question, self._model, self._number, self._created, self._words, self._cached)

    def _finish(self) -> None:
        if self.question.finish_reason == "stop":
            self._counters.finished_stop += 1
        else:
            self._counters.finished_length += 1
        self._line.finished()

    def _cut_short(self, *, is_reset: bool) -> None:
        """End half-way, because it was told to."""
        if self._stream is not None:
            self._write_events(self._stream, max(self._sent, self._half), is_cut=True)
            if not is_reset:
                self._line.write(wording.LAST_CHUNK)
        elif not is_reset:
            body = self._body()
            self._line.write(wording.response(200, body[: len(body) // 2]))
        self._sent = self._made = self.output_tokens
        self._line.cut(is_reset=is_reset)
