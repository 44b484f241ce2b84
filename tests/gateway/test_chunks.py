"""The chunked coding, whole and in pieces."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridctl.gateway.chunks import LAST_CHUNK, ChunkedReader, FramingError, chunk


def read(data: bytes, step: int) -> tuple[bytes, ChunkedReader]:
    reader = ChunkedReader()
    payload = b"".join(reader.feed(data[at : at + step]) for at in range(0, len(data), step))
    return payload, reader


@pytest.mark.parametrize("step", [1, 2, 3, 7, 10_000])
def test_a_message_is_the_same_however_it_is_cut(step: int) -> None:
    message = b"5\r\nhello\r\nA;name=value\r\n0123456789\r\n0\r\n\r\n"
    payload, reader = read(message, step)
    assert payload == b"hello0123456789"
    assert reader.is_done
    assert reader.rest == b""


@pytest.mark.parametrize("step", [1, 4, 10_000])
def test_trailers_are_read_and_thrown_away(step: int) -> None:
    payload, reader = read(b"1\r\nx\r\n0\r\nX-Sum: 1\r\nY: 2\r\n\r\n", step)
    assert payload == b"x"
    assert reader.is_done


def test_what_follows_the_message_is_left_alone() -> None:
    reader = ChunkedReader()
    assert reader.feed(b"1\r\nx\r\n0\r\n\r\nGET / HTTP/1.1\r\n") == b"x"
    assert reader.rest == b"GET / HTTP/1.1\r\n"


@pytest.mark.parametrize(
    "data",
    [
        b"0x5\r\nhello\r\n",
        b"+5\r\nhello\r\n",
        b"-1\r\n",
        b" 5\r\nhello\r\n",
        b"5 \r\nhello\r\n",
        b"\r\nhello\r\n",
        b"g\r\n",
        b"5\nhello\r\n",
        b"5\r\nhelloX\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"5\r\nhello\rX",
        b"5;\x00\r\nhello\r\n",
        b"5;a\nb\r\nhello\r\n",
        b"FFFFFFFFFFFFFFFFF\r\n",
        b"0\r\nbad trailer\r\n\r\n",
        b"0\r\n folded: x\r\n\r\n",
        b"1" * 1100,
        b"0\r\n" + b"a: b\r\n" * 2000,
    ],
)
@pytest.mark.parametrize("step", [1, 10_000])
def test_junk_is_a_framing_error(data: bytes, step: int) -> None:
    with pytest.raises(FramingError):
        read(data, step)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=60), max_size=8), st.integers(1, 40))
def test_what_is_written_is_read_back(payloads: list[bytes], step: int) -> None:
    message = b"".join(map(chunk, payloads)) + LAST_CHUNK
    payload, reader = read(message, step)
    assert payload == b"".join(payloads)
    assert reader.is_done


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.integers(1, 20))
def test_any_bytes_are_payload_or_a_framing_error(data: bytes, step: int) -> None:
    try:
        payload, _ = read(data, step)
    except FramingError:
        return
    assert len(payload) <= len(data)
