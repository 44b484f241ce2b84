"""Trace context: the W3C `traceparent` that a request came with, or a new one, and the child that goes to the engine.

An identifier that is malformed, of all zeros or of the forbidden version is replaced, never passed on. Random digits
are drawn from the system for some hundred requests at a time: cutting them off costs a tenth of writing out a number.
Source: W3C Trace Context.
"""

from __future__ import annotations

import os
import re
from typing import Final

_PARENT: Final = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[!-~]*)?")
_REQUEST_ID: Final = re.compile(rb"[!-~]{1,128}")
_STATE: Final = re.compile(rb"[ -~]{1,512}")
_NO_TRACE: Final = b"0" * 32
_NO_SPAN: Final = b"0" * 16
_ALL_ZERO: Final = (_NO_TRACE, _NO_SPAN)

TRACE_DIGITS: Final = 32
SPAN_DIGITS: Final = 16
DIGITS_AT_ONCE: Final = 80 * 256


class _Digits:
    """Random hexadecimal digits, each given out once."""

    __slots__ = ("_at", "_drawn")

    def __init__(self) -> None:
        self._drawn = b""
        self._at = 0

    def take(self, count: int) -> bytes:
        """The next `count` digits, at most DIGITS_AT_ONCE and never all zeros."""
        at = self._at
        end = at + count
        if end > len(self._drawn):
            self._drawn = os.urandom(DIGITS_AT_ONCE // 2).hex().encode("ascii")
            at, end = 0, count
        self._at = end
        digits = self._drawn[at:end]
        return b"1" * count if digits in _ALL_ZERO else digits


_digits: Final = _Digits()


def child_of(received: bytes | None) -> bytes:
    """The `traceparent` of our own span: in the trace that was received, if it is a valid one, else in a new one."""
    span = _digits.take(SPAN_DIGITS)
    matched = _PARENT.fullmatch(received) if received is not None else None
    if matched is not None:
        version, trace, parent, flags, more = matched.groups()
        if version != b"ff" and trace != _NO_TRACE and parent != _NO_SPAN and not (version == b"00" and more):
            return b"00-%b-%b-%02x" % (trace, span, int(flags, 16) & 1)
    return b"00-%b-%b-01" % (_digits.take(TRACE_DIGITS), span)


def is_child_of(child: bytes, received: bytes | None) -> bool:
    """Whether both are spans of one trace."""
    return received is not None and received[3:35] == child[3:35]


def state_of(received: bytes | None) -> bytes | None:
    """The `tracestate` to pass on, if it is printable and short enough."""
    return received if received is not None and _STATE.fullmatch(received) else None


def request_id_of(received: bytes | None) -> bytes:
    """The client's own request id when it is 1 to 128 printable characters without spaces, else a new one."""
    if received is not None and _REQUEST_ID.fullmatch(received):
        return received
    return b"req-" + _digits.take(TRACE_DIGITS)
