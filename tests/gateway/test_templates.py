"""Heads that are alike but for their length, and heads that only look so."""

from __future__ import annotations

import pytest

from gridctl.broker.refusal import Refusal
from gridctl.gateway.engine_head import parse_engine_head
from gridctl.gateway.head import parse_head
from gridctl.gateway.templates import MOST_TEMPLATES, Templates, cut


def request(length: bytes, name: bytes = b"Content-Length", more: bytes = b"") -> bytes:
    return b"POST /v1/x HTTP/1.1\r\nHost: a\r\n%b%b: %b\r\nAccept: b\r\n\r\n" % (more, name, length)


def test_heads_that_differ_in_length_alone_are_read_alike() -> None:
    first, second = parse_head(request(b"5"), "10.0.0.1"), parse_head(request(b"123"), "10.0.0.2")
    assert (first.content_length, second.content_length) == (5, 123)
    assert (first.peer, second.peer) == ("10.0.0.1", "10.0.0.2")
    assert first.headers == second.headers == {b"host": b"a", b"accept": b"b"}
    assert parse_head(request(b"5"), "").content_length == 5


@pytest.mark.parametrize("length", [b"+5", b"-5", b"5,5", b"0x5", b"5 5", b"", b"\xb2", b"1" * 16, b"5\t5"])
def test_a_length_that_is_no_number_is_refused_although_the_rest_is_known(length: bytes) -> None:
    assert parse_head(request(b"5"), "").content_length == 5
    with pytest.raises(Refusal):
        parse_head(request(length), "")


def test_a_head_like_the_one_before_is_known_by_what_is_around_its_length() -> None:
    known: Templates[str] = Templates()
    raw = request(b"5")
    found = cut(raw)
    assert found is not None
    assert known.begins(raw, 1000) == 0
    known.learn(found[0], "a head")
    assert known.begins(raw, 1000) == 0, "only a template that was met again is the last"
    assert known.get(found[0]) == "a head"
    longer = request(b"123456")
    assert (known.begins(longer + b"a body", 1000), known.length, known.last) == (len(longer), 123456, "a head")
    assert known.begins(longer, len(longer)) == len(longer)
    assert known.begins(longer, len(longer) - 1) == 0, "a head that is too long is told as such, by whoever parses it"
    for other in (b"", b"1" * 16, b"5 ", b"-5", b"\xb2"):
        assert known.begins(request(other), 1000) == 0
    assert known.begins(request(b"5", more=b"X: y\r\n"), 1000) == 0
    assert known.begins(raw[:-1], 1000) == 0
    assert known.begins(b"", 1000) == 0


def test_another_header_that_ends_in_the_same_words_is_not_taken_for_the_length() -> None:
    for told in (b"5", b"6"):
        more = b"X-Content-Length: %b\r\n" % told
        assert parse_head(request(b"5", more=more), "").content_length == 5
    for told in (b"5", b"6"):
        more = b"X: y, Content-Length: %b\r\n" % told
        assert parse_head(request(b"5", more=more), "").content_length == 5


def test_a_second_length_is_refused_whichever_is_cut_out() -> None:
    for name in (b"content-length", b"Content-Length", b"CONTENT-LENGTH"):
        for more in (b"content-length: 5\r\n", b"Content-Length: 5\r\n", b"CONTENT-LENGTH: 5\r\n"):
            with pytest.raises(Refusal):
                parse_head(request(b"5", name, more), "")


def test_a_length_beside_chunks_is_refused_every_time() -> None:
    for _ in range(2):
        with pytest.raises(Refusal):
            parse_head(request(b"5", more=b"Transfer-Encoding: chunked\r\n"), "")


def test_answers_that_differ_in_length_alone_are_read_alike() -> None:
    raw = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\nx-a: b\r\n\r\n"
    heads = [parse_engine_head(raw % length) for length in (5, 70, 5, 0)]
    assert [head.content_length for head in heads] == [5, 70, 5, 0]
    assert {head.forwarded for head in heads} == {b"content-type: application/json\r\nx-a: b\r\n"}


def test_the_store_is_bounded() -> None:
    templates: Templates[int] = Templates()
    for number in range(3 * MOST_TEMPLATES):
        templates.learn((number, b""), number)
    assert sum(templates.get((number, b"")) is not None for number in range(3 * MOST_TEMPLATES)) <= MOST_TEMPLATES
    templates.learn((1, b"x" * 5000), 1)
    assert templates.get((1, b"x" * 5000)) is None


def test_a_head_without_a_length_has_no_template() -> None:
    assert cut(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n") is None
    assert cut(b"GET / HTTP/1.1\r\nContent-Length: 5") is None
