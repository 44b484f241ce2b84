"""Trace context: the W3C `traceparent` that a request came with, or a new one, and the child that goes to the engine.

An identifier that is malformed, of all zeros or of the forbidden version is replaced, never passed on. Identifiers only
have to be unlikely to meet again, so they come from a generator that each worker seeds once. Source: W3C Trace Context.
"""

from __future__ import annotations

import random
import re

_PARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[!-~]*)?")
_REQUEST_ID = re.compile(rb"[!-~]{1,128}")
_STATE = re.compile(rb"[ -~]{1,512}")
_NO_TRACE = b"0" * 32
_NO_SPAN = b"0" * 16

_draw = random.SystemRandom().getrandbits
_generator = random.Random(_draw(128))


def child_of(received: bytes | None) -> bytes:
    """The `traceparent` of our own span: in the trace that was received, if it is a valid one, else in a new one."""
    span = _generator.getrandbits(64) or 1
    matched = _PARENT.fullmatch(received) if received is not None else None
    if matched is not None:
        version, trace, parent, flags, more = matched.groups()
        if version != b"ff" and trace != _NO_TRACE and parent != _NO_SPAN and not (version == b"00" and more):
            return b"00-%b-%016x-%02x" % (trace, span, int(flags, 16) & 1)
    return b"00-%032x-%016x-01" % (_generator.getrandbits(128) or 1, span)


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
    return b"req-%032x" % _generator.getrandbits(128)
