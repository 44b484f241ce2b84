"""Solitude: one keeper to a folder. The file has one writer, and the lock that says so ends with the process."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from gridctl.errors import StoreError

FILE = "keeper.lock"
PATIENCE_S = 5.0
"""A keeper that was told to stop may still be writing."""


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold the folder. Raises StoreError while another process does."""
    import fcntl

    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(folder / FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(
            f"the cache's folder cannot be written: {error.strerror}",
            where=str(folder),
            fix="check its owner and permissions, and that the disk has room",
        ) from error
    try:
        ends = time.monotonic() + PATIENCE_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if time.monotonic() > ends:
                    raise StoreError("another keeper has this folder", where=str(folder)) from error
                time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)
