"""Ending: when an orchestrator stops, and how much time requests under way get.

Decides that the first signal, or a call of the admin API, asks and a second signal insists. What stopping means is the
process's; that it can be asked for while the process is still starting is why every wait goes through here.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal

from gridctl.errors import Interrupted


class Ending:
    """When to stop: a signal or a call of the admin API asks for it, a second signal insists."""

    def __init__(self, grace_s: float) -> None:
        self.grace_s = grace_s
        self.asked = asyncio.Event()
        self._insisted = asyncio.Event()

    def listen(self) -> None:
        """Take SIGTERM and SIGINT from now on."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled)

    def ask(self, grace_s: float | None) -> None:
        """Stop, with that grace."""
        if grace_s is not None:
            self.grace_s = grace_s
        self.asked.set()

    async def unless(self, work: asyncio.Task[None], *, second: bool = False) -> None:
        """Wait for `work`; cancel it when the end is asked for (`second`: insisted on). Raises Interrupted then."""
        end = asyncio.create_task((self._insisted if second else self.asked).wait())
        await asyncio.wait({work, end}, return_when=asyncio.FIRST_COMPLETED)
        end.cancel()
        if work.done():
            await work
            return
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work
        what = "ended at once: requests under way were cut off" if second else "stopped before it was ready"
        raise Interrupted(what)

    def _signalled(self) -> None:
        if self.asked.is_set():
            self._insisted.set()
        self.asked.set()
