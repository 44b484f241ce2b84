"""One worker of the gateway, seen from the control process: its process, and the channel both talk through.

The channel is a socket pair with JSON lines. To the worker: `plan` (follow this file), `drain`, `stop`, `find` (a
request it remembers), `recent` (the worst it remembers of a site), `certificate` (read it anew). From it: `ready`,
`planned` or `refused` (a plan), `drained`, `found`. A worker drains by itself when the channel ends, so none outlives
its control process. Must not decide when a worker is started or stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

LONGEST_LINE = 8 << 20
"""Bytes of one message; an explanation of a request holds its candidates."""

State = Literal["starting", "ready", "draining", "gone"]


class Say(msgspec.Struct, frozen=True, omit_defaults=True):
    """A message to a worker."""

    do: Literal["plan", "drain", "stop", "find", "recent", "certificate"]
    path: str = ""
    generation: int = 0
    grace_s: float = 0.0
    ask: int = 0
    request_id: str = ""
    site: str = ""
    window_s: float = 0.0


class Heard(msgspec.Struct, frozen=True):
    """A message from a worker. `event` is one of those above, or one that we do not know and leave alone."""

    event: str
    generation: int = -1
    ask: int = 0
    request: Any = None
    message: str = ""


class Worker:
    """A worker's process. `told` is called with everything it says, and with None when it has ended."""

    def __init__(self, index: int, told: Callable[[Worker, Heard | None], None]) -> None:
        self.index = index
        self.state: State = "starting"
        self.generation = -1
        self.refused = -1
        self.problem = ""
        self.exit_status: int | None = None
        self._told = told
        self._process: asyncio.subprocess.Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def pid(self) -> int:
        """The process's number; 0 before there is one."""
        return self._process.pid if self._process is not None else 0

    async def start(
        self,
        program: Sequence[str],
        *,
        plan: Path,
        board: str,
        listen_fd: int,
        extra: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start the process. Raises OSError when the machine has no room for another."""
        ours, theirs = socket.socketpair()
        try:
            words = ["--plan", str(plan), "--board", board, "--worker", str(self.index)]
            words += ["--listen-fd", str(listen_fd), "--channel-fd", str(theirs.fileno()), *extra]
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *program,
                *words,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=sys.stderr.fileno() if _has_descriptor(sys.stderr) else None,
                pass_fds=(listen_fd, theirs.fileno()),
                # Ctrl-C at the terminal is for the control process, which lets its workers finish.
                start_new_session=True,
                env=dict(environment) if environment is not None else None,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        reader, self._writer = await asyncio.open_connection(sock=ours, limit=LONGEST_LINE)
        self._tasks = [asyncio.create_task(self._listen(reader)), asyncio.create_task(self._wait())]

    def say(self, message: Say) -> None:
        """Send a message; to one that is gone, nothing."""
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(msgspec.json.encode(message) + b"\n")

    def kill(self) -> None:
        """End the process at once."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGKILL)

    async def gone(self) -> None:
        """Wait until the process has ended and everything it said was told."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        decoder = msgspec.json.Decoder(Heard)
        while True:
            try:
                line = await reader.readline()
            except (OSError, ValueError):  # a line beyond the limit: this worker cannot be understood any more
                self.kill()
                return
            if not line:
                return
            with contextlib.suppress(msgspec.MsgspecError):
                self._take_in(decoder.decode(line))

    def _take_in(self, heard: Heard) -> None:
        if heard.event == "ready" and self.state == "starting":
            self.state = "ready"
            self.generation = max(self.generation, heard.generation)
        elif heard.event == "planned":
            self.generation = heard.generation
        elif heard.event == "refused":
            self.refused, self.problem = heard.generation, heard.message
        self._told(self, heard)

    async def _wait(self) -> None:
        assert self._process is not None
        self.exit_status = await self._process.wait()
        await self._tasks[0]
        self.state = "gone"
        if self._writer is not None:
            self._writer.close()
        self._told(self, None)


def _has_descriptor(stream: object) -> bool:
    try:
        os.fstat(stream.fileno())  # type: ignore[attr-defined]
    except (AttributeError, OSError, ValueError):
        return False
    return True
