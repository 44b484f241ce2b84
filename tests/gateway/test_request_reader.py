"""Requests out of bytes: limits, pieces, and what follows."""

from __future__ import annotations

import pytest

from gridctl.broker.refusal import Refusal
from gridctl.gateway.limits import Limits
from gridctl.gateway.request_reader import COMPLETE, IN_BODY, RequestReader

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"
CHUNKED = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


def reader_of(held: int = 1 << 20) -> RequestReader:
    return RequestReader(Limits(10, 10, held))


def read_all(reader: RequestReader, data: bytes, step: int, most_body: int = 1000) -> bytes:
    rest = b""
    for at in range(0, len(data), step):
        rest = reader.read(data[at : at + step], "", 32 * 1024, most_body)
        if reader.state == COMPLETE:
            return rest + data[at + step :]
    return rest


@pytest.mark.parametrize("step", [1, 3, 1000])
@pytest.mark.parametrize(
    ("message", "body"),
    [
        (HEAD + b"hello", b"hello"),
        (CHUNKED + b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", b"hello"),
        (b"\r\n" + HEAD + b"hello", b"hello"),
    ],
)  # fmt: skip
def test_a_request_is_complete_with_its_last_byte_and_not_a_byte_later(message: bytes, body: bytes, step: int) -> None:
    reader = reader_of()
    assert read_all(reader, message + b"GET /next", step) == b"GET /next"
    assert reader.state == COMPLETE
    assert reader.body == body


def test_a_body_is_refused_by_its_length_before_it_is_sent() -> None:
    reader = reader_of()
    with pytest.raises(Refusal) as caught:
        reader.read(HEAD, "", 32 * 1024, 4)
    assert caught.value.status == 413
    assert reader_of().read(HEAD, "", 32 * 1024, 5) == b""


def test_a_chunked_body_is_refused_by_the_byte_that_is_too_many() -> None:
    reader = reader_of()
    reader.read(CHUNKED + b"5\r\nhello\r\n", "", 32 * 1024, 5)
    assert reader.state == IN_BODY
    with pytest.raises(Refusal) as caught:
        reader.read(b"1\r\n!\r\n", "", 32 * 1024, 5)
    assert caught.value.status == 413


@pytest.mark.parametrize("size", [32 * 1024 - 1, 32 * 1024])
def test_a_head_may_have_32_kib_and_no_more(size: int) -> None:
    frame = len(b"GET / HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n")
    reader = reader_of()
    reader.read(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * (size - frame) + b"\r\n\r\n", "", 32 * 1024, 5)
    assert reader.state == COMPLETE
    with pytest.raises(Refusal) as caught:
        reader_of().read(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * (32 * 1024), "", 32 * 1024, 5)
    assert caught.value.status == 431


def test_a_head_without_an_end_is_refused_at_the_limit() -> None:
    reader = reader_of()
    for _ in range(31):
        reader.read(b"X: " + b"a" * 1021, "", 32 * 1024, 5)
    with pytest.raises(Refusal) as caught:
        reader.read(b"X: " + b"a" * 1021, "", 32 * 1024, 5)
    assert caught.value.status == 431


def test_all_bodies_together_are_bounded_and_given_back() -> None:
    limits = Limits(10, 10, 8)
    first, second = RequestReader(limits), RequestReader(limits)
    first.read(HEAD, "", 32 * 1024, 100)
    assert limits.held_body_bytes == 5
    with pytest.raises(Refusal) as caught:
        second.read(HEAD, "", 32 * 1024, 100)
    assert caught.value.status == 503
    first.release()
    assert limits.held_body_bytes == 0
    RequestReader(limits).read(HEAD, "", 32 * 1024, 100)


def test_a_malformed_chunk_is_a_bad_request() -> None:
    with pytest.raises(Refusal) as caught:
        reader_of().read(CHUNKED + b"nonsense\r\n", "", 32 * 1024, 5)
    assert caught.value.status == 400
