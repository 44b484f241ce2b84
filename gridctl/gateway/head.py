"""Head: one request's method, target and headers, refused unless every byte of it is plain HTTP/1.1.

Bytes are counted before anything is parsed. On top of the grammar: exactly one Host, no header twice where two would
have a say, no Transfer-Encoding but `chunked`, none in HTTP/1.0 and none beside a Content-Length. What passes has one
meaning for every reader. Decides nothing about the request itself. Source: RFC 9112 sections 3.2, 6.1 and 6.3.
"""

from __future__ import annotations

from typing import Final

from gridctl.broker.refusal import Refusal
from gridctl.gateway.grammar import CHUNKED, LENGTH, REQUEST_HEAD, fields_of, tokens_of
from gridctl.gateway.templates import Templates, cut

MAX_HEADERS: Final = 100
MAX_TARGET_BYTES: Final = 8 * 1024

JOINED: Final = frozenset(
    (b"accept", b"accept-encoding", b"accept-language", b"cache-control", b"connection", b"cookie", b"forwarded",
     b"keep-alive", b"pragma", b"te", b"tracestate", b"trailer", b"upgrade", b"via", b"x-forwarded-for",
     b"anthropic-beta", b"openai-beta")
)  # fmt: skip
"""Headers that are lists, so that two lines of one mean the same as one line."""


class Head:
    """What `broker.Head` asks for, and how the body is framed. `content_length` is None without one; `headers` hold
    none, and are shared between heads that are alike. `size` is the head's own, with its empty line."""

    __slots__ = (
        "content_length",
        "expects_continue",
        "headers",
        "is_chunked",
        "keep_alive",
        "method",
        "minor_version",
        "path",
        "peer",
        "query",
        "size",
    )

    method: str
    path: str
    query: str
    headers: dict[bytes, bytes]
    peer: str
    minor_version: int
    content_length: int | None
    is_chunked: bool
    keep_alive: bool
    expects_continue: bool
    size: int


def malformed(message: str, *, status: int = 400, code: str = "malformed_request") -> Refusal:
    """A request that is not HTTP as it should be; the connection is closed after the answer."""
    return Refusal(status, message, reason="bad-request", code=code, should_retry=False)


def head_too_large(limit: int) -> Refusal:
    """More bytes of head than are read from anybody."""
    return malformed(f"The request's headers are larger than {limit:,} bytes.", status=431, code="headers_too_large")


_templates: Final[Templates[Head]] = Templates()


def head_like_last(data: bytes, peer: str, most: int) -> Head | None:
    """The head that `data` begins with, if it is like the one before and has `most` bytes or fewer."""
    size = _templates.begins(data, most)
    like = _templates.last
    return _alike(like, _templates.length, size, peer) if size and like is not None else None


def parse_head(raw: bytes, peer: str) -> Head:
    """The head in `raw`, which ends in an empty line. Raises Refusal for anything but plain HTTP/1.1 or 1.0."""
    found = cut(raw)
    if found is None:
        return _parse(raw, peer)
    template, length = found
    like = _templates.get(template)
    if like is not None:
        return _alike(like, length, len(raw), peer)
    head = _parse(raw, peer)
    if head.content_length == length:
        _templates.learn(template, head)
    return head


def _alike(like: Head, length: int, size: int, peer: str) -> Head:
    """A head that differs from another one in its length."""
    head = Head()
    head.method, head.path, head.query, head.headers = like.method, like.path, like.query, like.headers
    head.minor_version, head.keep_alive, head.expects_continue = (
        like.minor_version,
        like.keep_alive,
        like.expects_continue,
    )
    head.peer, head.content_length, head.is_chunked, head.size = peer, length, False, size
    return head


def _parse(raw: bytes, peer: str) -> Head:
    matched = REQUEST_HEAD.fullmatch(raw)
    if matched is None:
        raise malformed("The request is not well-formed HTTP/1.1.")
    method, target, major, minor, block = matched.groups()
    if major != b"1":
        raise malformed("Only HTTP/1.1 and HTTP/1.0 are spoken here.", status=505, code="http_version_not_supported")
    if len(target) > MAX_TARGET_BYTES:
        raise malformed(
            f"The request's target is longer than {MAX_TARGET_BYTES:,} bytes.", status=414, code="uri_too_long"
        )
    fields = fields_of(block)
    if len(fields) > MAX_HEADERS:
        raise malformed(f"The request has more than {MAX_HEADERS} headers.", status=431, code="headers_too_large")
    headers = dict(fields)
    if len(headers) != len(fields):
        headers = _joined(fields)
    head = Head()
    head.method = method.decode("ascii")
    head.path, head.query = _target(target)
    head.headers, head.peer, head.size = headers, peer, len(raw)
    head.minor_version = 0 if minor == b"0" else 1
    _frame(head, block)
    if head.minor_version and b"host" not in headers:
        raise malformed("The request has no Host header.")
    return head


def _joined(fields: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """One value for each name; lists are joined, and everything else that comes twice is refused."""
    headers: dict[bytes, bytes] = {}
    for name, value in fields:
        if name not in headers:
            headers[name] = value
        elif name in JOINED:
            headers[name] += b", " + value
        else:
            raise malformed(f"The header {name.decode('ascii')} comes twice.")
    return headers


def _target(target: bytes) -> tuple[str, str]:
    """Path and query of an origin-form target; other forms are for proxies."""
    if not target.startswith(b"/") or b"#" in target:
        raise malformed("The request's target must be a path.")
    path, _, query = target.decode("ascii").partition("?")
    return path, query


def _frame(head: Head, block: bytes) -> None:
    """Where the body ends and whether the connection stays; refuses what two readers could read differently."""
    headers = head.headers
    coding = headers.get(b"transfer-encoding")
    length = headers.pop(b"content-length", None)
    head.is_chunked = False
    head.content_length = None
    if coding is not None:
        if length is not None:
            raise malformed("The request has both Content-Length and Transfer-Encoding.")
        if not CHUNKED.search(block):
            raise malformed("The only transfer coding read here is chunked.", status=501, code="not_implemented")
        if not head.minor_version:
            raise malformed("HTTP/1.0 has no Transfer-Encoding.")
        head.is_chunked = True
    elif length is not None:
        if LENGTH.fullmatch(length) is None:
            raise malformed("The request's Content-Length is not a number.")
        head.content_length = int(length)
    connection = headers.get(b"connection")
    if connection is None:
        head.keep_alive = bool(head.minor_version)
    else:
        words = tokens_of(connection)
        head.keep_alive = b"close" not in words and (bool(head.minor_version) or b"keep-alive" in words)
    expect = headers.get(b"expect")
    head.expects_continue = False
    if expect is not None:
        if expect.lower() != b"100-continue":
            raise malformed("The only expectation met here is 100-continue.", status=417, code="expectation_failed")
        head.expects_continue = bool(head.minor_version)
