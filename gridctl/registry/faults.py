"""Failures of disk and database that an operator can act on, as StoreError with the command or edit that helps.

Anything else (a constraint we broke, SQL we misspelt) is our own bug and is passed on as it is.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

from gridctl.errors import StoreError

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_CLOSED = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH)


def database_fault(error: sqlite3.Error, path: Path) -> StoreError | None:
    """What to tell the operator of a failed statement; None when it is our own bug."""
    extended = getattr(error, "sqlite_errorcode", None)
    code = None if extended is None else extended & 0xFF
    if code == sqlite3.SQLITE_FULL or extended == sqlite3.SQLITE_IOERR_WRITE:
        return full_disk(path)
    if code in _LOCKED:
        return StoreError(
            "another program is writing to the registry",
            where=str(path),
            fix="wait until it is done, then run the command again; close database browsers that hold the file",
        )
    if code == sqlite3.SQLITE_NOTADB:
        return not_a_database(path)
    if code == sqlite3.SQLITE_CORRUPT:
        return StoreError(
            f"the registry is damaged: {error}",
            where=str(path),
            fix="move the file and its -wal away, put a backup in its place, and apply the manifests again",
        )
    if code in _CLOSED:
        return StoreError(
            f"the registry cannot be opened for writing: {error}",
            where=str(path),
            fix="check the owner and the permissions of the file and its folder; the folder must be writable",
        )
    if code == sqlite3.SQLITE_IOERR:
        return StoreError(
            f"the disk failed: {error}; {free_bytes(path)} bytes are free",
            where=str(path),
            fix="check the disk and its free space; nothing was written",
        )
    return None


def not_a_database(path: Path) -> StoreError:
    """The file holds something else, which is left as it is."""
    return StoreError(
        "this file is not a database",
        where=str(path),
        fix="name the registry's file, or move this one away and make a new registry with `gridctl init NAME`",
    )


def disk_fault(error: OSError, path: Path, *, needed_bytes: int | None = None) -> StoreError:
    """What to tell the operator of a failed file operation."""
    if error.errno in _DISK_FULL:
        return full_disk(path, needed_bytes=needed_bytes)
    return StoreError(
        f"the file system refused: {error.strerror or error}",
        where=str(error.filename or path),
        fix="check the owner and the permissions of the file and its folder, and the disk",
    )


def full_disk(path: Path, *, needed_bytes: int | None = None) -> StoreError:
    """No room: the path and what is free there, and that nothing was written."""
    needed = "" if needed_bytes is None else f"{needed_bytes} bytes are needed, "
    return StoreError(
        f"the disk is full or a file-size limit is reached: {needed}{free_bytes(path)} bytes are free",
        where=str(path),
        fix="free some space (old runs: `gridctl run list`, `gridctl run delete NAME`), then run the command again; "
        "nothing was written",
    )


def free_bytes(path: Path) -> int:
    """Bytes an ordinary user may still write on the file system that holds `path`, or would."""
    for folder in (path, *path.absolute().parents):
        try:
            facts = os.statvfs(folder)
        except OSError:
            continue
        return facts.f_bavail * facts.f_frsize
    return 0
