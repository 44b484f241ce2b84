"""Detaching: start `gridctl up` as a process of its own and stay until it is ready, or has failed.

Invariant: what the process says is in its log; when it fails, the caller says the same. The log of the one before is
kept beside it, for that one may have crashed.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from gridctl.control.folder import ControlFile, LiveFolder
from gridctl.errors import GridctlError, InputError
from gridctl.orchestrator.context import GridHome
from gridctl.registry.faults import disk_fault

LOG, LOG_BEFORE = "up.log", "up.log.1"
READY_TIMEOUT_S = 180.0
"""A machine that compiles the router for the first time takes seconds, a busy one more."""
POLL_S = 0.05
SHOWN_BYTES = 4096
_FLAGS = ("--detach", "-d")


def detached(home: GridHome, arguments: Sequence[str] | None = None) -> ControlFile:
    """Start it with this command's arguments but for `--detach`; where it is, once it is ready.

    Raises InputError with what it said when it ends instead."""
    words = [word for word in (sys.argv[1:] if arguments is None else arguments) if word not in _FLAGS]
    folder = LiveFolder(home.database)
    folder.make()
    folder.refuse_running()  # before its log is begun anew
    return asyncio.run(_started(folder, [sys.executable, "-P", "-m", "gridctl", *words], folder.log / LOG))


async def _started(folder: LiveFolder, command: list[str], log: Path) -> ControlFile:
    try:
        if log.exists() and log.stat().st_size:
            log.replace(log.with_name(LOG_BEFORE))
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise disk_fault(error, log) from error
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            start_new_session=True,
        )
    finally:
        os.close(descriptor)
    deadline = asyncio.get_running_loop().time() + READY_TIMEOUT_S
    while True:
        found = folder.running()
        if found is not None and found.pid == process.pid and found.state == "ready":
            return found
        if process.returncode is not None:
            raise _failed(log, process.returncode)
        if asyncio.get_running_loop().time() > deadline:
            process.terminate()
            await process.wait()
            raise GridctlError(f"it was not ready after {READY_TIMEOUT_S:g} s", where=str(log), fix="gridctl doctor")
        await asyncio.sleep(POLL_S)


def _failed(log: Path, status: int) -> GridctlError:
    """What it said at the end; its words hold their own fix."""
    text = log.read_bytes()[-SHOWN_BYTES:].decode("utf-8", "replace").strip()
    last = text[text.rfind("error: ") :] if "error: " in text else text
    what = last.removeprefix("error: ") or f"it ended with status {status} and said nothing"
    return InputError(what, where=str(log))
