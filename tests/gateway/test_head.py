"""Heads of requests: what passes means one thing to every reader, and everything else is refused."""

from __future__ import annotations

import contextlib
import random

import h11
import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridctl.broker.refusal import Refusal
from gridctl.gateway.head import Head, parse_head

POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
GOOD = b"POST /v1/chat/completions?a=b HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nX-Thing:  two words \t\r\n\r\n"


def refused(raw: bytes) -> int:
    with pytest.raises(Refusal) as caught:
        parse_head(raw, "")
    return caught.value.status


def test_a_plain_head_is_read_as_it_stands() -> None:
    head = parse_head(GOOD, "10.0.0.1")
    assert (head.method, head.path, head.query, head.peer) == ("POST", "/v1/chat/completions", "a=b", "10.0.0.1")
    assert head.headers == {b"host": b"x", b"x-thing": b"two words"}
    assert (head.content_length, head.is_chunked, head.keep_alive) == (5, False, True)


@pytest.mark.parametrize(
    ("name", "raw", "status"),
    [
        ("no host", b"GET / HTTP/1.1\r\n\r\n", 400),
        ("two hosts", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("two equal hosts", b"GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n", 400),
        ("length and coding", POST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        ("two lengths", POST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\n", 400),
        ("a list of lengths", POST + b"Content-Length: 1, 1\r\n\r\n", 400),
        ("a signed length", POST + b"Content-Length: +1\r\n\r\n", 400),
        ("a negative length", POST + b"Content-Length: -1\r\n\r\n", 400),
        ("a hexadecimal length", POST + b"Content-Length: 0x1\r\n\r\n", 400),
        ("an empty length", POST + b"Content-Length:\r\n\r\n", 400),
        ("an endless length", POST + b"Content-Length: " + b"9" * 40 + b"\r\n\r\n", 400),
        ("gzip, chunked", POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 501),
        ("chunked twice", POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n", 501),
        ("two codings", POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n", 400),
        ("identity", POST + b"Transfer-Encoding: identity\r\n\r\n", 501),
        ("a coding hidden by a vertical tab", POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n", 400),
        ("chunked in HTTP/1.0", b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        ("a folded line", b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n", 400),
        ("a space before the colon", b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        ("a space before a name", b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
        ("a bare line feed", b"GET / HTTP/1.1\nHost: a\r\n\r\n", 400),
        ("a bare line feed in a value", b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", 400),
        ("a bare carriage return", b"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", 400),
        ("a NUL", b"GET / HTTP/1.1\r\nHost: a\x00b\r\n\r\n", 400),
        ("an empty name", b"GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n", 400),
        ("no colon", b"GET / HTTP/1.1\r\nHost: a\r\nnonsense\r\n\r\n", 400),
        ("two spaces", b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("no version", b"GET /\r\nHost: a\r\n\r\n", 400),
        ("HTTP/2", b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        ("lower case version", b"GET / http/1.1\r\nHost: a\r\n\r\n", 400),
        ("absolute target", b"GET http://other/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("authority target", b"CONNECT other:443 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("a fragment", b"GET /#x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("letters beyond ASCII in the target", "GET /ä HTTP/1.1\r\nHost: a\r\n\r\n".encode(), 400),
        ("two keys", b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n", 400),
        ("two workloads", b"GET / HTTP/1.1\r\nHost: a\r\nX-Gridctl-Workload: a\r\nX-Gridctl-Workload: b\r\n\r\n", 400),
        ("an expectation", POST + b"Content-Length: 1\r\nExpect: cake\r\n\r\n", 417),
        ("a TLS greeting", b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)  # fmt: skip
def test_what_two_readers_could_read_differently_is_refused(name: str, raw: bytes, status: int) -> None:
    assert refused(raw) == status


def test_limits_hold_at_one_more() -> None:
    def with_headers(count: int) -> bytes:
        return b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(b"x-%d: 1\r\n" % n for n in range(count - 1)) + b"\r\n"

    assert len(parse_head(with_headers(100), "").headers) == 100
    assert refused(with_headers(101)) == 431

    def with_target(size: int) -> bytes:
        return b"GET /" + b"a" * (size - 1) + b" HTTP/1.1\r\nHost: a\r\n\r\n"

    assert len(parse_head(with_target(8192), "").path) == 8192
    assert refused(with_target(8193)) == 414


def test_lists_may_come_in_several_lines() -> None:
    head = parse_head(b"GET / HTTP/1.1\r\nHost: a\r\nAccept: x\r\nAccept: y\r\n\r\n", "")
    assert head.headers[b"accept"] == b"x, y"


@pytest.mark.parametrize(
    ("version", "connection", "stays"),
    [
        (b"1.1", None, True),
        (b"1.1", b"close", False),
        (b"1.1", b"Keep-Alive, Close", False),
        (b"1.1", b"keep-alive", True),
        (b"1.0", None, False),
        (b"1.0", b"keep-alive", True),
        (b"1.0", b"close", False),
    ],
)
def test_whether_a_connection_stays_follows_version_and_header(
    version: bytes, connection: bytes | None, stays: bool
) -> None:
    line = b"Connection: %b\r\n" % connection if connection is not None else b""
    assert parse_head(b"GET / HTTP/%b\r\nHost: a\r\n%b\r\n" % (version, line), "").keep_alive is stays


class _SecondReader:
    def __init__(self) -> None:
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.complete = False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        self.complete = True


def agrees_with_httptools(raw: bytes, head: Head) -> bool:
    """Whether an independent parser reads the same method, target and headers."""
    reader = _SecondReader()
    parser = httptools.HttpRequestParser(reader)
    with contextlib.suppress(httptools.HttpParserUpgrade):
        parser.feed_data(raw)
    target = f"{head.path}?{head.query}" if b"?" in reader.url else head.path
    return (
        reader.complete
        and parser.get_method().decode() == head.method
        and reader.url.decode() == target
        and {name for name, _ in reader.headers} - {b"content-length"} == set(head.headers)
        and all(head.headers[name] == value for name, value in reader.headers if name == b"host")
        and [int(value) for name, value in reader.headers if name == b"content-length"]
        == ([] if head.content_length is None else [head.content_length])
    )


MUTATIONS = [
    b"\r",
    b"\n",
    b"\r\n",
    b" ",
    b"\t",
    b"\x00",
    b":",
    b",",
    b";",
    b"\x0b",
    b"\xff",
    b"0",
    b"chunked",
    b"+",
    b"\r\n ",
]


def mutated(seed: int) -> bytes:
    draw = random.Random(seed)
    base = draw.choice(
        [
            GOOD,
            b"POST /v1/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n",
            b"GET /v1/models HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        ]
    )
    raw = bytearray(base)
    for _ in range(draw.randint(1, 3)):
        place = draw.randrange(len(raw))
        kind = draw.randrange(3)
        if kind == 0:
            raw[place:place] = draw.choice(MUTATIONS)
        elif kind == 1:
            del raw[place]
        else:
            raw[place : place + 1] = draw.choice(MUTATIONS)
    return bytes(raw)


def test_ten_thousand_mutated_heads_are_read_as_other_parsers_read_them_or_refused() -> None:
    read = 0
    for seed in range(10_000):
        raw = mutated(seed)
        end = raw.find(b"\r\n\r\n")
        if end < 0:
            continue
        raw = raw[: end + 4]
        try:
            head = parse_head(raw, "")
        except Refusal:
            continue
        read += 1
        try:
            same = agrees_with_httptools(raw, head)
        except httptools.HttpParserInvalidMethodError:
            continue  # the one thing that it refuses and we do not: methods that it does not know. No route takes them.
        assert same, raw
        if head.minor_version:
            other = h11.Connection(h11.SERVER)
            other.receive_data(raw)
            event = other.next_event()
            assert isinstance(event, h11.Request), raw
            assert event.target == (f"{head.path}?{head.query}" if b"?" in event.target else head.path).encode()
    assert read > 500


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_are_a_head_or_a_refusal(raw: bytes) -> None:
    try:
        parse_head(raw + b"\r\n\r\n", "")
    except Refusal as refusal:
        status = refusal.status
    else:
        status = 400
    assert 400 <= status < 506
