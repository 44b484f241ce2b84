"""Messages said: what an engine said in the words of Anthropic's Messages API, in the form in which it is kept.

Kept are the blocks of text and why it stopped. Decides what is understood: text and nothing else. A block of a tool is
told apart; thoughts, citations and whatever nobody here knows make an answer none that is understood, for what cannot
be given again as it was is not given again. Source: the Messages API reference and its page on streaming.
"""

from __future__ import annotations

from typing import Any

import msgspec

from gridctl.answers.events import events_of
from gridctl.answers.whole import Whole

FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
}
"""Why an answer ended, in the words that `cache.cacheable` knows; others are no end."""
_encode = msgspec.json.Encoder().encode


class _Usage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None


class _Message(msgspec.Struct):
    """An answer in one piece, or the beginning of a streamed one."""

    type: str
    content: list[dict[str, Any]]
    model: str = ""
    stop_reason: str | None = None
    stop_sequence: str | None = None
    usage: _Usage | None = None


class _Start(msgspec.Struct):
    message: _Message


class _BlockStart(msgspec.Struct):
    index: int
    content_block: dict[str, Any]


class _Piece(msgspec.Struct):
    type: str
    text: str = ""


class _BlockDelta(msgspec.Struct):
    index: int
    delta: _Piece


class _BlockStop(msgspec.Struct):
    index: int


class _Ending(msgspec.Struct):
    stop_reason: str | None = None
    stop_sequence: str | None = None


class _Delta(msgspec.Struct):
    delta: _Ending
    usage: _Usage | None = None


class _NotUnderstoodError(Exception):
    """A stream that does not go as the API says."""


_message = msgspec.json.Decoder(_Message)
_start = msgspec.json.Decoder(_Start)
_block_start = msgspec.json.Decoder(_BlockStart)
_block_delta = msgspec.json.Decoder(_BlockDelta)
_block_stop = msgspec.json.Decoder(_BlockStop)
_delta = msgspec.json.Decoder(_Delta)


def read_whole(body: bytes) -> Whole:
    """An answer in one piece; not understood where it has another shape."""
    try:
        return _read(_message.decode(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Whole()


def read_stream(stream: bytes) -> Whole:
    """A whole stream that ended well; not understood where it went otherwise than the API says. O(len(stream))."""
    following = _Following()
    try:
        for kind, data in events_of(stream):
            following.take(kind, data)
        return _read(following.whole())
    except (_NotUnderstoodError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Whole()


class _Following:
    """A message as its events make it: begun, then block after block, each begun, grown and closed, then ended."""

    def __init__(self) -> None:
        self._message: _Message | None = None
        self._pieces: list[str] | None = None
        """Of the block that is open."""
        self._has_ended = False

    def take(self, kind: str, data: bytes) -> None:
        """One event more."""
        if kind == "ping":
            return
        message = self._message
        if kind == "message_start" and message is None:
            self._message = _start.decode(data).message
        elif message is None or self._has_ended:
            raise _NotUnderstoodError
        elif kind == "content_block_start":
            self._open(message, _block_start.decode(data))
        elif kind == "content_block_delta":
            self._grow(message, _block_delta.decode(data))
        elif kind == "content_block_stop":
            self._close(message, _block_stop.decode(data).index)
        elif kind == "message_delta":
            self._end(message, _delta.decode(data))
        elif kind == "message_stop":
            self._has_ended = True
        else:
            raise _NotUnderstoodError

    def _open(self, message: _Message, event: _BlockStart) -> None:
        if self._pieces is not None or event.index != len(message.content):
            raise _NotUnderstoodError
        message.content.append(event.content_block)
        text = event.content_block.get("text", "")
        self._pieces = [text] if isinstance(text, str) else []

    def _grow(self, message: _Message, event: _BlockDelta) -> None:
        if self._pieces is None or event.index != len(message.content) - 1:
            raise _NotUnderstoodError
        if event.delta.type == "text_delta":
            self._pieces.append(event.delta.text)
        elif event.delta.type != "input_json_delta":  # a tool's, whose block tells
            raise _NotUnderstoodError

    def _close(self, message: _Message, index: int) -> None:
        if self._pieces is None or index != len(message.content) - 1:
            raise _NotUnderstoodError
        block = message.content[index]
        if block.get("type") == "text":
            block["text"] = "".join(self._pieces)
        self._pieces = None

    def _end(self, message: _Message, event: _Delta) -> None:
        if self._pieces is not None:
            raise _NotUnderstoodError
        message.stop_reason = event.delta.stop_reason or message.stop_reason
        message.stop_sequence = event.delta.stop_sequence or message.stop_sequence
        before, told = message.usage, event.usage
        if told is not None and before is not None:  # what the end does not repeat was said at the beginning
            for name in _Usage.__struct_fields__:
                if getattr(told, name) is None:
                    setattr(told, name, getattr(before, name))
        message.usage = told or before

    def whole(self) -> _Message:
        """The message, once it is complete."""
        if self._message is None or not self._has_ended or self._pieces is not None:
            raise _NotUnderstoodError
        return self._message


def _read(message: _Message) -> Whole:
    if message.type != "message" or message.stop_reason is None:
        return Whole()
    usage = message.usage or _Usage()
    read, written = usage.cache_read_input_tokens or 0, usage.cache_creation_input_tokens or 0
    made = Whole(
        finish_reason=FINISH_REASONS.get(message.stop_reason, ""),
        model=message.model,
        prompt_tokens=(usage.input_tokens or 0) + read + written,
        output_tokens=usage.output_tokens or 0,
        has_tool_call=any("tool" in str(block.get("type")) for block in message.content),
    )
    if all(_is_text(block) for block in message.content) and any(block["text"] for block in message.content):
        made.content = _encode(
            {"content": message.content, "stop_reason": message.stop_reason, "stop_sequence": message.stop_sequence}
        )
    return made


def _is_text(block: dict[str, Any]) -> bool:
    return block.get("type") == "text" and isinstance(block.get("text"), str) and not block.get("citations")
