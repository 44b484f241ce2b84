"""The folder of a live orchestrator: who runs, where it listens, and that there is only one.

    live/lock              held while an orchestrator runs; the kernel lets go of it when the process dies
    live/control.json      who holds it, and where to reach it
    live/admin.sock        the admin API, for the same account alone
    live/plan-N.json       the plan the workers follow, with digests of keys: mode 0600
    live/salt              what hashes of prompts begin with, kept from start to start: mode 0600
    live/quota.bin         what keys with a quota asked for in the last minute
    live/history.bin       counters of the past, for burn rates over days
    live/log/              what a detached orchestrator says
    live/recordings/       traces of live traffic

Invariant: `control.json` without a held lock is what a killed process left behind, and nobody believes it. Nor does
anybody between the moment the next one has the lock and the moment it has swept: the folder itself is locked then.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from gridctl.errors import InputError, StoreError
from gridctl.registry.faults import disk_fault
from gridctl.registry.lock import try_lock

FOLDER = "live"
LONGEST_SOCKET_PATH = 100
"""Bytes; a Unix socket's address holds 107 on Linux, 103 on macOS."""
LOCK_PATIENCE_S = 1.0
"""A command that looks whether an orchestrator runs holds the locks for an instant."""


class ControlFile(msgspec.Struct, frozen=True, kw_only=True):
    """What a running orchestrator tells of itself. `data_url` is where requests go; `admin` is the admin API's
    `unix:PATH`, `admin_url` a further address of it."""

    pid: int
    state: Literal["starting", "ready", "draining"]
    data_url: str
    admin: str
    board: str
    workers: int
    version: str
    started_unix_ns: int
    admin_url: str | None = None


class LiveFolder:
    """The paths in the live folder of the grid whose database is `database`."""

    def __init__(self, database: Path) -> None:
        self.path = database.parent / FOLDER
        self.lock = self.path / "lock"
        self.control = self.path / "control.json"
        self.history = self.path / "history.bin"
        self.salt = self.path / "salt"
        self.quota = self.path / "quota.bin"
        self.log = self.path / "log"
        self.recordings = self.path / "recordings"

    @property
    def socket(self) -> Path:
        """The admin API's socket: here, or in a folder of this account's where this path is too long for one."""
        here = self.path / "admin.sock"
        if len(os.fsencode(here.absolute())) <= LONGEST_SOCKET_PATH:
            return here.absolute()
        name = hashlib.sha256(os.fsencode(here.absolute())).hexdigest()[:16]
        runtime = os.environ.get("XDG_RUNTIME_DIR") or f"{tempfile.gettempdir()}/gridctl-{os.getuid()}"
        return Path(runtime) / f"gridctl-{name}.sock"

    def plan(self, generation: int) -> Path:
        """The file of a plan."""
        return self.path / f"plan-{generation}.json"

    def plans(self) -> list[Path]:
        """Plan files there are, in no order."""
        return list(self.path.glob("plan-*.json"))

    def make(self) -> None:
        """Make the folders, for their owner alone."""
        for folder in (self.path, self.log, self.recordings):
            try:
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                folder.chmod(0o700)
            except OSError as error:
                raise disk_fault(error, folder) from error

    def running(self) -> ControlFile | None:
        """The orchestrator that runs, or None. Raises StoreError when its file cannot be read."""
        deadline = time.monotonic() + LOCK_PATIENCE_S
        while True:
            with self._looking(shared=True) as is_steady:
                if is_steady or time.monotonic() > deadline:
                    return self._holder()
            time.sleep(0.001)

    def refuse_running(self) -> None:
        """Raises InputError naming the orchestrator that runs."""
        if self.running() is not None:
            raise self._taken()

    def _holder(self) -> ControlFile | None:
        try:
            descriptor = os.open(self.lock, os.O_RDWR | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise disk_fault(error, self.lock) from error
        try:
            if try_lock(descriptor, shared=True):
                return None
            return self._read()
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Be the only orchestrator of this grid. Raises InputError naming the one that runs."""
        try:
            descriptor = os.open(self.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise disk_fault(error, self.lock) from error
        try:
            deadline = time.monotonic() + LOCK_PATIENCE_S
            while not self._begins(descriptor):
                if time.monotonic() > deadline:
                    raise self._taken()
                time.sleep(0.02)
            try:
                yield
            finally:
                self._sweep()
        finally:
            os.close(descriptor)

    def _begins(self, descriptor: int) -> bool:
        """Take the lock and sweep what a killed process left: one step for all who look, or they would see the lock
        held, and believe the file of the dead."""
        with self._looking(shared=False) as is_alone:
            if not is_alone or not try_lock(descriptor):
                return False
            self._sweep()
            return True

    @contextlib.contextmanager
    def _looking(self, *, shared: bool) -> Iterator[bool]:
        """Hold the folder itself, for an instant: False while another begins, or, not `shared`, while others look."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            yield True
            return
        except OSError as error:
            raise disk_fault(error, self.path) from error
        try:
            yield try_lock(descriptor, shared=shared)
        finally:
            os.close(descriptor)

    def write(self, file: ControlFile) -> None:
        """Tell where this orchestrator is, whole or not at all."""
        write_private(self.control, msgspec.json.format(msgspec.json.encode(file)))

    def _read(self) -> ControlFile | None:
        try:
            return msgspec.json.decode(self.control.read_bytes(), type=ControlFile)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as error:
            raise StoreError(
                f"the orchestrator's file cannot be read: {error}",
                where=str(self.control),
                fix="another gridctl version may run: stop it with the gridctl that started it",
            ) from None

    def _taken(self) -> InputError:
        running = self._read()
        who = f"process {running.pid}, {running.data_url}" if running is not None else "another process"
        return InputError(
            f"the orchestrator of this grid runs already: {who}",
            where=str(self.lock),
            fix="changes of the grid reach it by themselves; to start it anew: gridctl down, then gridctl up",
        )

    def _sweep(self) -> None:
        """Remove what an orchestrator leaves; called with the lock held."""
        for path in (self.control, self.socket, self.quota, *self.plans()):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read, whole or not at all. Raises StoreError."""
    # Of this thread alone: one that is still writing an older content must not be met half way.
    aside = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_native_id()}")
    try:
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(content)
        aside.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
        raise disk_fault(error, path, needed_bytes=len(content)) from error
