"""Sealing: what it hides, what it notices, and that it is the cipher that it says."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import given
from hypothesis import strategies as st

from gridctl.answers.sealing import OVERHEAD_BYTES, Sealing

KEY = bytes(range(32))


@given(st.binary(max_size=300), st.binary(max_size=40))
def test_what_is_sealed_for_a_name_opens_under_that_name_only(text: bytes, name: bytes) -> None:
    sealed = Sealing(KEY).seal(name, text)
    assert len(sealed) == len(text) + OVERHEAD_BYTES
    assert Sealing(KEY).open(name, sealed) == text
    assert Sealing(KEY).open(name + b"x", sealed) is None
    assert Sealing(KEY[::-1]).open(name, sealed) is None


@given(st.binary(min_size=1, max_size=60), st.data())
def test_any_changed_bit_and_any_cut_is_noticed(text: bytes, data: st.DataObject) -> None:
    sealed = Sealing(KEY).seal(b"name", text)
    at = data.draw(st.integers(0, 8 * len(sealed) - 1))
    changed = bytearray(sealed)
    changed[at // 8] ^= 1 << at % 8
    assert Sealing(KEY).open(b"name", bytes(changed)) is None
    assert Sealing(KEY).open(b"name", sealed[: at // 8]) is None


def test_no_two_texts_are_sealed_alike() -> None:
    sealing = Sealing(KEY)
    assert len({sealing.seal(b"name", b"text")[1:25] for _ in range(1_000)}) == 1_000


def test_it_is_chacha20_poly1305_under_keyed_blake2b_of_the_salt() -> None:
    sealed = Sealing(KEY).seal(b"name", b"text")
    one_time = hashlib.blake2b(sealed[1:25], key=KEY, digest_size=32).digest()
    assert ChaCha20Poly1305(one_time).decrypt(bytes(12), sealed[25:], b"\x01name") == b"text"


@pytest.mark.parametrize("sealed", [b"", b"\x01", b"\x01" * 40, b"\x01" * 41, b"\x02" * 41, bytes(1_000)])
def test_what_was_never_sealed_does_not_open(sealed: bytes) -> None:
    assert Sealing(KEY).open(b"name", sealed) is None
