"""One writer at a time: an advisory lock on a file beside the thing it guards.

SQLite before 3.51.3 can corrupt a write-ahead log when two connections write and checkpoint at the same instant, and
Python distributions ship older ones for years, so every gridctl takes this lock around every write, whatever its own
SQLite: one process with an old library would be enough. Invariant: the kernel drops the lock when its holder dies,
so a killed process leaves nothing to clean up; the file itself stays, because deleting it would race.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from gridctl.errors import StoreError
from gridctl.registry.faults import disk_fault

FIRST_WAIT_S = 0.0005
LONGEST_WAIT_S = 0.01


@contextlib.contextmanager
def locked(path: Path, *, timeout_s: float, doing: str) -> Iterator[None]:
    """Hold the lock file `path`; wait for another holder up to `timeout_s`.

    Raises StoreError naming the holder when it does not let go: "another gridctl is `doing`".
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise disk_fault(error, path) from error
    try:
        try:
            acquired = _acquire(descriptor, timeout_s)
        except OSError as error:
            raise disk_fault(error, path) from error
        if not acquired:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            raise StoreError(
                f"another gridctl{f' (process {holder})' if holder.isdigit() else ''} is {doing}",
                where=str(path),
                fix="wait until it is done, then run the command again",
            )
        # The holder's number only makes that message better, so a full disk must not fail a write here.
        with contextlib.suppress(OSError):
            os.pwrite(descriptor, f"{os.getpid():<20}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Lock an open file or folder until it is closed; False when another open file of it holds the lock.

    `shared`: only look whether somebody holds it: who looks at the same instant is not taken for a holder.
    """
    import fcntl

    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _acquire(descriptor: int, timeout_s: float) -> bool:
    """Poll with growing pauses: a blocking wait cannot be given a deadline without signals."""
    deadline = time.monotonic() + timeout_s
    wait_s = FIRST_WAIT_S
    while not try_lock(descriptor):
        if time.monotonic() >= deadline:
            return False
        time.sleep(wait_s)
        wait_s = min(2 * wait_s, LONGEST_WAIT_S)
    return True
