"""Identifiers that come with a request, and the ones that are made."""

from __future__ import annotations

import re

import pytest

from gridctl.gateway.trace_context import child_of, is_child_of, request_id_of, state_of

# The example of the W3C recommendation, section 3.2.
PARENT = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
FORM = re.compile(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]")


def test_a_valid_parent_keeps_its_trace_and_its_flag_and_gets_a_new_span() -> None:
    child = child_of(PARENT)
    assert FORM.fullmatch(child)
    assert is_child_of(child, PARENT)
    assert child[36:52] != PARENT[36:52]
    assert child.endswith(b"-01")
    assert child_of(PARENT[:-2] + b"00").endswith(b"-00")


@pytest.mark.parametrize(
    "received",
    [
        None,
        b"",
        b"00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        b"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        b"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        b"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        PARENT + b"\r\nx: y",
    ],
)
def test_anything_else_begins_a_trace_of_its_own(received: bytes | None) -> None:
    child = child_of(received)
    assert FORM.fullmatch(child)
    assert not is_child_of(child, PARENT)


def test_a_later_version_may_say_more() -> None:
    assert is_child_of(child_of(b"cc" + PARENT[2:] + b"-what-the-future-will-be-like"), PARENT)


@pytest.mark.parametrize("received", [b"a", b"x" * 128, b"req_ABC-1.2~"])
def test_a_printable_request_id_is_kept(received: bytes) -> None:
    assert request_id_of(received) == received


@pytest.mark.parametrize("received", [None, b"", b"x" * 129, b"a b", b"a\x80", b"a\tb", b"a\r\nb"])
def test_any_other_is_replaced(received: bytes | None) -> None:
    made = request_id_of(received)
    assert re.fullmatch(rb"req-[0-9a-f]{32}", made)
    assert made != request_id_of(received)


def test_the_state_of_other_vendors_passes_when_it_can_be_printed() -> None:
    assert state_of(b"congo=t61rcWkgMzE") == b"congo=t61rcWkgMzE"
    assert state_of(b"a" * 513) is None
    assert state_of(b"\xff") is None
