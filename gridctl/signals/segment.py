"""Segment: one file of shared memory under a name. Appears whole or not at all, is private to its user, is checked.

The file lies in the memory file system where there is one (`/dev/shm`), else in the folder of temporary files; a name
with a folder in it is taken as a path. Its space is reserved when it is made: a full file system is an error then,
not a crash of whoever first writes a page. It lives until it is unlinked, whoever dies; its maker holds a lock on it,
so that segments whose makers are gone can be told and removed by the next one.
"""

from __future__ import annotations

import mmap
import os
import re
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from gridctl.errors import InputError, NotFoundError

_MEMORY = Path("/dev/shm")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_OPEN = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


def path_of(name: str) -> Path:
    """Where the segment of that name lies."""
    if os.sep in name:
        return Path(name)
    if not _NAME.fullmatch(name):
        raise InputError(
            f"not a name of shared memory: {name!r}", fix="use up to 200 letters, digits, dots, dashes, underscores"
        )
    folder = _MEMORY if _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK) else Path(tempfile.gettempdir())
    return folder / name


def make(name: str, size: int, magic: bytes, fill: Callable[[mmap.mmap], None]) -> None:
    """A new segment of `size` bytes, zero but for what `fill` writes, in place of an older one with the same magic.

    Raises InputError where a file that is not a segment has the name, and where there is no room.
    """
    path = path_of(name)
    _refuse_foreign(path, magic)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with suppress(OSError):
        draft.unlink()
    try:
        descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | _OPEN, 0o600)
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(descriptor, 0, size)
            else:
                os.ftruncate(descriptor, size)
            _claim(descriptor)
            memory = mmap.mmap(descriptor, size)  # keeps a copy of the descriptor, and so the lock
        finally:
            os.close(descriptor)
        fill(memory)
        draft.replace(path)
    except OSError as error:
        with suppress(OSError):
            draft.unlink()
        raise InputError(
            f"cannot reserve {size / (1 << 20):.0f} MiB of shared memory: {error.strerror}",
            where=str(path),
            fix="make room there (in a container: --shm-size), or run fewer workers",
        ) from error


def open_existing(name: str, magic: bytes) -> mmap.mmap:
    """The segment of that name. Raises NotFoundError, or InputError for a file that is not one of this user's."""
    path = path_of(name)
    try:
        descriptor = os.open(path, os.O_RDWR | _OPEN)
    except FileNotFoundError:
        raise NotFoundError("no such board of shared memory", where=str(path), fix="gridctl up") from None
    except OSError as error:
        raise InputError(f"cannot open the board: {error.strerror}", where=str(path), fix="gridctl up") from error
    try:
        _check(descriptor, path, magic)
        return mmap.mmap(descriptor, 0)
    finally:
        os.close(descriptor)


def unlink(name: str) -> None:
    """Take the name away; who has the segment open keeps it."""
    with suppress(FileNotFoundError):
        path_of(name).unlink()


def remove_orphans(prefix: str, magic: bytes) -> int:
    """Remove the segments in the folder of plain names whose makers are gone, of this user and with that prefix and
    magic; how many there were. A machine that was killed off again and again does not fill its memory with them."""
    folder, removed = path_of("any").parent, 0
    for path in sorted(folder.glob(f"{prefix}*")):
        try:
            descriptor = os.open(path, os.O_RDWR | _OPEN | getattr(os, "O_NONBLOCK", 0))
        except OSError:
            continue
        try:
            _check(descriptor, path, magic)
            # Its grid may begin again at this very moment, and the name belong to a new segment.
            if _claim(descriptor) and os.path.samestat(os.fstat(descriptor), path.lstat()):
                path.unlink()
                removed += 1
        except (OSError, InputError):
            continue
        finally:
            os.close(descriptor)
    return removed


def _claim(descriptor: int) -> bool:
    """Lock a segment for as long as it is open here; False when its maker holds it, or where there are no locks."""
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):
        return False
    return True


def _check(descriptor: int, path: Path, magic: bytes) -> None:
    status = os.fstat(descriptor)
    is_ours = stat.S_ISREG(status.st_mode) and (not hasattr(os, "geteuid") or status.st_uid == os.geteuid())
    if not is_ours or os.pread(descriptor, len(magic), 0) != magic:
        raise InputError(
            "the file is not a board of this user's gridctl", where=str(path), fix="remove it, or give another name"
        )


def _refuse_foreign(path: Path, magic: bytes) -> None:
    """An older segment may be replaced; anything else in its place is somebody's."""
    try:
        descriptor = os.open(path, os.O_RDONLY | _OPEN | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(
            f"cannot replace what is there: {error.strerror}", where=str(path), fix="remove it, or give another name"
        ) from error
    try:
        _check(descriptor, path, magic)
    finally:
        os.close(descriptor)
