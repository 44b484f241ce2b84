"""Alarm: one wake-up call on an event loop, at a moment of the monotonic clock and to some microseconds.

Event loops round their own timers to milliseconds, which is too coarse to pace engine steps or to send requests on
time. On Linux a timer descriptor rings; elsewhere the loop's own timer does. Decides nothing but when to call.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from gridctl.units import NS_PER_S

CLOCK_MONOTONIC = 1
ABSOLUTE = 1
FLAGS = os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0)
"""The flags that timerfd_create documents are those of open."""


class _Moment(ctypes.Structure):
    """`struct itimerspec`: interval, then the moment, each in seconds and nanoseconds."""

    _fields_ = tuple((name, ctypes.c_long) for name in ("every_s", "every_ns", "s", "ns"))


class Alarm:
    """Calls `ring` once at the moment last set. The callback may set the next one."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._loop = loop
        self._ring = ring
        self._when_ns = 0
        self._later: asyncio.TimerHandle | None = None
        self._library: Any = None
        self._is_closed = False
        self._descriptor = self._opened()

    def _opened(self) -> int:
        """A timer descriptor that the loop watches, −1 where there is none to be had."""
        if not sys.platform.startswith("linux"):
            return -1
        library = ctypes.CDLL(None, use_errno=True)
        descriptor: int = library.timerfd_create(CLOCK_MONOTONIC, FLAGS)
        if descriptor >= 0:
            self._library = library
            self._loop.add_reader(descriptor, self._rang)
        return descriptor

    def set(self, when_ns: int) -> None:
        """Ring at `when_ns` of `time.monotonic_ns`, at once when it is past; forgets the moment set before."""
        when_ns = max(when_ns, 1)
        if when_ns == self._when_ns or self._is_closed:
            return
        self._when_ns = when_ns
        if self._descriptor >= 0:
            self._arm(when_ns)
            return
        if self._later is not None:
            self._later.cancel()
        self._later = self._loop.call_later(max(0, when_ns - time.monotonic_ns()) / NS_PER_S, self._woken)

    def off(self) -> None:
        """Forget the moment set."""
        if self._when_ns and self._descriptor >= 0:
            self._arm(0)
        if self._later is not None:
            self._later.cancel()
        self._when_ns = 0

    def close(self) -> None:
        """Never ring again."""
        self.off()
        self._is_closed = True
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _arm(self, when_ns: int) -> None:
        moment = _Moment(0, 0, when_ns // NS_PER_S, when_ns % NS_PER_S)
        failed = self._library.timerfd_settime(self._descriptor, ABSOLUTE, ctypes.byref(moment), None)
        assert failed == 0, "a valid moment can be set"

    def _rang(self) -> None:
        try:
            os.read(self._descriptor, 8)
        except BlockingIOError:  # set anew after it rang and before the loop looked
            return
        self._woken()

    def _woken(self) -> None:
        self._when_ns = 0
        self._ring()
