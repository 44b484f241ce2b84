"""Engine head: the status and headers of an engine's answer, read as strictly as a client's request.

Engines are other people's programs, perhaps broken, perhaps hostile. What of their headers reaches a client is chosen
here: nothing that steers a connection, no cookie, none of our own names. Sources: RFC 9110 section 7.6.1, RFC 9112
section 6.3.
"""

from __future__ import annotations

from typing import Final

from gridctl.gateway.chunks import FramingError
from gridctl.gateway.grammar import LENGTH, RESPONSE_HEAD, fields_of, tokens_of
from gridctl.gateway.templates import Templates, cut

MAX_HEAD_BYTES: Final = 32 * 1024
MAX_HEADERS: Final = 100

WITHHELD: Final = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"proxy-authentication-info", b"te",
     b"trailer", b"transfer-encoding", b"upgrade", b"content-length", b"server", b"date", b"set-cookie", b"alt-svc",
     b"strict-transport-security", b"x-request-id", b"x-should-retry", b"www-authenticate", b"location",
     b"access-control-allow-origin", b"access-control-allow-credentials", b"via", b"cache-control",
     b"x-accel-buffering")
)  # fmt: skip
"""Headers about the engine's connection, host or identity; the gateway says its own where the client needs them."""

OUR_PREFIX: Final = b"x-gridctl-"


class EngineHead:
    """`forwarded` is the block of headers for the client, each line ended; `content_length` is None without one; `size`
    is the head's own. Heads that are alike are one object: it is not changed once it is read."""

    __slots__ = (
        "content_length",
        "forwarded",
        "has_no_body",
        "is_chunked",
        "is_encoded",
        "is_event_stream",
        "keep_alive",
        "keep_alive_s",
        "retry_after",
        "size",
        "status",
    )

    status: int
    forwarded: bytes
    content_length: int | None
    is_chunked: bool
    has_no_body: bool
    is_event_stream: bool
    is_encoded: bool
    keep_alive: bool
    keep_alive_s: float | None
    retry_after: bytes | None
    size: int


_templates: Final[Templates[EngineHead]] = Templates()


def engine_head_like_last(data: bytes) -> EngineHead | None:
    """The head that `data` begins with, if it is like the one before."""
    size = _templates.begins(data, MAX_HEAD_BYTES)
    like = _templates.last
    return _alike(like, _templates.length, size) if size and like is not None else None


def parse_engine_head(raw: bytes) -> EngineHead:
    """The head in `raw`, which ends in an empty line. Raises FramingError for anything but plain HTTP/1."""
    found = cut(raw)
    if found is None:
        return _parse(raw)
    template, length = found
    like = _templates.get(template)
    if like is not None:
        return _alike(like, length, len(raw))
    head = _parse(raw)
    if head.content_length == length:
        _templates.learn(template, head)
    return head


def _alike(like: EngineHead, length: int, size: int) -> EngineHead:
    """The same head before a body of maybe another length."""
    if like.content_length == length and like.size == size:
        return like
    head = EngineHead()
    head.size = size
    head.status, head.forwarded, head.content_length = like.status, like.forwarded, length
    head.is_chunked, head.has_no_body, head.is_event_stream = like.is_chunked, like.has_no_body, like.is_event_stream
    head.is_encoded, head.retry_after = like.is_encoded, like.retry_after
    head.keep_alive, head.keep_alive_s = like.keep_alive, like.keep_alive_s
    return head


def _parse(raw: bytes) -> EngineHead:
    matched = RESPONSE_HEAD.fullmatch(raw)
    if matched is None:
        raise FramingError("the engine's answer is not well-formed HTTP/1.1")
    fields = fields_of(matched[3])
    if len(fields) > MAX_HEADERS:
        raise FramingError("the engine's answer has more than 100 headers")
    head = EngineHead()
    head.size = len(raw)
    head.status = int(matched[2])
    head.keep_alive = matched[1] == b"1"
    head.content_length = head.keep_alive_s = head.retry_after = None
    head.is_chunked = head.is_event_stream = head.is_encoded = False
    head.has_no_body = head.status < 200 or head.status in (204, 304)
    forwarded = []
    for name, value in fields:
        if name in WITHHELD:
            _read_control(head, name, value)
            continue
        if name == b"content-type":
            head.is_event_stream = value[:17].lower() == b"text/event-stream"
        elif name == b"content-encoding":
            head.is_encoded = value.lower() != b"identity"
        elif name == b"retry-after":
            head.retry_after = value
        elif name.startswith(OUR_PREFIX):
            continue
        forwarded.append(b"%b: %b\r\n" % (name, value))
    if head.is_chunked and head.content_length is not None:
        raise FramingError("the engine's answer has both Content-Length and Transfer-Encoding")
    head.forwarded = b"".join(forwarded)
    return head


def _read_control(head: EngineHead, name: bytes, value: bytes) -> None:
    """What a withheld header means to the connection."""
    if name == b"content-length":
        if head.content_length is not None:
            raise FramingError("the engine's answer has two lengths")
        if LENGTH.fullmatch(value) is None:
            raise FramingError("the engine's Content-Length is not a number")
        head.content_length = int(value)
    elif name == b"transfer-encoding":
        if head.is_chunked or value.lower() != b"chunked":
            raise FramingError("the engine uses a transfer coding other than chunked")
        head.is_chunked = True
    elif name == b"connection":
        words = tokens_of(value)
        if b"close" in words:
            head.keep_alive = False
        elif b"keep-alive" in words:
            head.keep_alive = True
    elif name == b"keep-alive":
        for word in tokens_of(value):
            if word.startswith(b"timeout=") and LENGTH.fullmatch(word, 8):
                head.keep_alive_s = float(word[8:])
