"""Outcome: what one probe found, in a word and in a sentence; and what the word means for health.

The words tell where to look: at the name service (`dns`), at the host (`refused`, `unreachable`), at its certificate
(`tls`), at the engine (`timeout`, `reset`, `status`, `garbage`, `starting`), at the manifest (`wrong-model`,
`forbidden`), or at ourselves (`local`), which says nothing about the endpoint and counts for nothing.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from typing import Literal

import msgspec

from gridctl.health.exchange import GarbageError
from gridctl.health.words import Event

Cause = Literal[
    "ok",
    "slow",
    "starting",
    "dns",
    "refused",
    "unreachable",
    "tls",
    "timeout",
    "reset",
    "status",
    "garbage",
    "wrong-model",
    "forbidden",
    "local",
]
PASSED = ("ok", "slow")
_OURS = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL))
_LONGEST_DETAIL = 200


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """One probe of `key`. `at_ns` is the monotonic clock at its end; `latency_ms` from its start to its end."""

    key: str
    cause: Cause
    detail: str
    at_ns: int
    latency_ms: float
    status: int | None = None

    @property
    def has_passed(self) -> bool:
        return self.cause in PASSED

    @property
    def event(self) -> Event | None:
        """What it means for the endpoint's condition; None when it says nothing about it."""
        if self.has_passed:
            return "probe-ok"
        if self.cause == "local":
            return None
        return "probe-starting" if self.cause == "starting" else "probe-failed"


def cause_of(error: BaseException) -> tuple[Cause, str]:
    """The word and the sentence for what a probe raised."""
    if isinstance(error, (TimeoutError, asyncio.TimeoutError)):
        return "timeout", "no answer in time"
    if isinstance(error, socket.gaierror):
        return "dns", "its name does not resolve"
    if isinstance(error, ssl.SSLCertVerificationError):
        return "tls", f"its certificate is not valid: {error.verify_message}"[:_LONGEST_DETAIL]
    if isinstance(error, ssl.SSLError):
        return "tls", f"TLS failed: {error.reason or 'no reason given'}"[:_LONGEST_DETAIL]
    if isinstance(error, GarbageError):
        return "garbage", f"no HTTP answer: {error}"[:_LONGEST_DETAIL]
    if isinstance(error, ConnectionRefusedError):
        return "refused", "nothing listens there"
    if isinstance(error, (ConnectionResetError, BrokenPipeError, ConnectionAbortedError)):
        return "reset", "it closed the connection without a whole answer"
    if isinstance(error, OSError):
        words = (error.strerror or str(error))[:_LONGEST_DETAIL]
        if error.errno in _OURS:
            return "local", f"this machine cannot open a connection: {words}"
        return "unreachable", words
    return "local", f"{type(error).__name__} in the probe itself"
