"""Blocks of prompts against the standard's hash, computed another way."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from gridctl.broker.blocks import HASHED_BYTES, WINDOW_BYTES, prompt_blocks, tenant_seed


@given(st.binary(max_size=3000), st.binary(max_size=64))
def test_a_block_names_its_window_and_all_before_it(text: bytes, seed: bytes) -> None:
    expected, chain = [], seed
    while len(text) - WINDOW_BYTES * len(expected) >= WINDOW_BYTES:
        start = WINDOW_BYTES * len(expected)
        hasher = hashlib.new("sha256")
        hasher.update(chain)
        hasher.update(text[start : start + WINDOW_BYTES])
        chain = hasher.digest()
        expected.append(int.from_bytes(chain[:8], "little") % 2**62)
    assert prompt_blocks(seed, text).tolist() == expected


@given(st.binary(min_size=1100, max_size=2000), st.integers(0, 1023))
def test_what_differs_early_differs_from_there_on(text: bytes, at: int) -> None:
    other = text[:at] + bytes([text[at] ^ 1]) + text[at + 1 :]
    ours, theirs = prompt_blocks(b"s", text).tolist(), prompt_blocks(b"s", other).tolist()
    first = at // WINDOW_BYTES
    assert ours[:first] == theirs[:first]
    assert not set(ours[first:]) & set(theirs[first:])


def test_no_more_than_the_first_64_kib_are_looked_at() -> None:
    assert len(prompt_blocks(b"", b"x" * (1 << 20))) == HASHED_BYTES // WINDOW_BYTES == 128


def test_tenants_and_installations_have_different_seeds() -> None:
    assert len({tenant_seed(salt, tenant) for salt in ("", "a", "ab") for tenant in ("", "b", "bc")}) == 9
