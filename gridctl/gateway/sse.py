"""SSE: an engine's event stream, followed as bytes while it is relayed untouched.

Only whole events are let through, so that a stream which breaks off can still be ended with a well-formed error event;
the one thing ever taken out is the usage chunk that the gateway itself asked for. What is read on the way: the first
token, how many deltas came, the usage, an error, and whether the stream came to its proper end: `[DONE]` (or a finish
reason and a clean end of file), `message_stop`, `response.completed`. A block of ordinary deltas is not decoded.
Source: WHATWG HTML, server-sent events; the OpenAI and Anthropic streaming formats.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from gridctl.gateway.chunks import FramingError
from gridctl.gateway.usage import Usage, merged, usage_of

MAX_EVENT_BYTES: Final = 1 << 20
_BOUNDARY: Final = re.compile(rb"\n\r?\n|\r\n?\r\n|\r\r|\n\r(?=[^\n])")
_LINES: Final = re.compile(rb"\r\n|\n|\r")
_OPENAI: Final = ("chat", "completions")
_TOLD: Final = re.compile(rb'"finish_reason"(?!: ?null)|"usage"(?!: ?null)|\[DONE\]|"error"|\r|\n\n(?!data:)')
"""What there is in or after an event of the OpenAI dialects where more is told than one delta after the other."""
_TOKEN_FIELDS: Final = ("content", "tool_calls", "reasoning_content", "reasoning", "refusal", "function_call", "audio")


class EventScanner:
    """Follows one stream. `has_token` is set by the first token, `deltas` counts the events that carried one.

    `dialect` is the endpoint's word; one that is not known is relayed and ends with the connection. `drops_usage`
    takes out the chunk that holds nothing but the usage.
    """

    __slots__ = (
        "_dialect",
        "_drops_usage",
        "_pending",
        "deltas",
        "has_token",
        "is_done",
        "is_error",
        "is_finished",
        "usage",
    )

    def __init__(self, dialect: str, *, drops_usage: bool = False) -> None:
        self._dialect = dialect
        self._drops_usage = drops_usage
        self._pending = bytearray()
        self.has_token = False
        self.deltas = 0
        self.usage: Usage | None = None
        self.is_finished = False
        """A finish reason has come."""
        self.is_done = False
        """The stream has said that it is over; what follows is not forwarded."""
        self.is_error = False

    @property
    def is_whole(self) -> bool:
        """Whether a stream that ends here has ended properly."""
        if self._pending and self._pending.strip(b"\r\n"):
            return False
        return self.is_done or self.is_finished or self._dialect not in _READERS

    def feed(self, data: bytes) -> bytes:
        """What may be forwarded now: every event that is complete. Raises FramingError for an endless event."""
        if self.is_done:
            return b""
        pending = self._pending
        if pending or data[-2:] != b"\n\n":
            data = self._whole_events(data)
            if not data:
                return b""
        if self._dialect in _OPENAI:
            if self.has_token and _is_plain_openai(data):
                self.deltas += data.count(b"\n\n")
                return data
        elif self.has_token and self._is_plain(data):
            self.deltas += data.count(b"\n\n")
            return data
        return self._read(data)

    def _whole_events(self, data: bytes) -> bytes:
        """The events completed by `data`; the beginning of the next one is kept back."""
        pending = self._pending
        start = max(0, len(pending) - 3)
        pending += data
        end = pending.rfind(b"\n\n", start) + 2
        if b"\r" in data or pending.find(b"\r", start) >= 0:
            for boundary in _BOUNDARY.finditer(pending, start):
                end = max(end, boundary.end())
        if end < 2:
            if len(pending) > MAX_EVENT_BYTES:
                raise FramingError("an event of the stream is larger than 1 MiB")
            return b""
        whole = bytes(pending[:end])
        del pending[:end]
        if len(pending) > MAX_EVENT_BYTES:
            raise FramingError("an event of the stream is larger than 1 MiB")
        return whole

    def _is_plain(self, block: bytes) -> bool:
        """Whether a block of a dialect with named events holds nothing but deltas of text."""
        name = _PLAIN_EVENTS.get(self._dialect)
        return name is not None and block.count(name) == block.count(b"\n\n")

    def _read(self, block: bytes) -> bytes:
        """Read every event of a block; what of it goes on."""
        read = _READERS.get(self._dialect)
        if read is None:
            self.deltas += 1
            self.has_token = True
            return block
        position, kept, dropped = 0, [], False
        while position < len(block):
            if self.has_token and self._dialect in _OPENAI:
                plain = _end_of_plain(block, position)
                if plain > position:
                    kept.append(block[position:plain])
                    self.deltas += block.count(b"\n\n", position, plain)
                    position = plain
                    continue
            boundary = _BOUNDARY.search(block, position)
            if boundary is None:
                break
            event = block[position : boundary.end()]
            position = boundary.end()
            name, payload = _event_of(event)
            if payload is not None and not read(self, name, payload) and self._drops_usage:
                dropped = True
                continue
            kept.append(event)
            if self.is_done:
                break
        if dropped or self.is_done:
            return b"".join(kept)
        return block


def _event_of(event: bytes) -> tuple[bytes, bytes | None]:
    """Name and data of an event; no data for a comment."""
    name, payload = b"", None
    for line in _LINES.split(event):
        field, _, value = line.partition(b":")
        value = value[1:] if value[:1] == b" " else value
        if field == b"data":
            payload = value if payload is None else payload + b"\n" + value
        elif field == b"event":
            name = value
    return name, payload


def _decoded(payload: bytes) -> dict[str, Any] | None:
    try:
        value = msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _is_plain_openai(block: bytes) -> bool:
    """Whether a block holds nothing but deltas: no usage, no finish reason, no end, no error, no comment."""
    finish = block.count(b'"finish_reason"')
    if finish and finish != block.count(b'"finish_reason":null') + block.count(b'"finish_reason": null'):
        return False
    usage = block.count(b'"usage"')
    if usage and usage != block.count(b'"usage":null') + block.count(b'"usage": null'):
        return False
    return b"[DONE]" not in block and b'"error"' not in block and block.count(b"data:") == block.count(b"\n\n")


def _end_of_plain(block: bytes, start: int) -> int:
    """Where the deltas that begin at `start` end and something begins that has to be read; `start` for nowhere."""
    told = _TOLD.search(block, start) if block.startswith(b"data:", start) else None
    if told is None:
        return start
    last = block.rfind(b"\n\n", start, told.start() + 2)
    return last + 2 if last >= 0 else start


def _read_openai(scanner: EventScanner, _name: bytes, payload: bytes) -> bool:
    """Chat and completions. Returns False for the chunk that holds only the usage."""
    if payload.startswith(b"[DONE]"):
        scanner.is_done = True
        return True
    said = _decoded(payload)
    if said is None:
        return True
    if said.get("error"):
        scanner.is_error = True
        return True
    usage = usage_of(said.get("usage"))
    scanner.usage = merged(scanner.usage, usage)
    choices = said.get("choices")
    if not isinstance(choices, list) or not choices:
        return usage is None
    for choice in choices:
        if not isinstance(choice, dict):
            continue
        if choice.get("finish_reason"):
            scanner.is_finished = True
        delta = choice.get("delta")
        if choice.get("text") or (isinstance(delta, dict) and any(delta.get(field) for field in _TOKEN_FIELDS)):
            scanner.has_token = True
            scanner.deltas += 1
    return True


def _read_messages(scanner: EventScanner, name: bytes, payload: bytes) -> bool:
    """Anthropic's messages: named events, cumulative usage, no `[DONE]`."""
    said = _decoded(payload)
    if said is None:
        return True
    kind = said.get("type") or name.decode("latin-1")
    if kind == "content_block_delta":
        scanner.has_token = True
        scanner.deltas += 1
    elif kind == "message_start":
        message = said.get("message")
        scanner.usage = usage_of(message.get("usage")) if isinstance(message, dict) else None
    elif kind == "message_delta":
        scanner.usage = merged(scanner.usage, usage_of(said.get("usage")))
        scanner.is_finished = True
    elif kind == "message_stop":
        scanner.is_done = True
    elif kind == "error":
        scanner.is_error = True
    return True


def _read_responses(scanner: EventScanner, name: bytes, payload: bytes) -> bool:
    """The responses API: the last event holds the whole response with its usage."""
    if payload.startswith(b"[DONE]"):
        scanner.is_done = True
        return True
    said = _decoded(payload)
    if said is None:
        return True
    kind = str(said.get("type") or name.decode("latin-1"))
    if kind.endswith(".delta"):
        scanner.has_token = True
        scanner.deltas += 1
    elif kind in ("response.completed", "response.incomplete", "response.failed"):
        response = said.get("response")
        if isinstance(response, dict):
            scanner.usage = merged(scanner.usage, usage_of(response.get("usage")))
        scanner.is_finished = True
        scanner.is_error = kind == "response.failed"
    elif kind == "error":
        scanner.is_error = True
    return True


_READERS: Final = {
    "chat": _read_openai,
    "completions": _read_openai,
    "messages": _read_messages,
    "responses": _read_responses,
}
_PLAIN_EVENTS: Final = {
    "messages": b"event: content_block_delta\n",
    "responses": b"event: response.output_text.delta\n",
}
