"""Collecting: which versions and blobs of a site may go, so that the disk does not fill.

Never what the committed, previous or tried pointer names, what is wanted, what a transfer under way is made from, nor
anything younger than a day: an engine may still read what was just replaced. Decides from names and times alone.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gridctl.agent.folder import AgentFolder, files_below, is_folder
from gridctl.agent.journal import Journal
from gridctl.agent.versions import Versions
from gridctl.artifacts.contents import MARK_FOLDER

YOUNGEST_S = 86_400.0
"""Age below which nothing is removed."""


@dataclass(frozen=True, slots=True)
class Removable:
    """Something that may go. `bytes` are those that come free with it, if the others go too."""

    what: str
    model: str
    digest: str
    path: Path
    bytes: int
    age_s: float


def removable(
    folder: AgentFolder, versions: Versions, journal: Journal, now_unix_s: float, youngest_s: float = YOUNGEST_S
) -> list[Removable]:
    """Everything that may go, versions first."""
    kept = {digest for row in journal.transfers for digest in (row.digest, row.base) if digest is not None}
    kept |= journal.wanted
    found: list[Removable] = []
    for model in versions.models:
        for digest in sorted(versions.whole(model) - kept - versions.pointers(model).named):
            path = versions.path(model, digest)
            age = _age_s(path, now_unix_s)
            if age is not None and age >= youngest_s:
                found.append(Removable("version", model, digest, path, _own_bytes(path), age))
    found += _stages(folder, kept, now_unix_s, youngest_s)
    going = Counter(inode for item in found for inode in _inodes(item.path))
    for path in _entries(folder.blobs):
        status = _status(path)
        if status is None:
            continue
        is_loose = status.st_nlink - 1 <= going[status.st_ino]
        age = now_unix_s - max(status.st_mtime, status.st_ctime if status.st_nlink == 1 else 0.0)
        if is_loose and age >= youngest_s:
            found.append(Removable("blob", "", f"sha256:{path.name}", path, status.st_size, age))
    return found


def collect(versions: Versions, items: Iterable[Removable]) -> int:
    """Remove them; the bytes that came free."""
    freed = 0
    for item in items:
        if item.what == "version":
            versions.forget(item.model, item.digest)
        else:
            versions.folder.discard(item.path)
        freed += item.bytes
    return freed


def _stages(folder: AgentFolder, kept: set[str], now_unix_s: float, youngest_s: float) -> list[Removable]:
    found = []
    for model in _entries(folder.staging):
        for path in _entries(model) if is_folder(model) else ():
            digest, age = f"sha256:{path.name}", _age_s(path, now_unix_s)
            if digest not in kept and age is not None and age >= youngest_s:
                found.append(Removable("transfer", model.name, digest, path, _own_bytes(path), age))
    return found


def _entries(folder: Path) -> list[Path]:
    """What lies in a folder, by name; nothing where it has gone meanwhile."""
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []


def _status(path: Path) -> os.stat_result | None:
    """None for what has gone meanwhile: an agent may be at work while a command looks."""
    try:
        return path.lstat()
    except FileNotFoundError:
        return None


def _age_s(path: Path, now_unix_s: float) -> float | None:
    """Since the folder got its place or lost it: its name's change touches its own status."""
    status = _status(path)
    return None if status is None else now_unix_s - max(status.st_mtime, status.st_ctime)


def _own_bytes(path: Path) -> int:
    """Of files that only this folder holds; those with a blob come free with the blob."""
    return sum(status.st_size for _, status in files_below(path) if status.st_nlink == 1)


def _inodes(path: Path) -> list[int]:
    return [status.st_ino for found, status in files_below(path) if MARK_FOLDER not in found.relative_to(path).parts]
