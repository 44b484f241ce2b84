"""Reply: what the client gets of an exchange: one head, then the body in the framing that it promised, and an end.

Whatever has gone out decides how an error can still be told: as a response of its own, as the last event of a stream,
or, in the middle of an answer in one piece, only by breaking the connection off. Decides nothing about engines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gridctl.gateway import answer_head
from gridctl.gateway.answer import error_answer, error_event, status_line
from gridctl.gateway.chunks import LAST_CHUNK, chunk

if TYPE_CHECKING:
    from gridctl.broker.refusal import Refusal
    from gridctl.gateway.attempt import Attempt
    from gridctl.gateway.exchange import Exchange
    from gridctl.gateway.recipient import Recipient

NOTHING: Final = 0
PROMISED: Final = 1
BEGUN: Final = 2
COMMENT: Final = b": keep-alive\n\n"
_STREAM_TYPE: Final = b"content-type: text/event-stream\r\n"


class Reply:
    """One exchange's reply. `status` is the one that was sent; `state` whether a head has gone (PROMISED: of a stream
    of which there are only comments yet)."""

    __slots__ = ("_client", "_endpoint", "_is_chunked", "_is_stream", "state", "status")

    def __init__(self, client: Recipient, endpoint: str) -> None:
        self._client = client
        self._endpoint = endpoint
        self._is_chunked = False
        self._is_stream = False
        self.state = NOTHING
        self.status = 0

    def whole(self, attempt: Attempt, body: bytes) -> None:
        """An answer in one piece, complete."""
        head = attempt.head
        assert head is not None
        if self.state == PROMISED:
            self._write(_as_event(self._endpoint, body), is_last=True)
            return
        self.state, self.status = BEGUN, head.status
        framing = b"" if head.status == 204 else b"content-length: %d\r\n" % len(body)
        self._client.write(answer_head.compose(attempt, framing, self._client.last_line()) + body)

    def begin(self, attempt: Attempt, data: bytes, *, is_last: bool) -> None:
        """The beginning of an answer whose end is not known yet."""
        head = attempt.head
        assert head is not None
        if self.state == PROMISED:
            self.state = BEGUN
            self._write(data, is_last=is_last)
            return
        self.state, self.status = BEGUN, head.status
        self._is_stream = attempt.scanner is not None
        if self._is_stream or head.content_length is None:
            framing = self._endless()
        else:
            framing = b"content-length: %d\r\n" % head.content_length
        self._write(data, is_last=is_last, head=answer_head.compose(attempt, framing, self._client.last_line()))

    def go_on(self, data: bytes, *, is_last: bool) -> None:
        """More of an answer that has begun."""
        self._write(data, is_last=is_last)

    def ready(self, exchange: Exchange, body: bytes) -> None:
        """An answer in one piece that no engine was asked for."""
        self.state, self.status = BEGUN, 200
        framing = b"content-type: application/json\r\ncontent-length: %d\r\n" % len(body)
        self._client.write(answer_head.compose_own(exchange, framing, self._client.last_line()) + body)

    def begin_own(self, exchange: Exchange, data: bytes, *, is_last: bool) -> None:
        """The beginning of a stream that no engine was asked for."""
        self.state, self.status, self._is_stream = BEGUN, 200, True
        framing = _STREAM_TYPE + self._endless()
        head = answer_head.compose_own(exchange, framing, self._client.last_line())
        self._write(data, is_last=is_last, head=head)

    def turn_to(self, client: Recipient) -> None:
        """Write to somebody else from now on."""
        self._client = client

    def comment(self, attempt: Attempt) -> None:
        """A sign of life for a client that waits for a stream: a comment, which its reader passes over."""
        head = b""
        if self.state == NOTHING:
            self.state, self.status, self._is_stream = PROMISED, 200, True
            framing = _STREAM_TYPE + self._endless()
            head = answer_head.compose_promise(attempt, status_line(200) + framing, self._client.last_line())
        self._write(COMMENT, is_last=False, head=head)

    def fail(self, refusal: Refusal, request_id: bytes) -> None:
        """The end, as an error in the shape that the client still can read."""
        client = self._client
        if self.state == NOTHING:
            self.status = refusal.status
            client.write(error_answer(self._endpoint, refusal, request_id, keep_alive=client.keep_alive))
            return
        client.keep_alive = False
        if self._is_stream:
            self._write(error_event(self._endpoint, refusal), is_last=True)
        else:
            client.breaks_off = True

    def _endless(self) -> bytes:
        """The framing of a body whose length nobody knows, in the client's version of HTTP."""
        more = answer_head.STREAM if self._is_stream else b""
        if self._client.minor_version:
            self._is_chunked = True
            return answer_head.CHUNKED + more
        self._client.keep_alive = False
        return more

    def _write(self, data: bytes, *, is_last: bool, head: bytes = b"") -> None:
        """One write for all there is."""
        if self._is_chunked:
            if data:
                data = chunk(data)
            if is_last:
                data += LAST_CHUNK
        self._client.write(head + data if head else data)


def _as_event(endpoint: str, body: bytes) -> bytes:
    """An answer in one piece (mostly an error) as an event of the stream that was promised instead."""
    name = b"event: error\n" if endpoint in ("messages", "responses") else b""
    lines = body.replace(b"\r", b"").split(b"\n")
    return name + b"".join(b"data: %b\n" % line for line in lines) + b"\n"
