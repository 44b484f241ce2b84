"""The folder of a site's agent: where everything lies, and how it comes there so that a loss of power leaves it whole.

    lock                               held while an agent runs; the kernel lets go of it when the process dies
    journal.json                       what the agent must not forget (`journal.Journal`)
    release.pub                        the orchestrator's key, pinned
    blobs/sha256/HEX                   every file that is held, once, by what it holds
    models/NAME/HEX/                   a version, whole and verified: links to blobs under the model's own file names
    models/NAME/pointers.json          which versions are committed, previous, on trial (`pointers.Pointers`)
    models/NAME/current                a link to the committed version, for engines that start by themselves
    staging/NAME/HEX/                  a version on its way
    trash/                             what is being removed

Invariant: a folder below `models/NAME` got its name by a rename, after all of it was verified and on the disk.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from gridctl.artifacts.contents import write_whole
from gridctl.errors import InputError, NotFoundError
from gridctl.registry.faults import disk_fault
from gridctl.registry.lock import locked

_NAME = re.compile(r"^[a-z0-9](?:[a-z0-9._-]{0,251}[a-z0-9])?$")
_HEX = re.compile(r"^[0-9a-f]{64}$")
CURRENT = "current"


class AgentFolder:
    """The paths, and the few ways in which they change."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.journal = path / "journal.json"
        self.key = path / "release.pub"
        self.blobs = path / "blobs" / "sha256"
        self.models = path / "models"
        self.staging = path / "staging"
        self.trash = path / "trash"

    def make(self) -> None:
        """Make what is missing. Raises: StoreError."""
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o755)
            for folder in (self.blobs, self.models, self.staging, self.trash):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_fault(error, self.path) from error

    def require(self) -> None:
        """Raises: NotFoundError when no agent has ever worked here."""
        if not self.models.is_dir():
            raise NotFoundError(
                "no agent's folder", where=str(self.path), fix="name the --folder that gridctl agent run was given"
            )

    @contextlib.contextmanager
    def held(self, doing: str = "this folder's agent") -> Iterator[None]:
        """Be the only one who changes the folder. Raises: StoreError naming who does already."""
        with locked(self.path / "lock", timeout_s=1.0, doing=doing):
            yield

    def model(self, name: str) -> Path:
        """The folder of a model. Raises: InputError for a name that could lead elsewhere."""
        return self.models / safe_name(name)

    def version(self, name: str, digest: str) -> Path:
        """Where a version lies once it is whole."""
        return self.model(name) / _hex(digest)

    def stage(self, name: str, digest: str) -> Path:
        """Where a version is on its way."""
        return self.staging / safe_name(name) / _hex(digest)

    def blob(self, digest: str) -> Path:
        """Where a file of that digest lies."""
        return self.blobs / _hex(digest)

    def model_names(self) -> list[str]:
        """Models that have a folder."""
        return sorted(path.name for path in self.models.iterdir() if path.is_dir() and _NAME.match(path.name))

    def versions(self, name: str) -> list[str]:
        """Digests of the versions of a model that are whole on the disk, sorted."""
        folder = self.model(name)
        if not folder.is_dir():
            return []
        found = (path for path in folder.iterdir() if _HEX.match(path.name) and is_folder(path))
        return sorted(f"sha256:{path.name}" for path in found)

    def disk(self) -> tuple[int, int]:
        """Bytes free and in all of the folder's disk."""
        usage = shutil.disk_usage(self.path)
        return usage.free, usage.total

    def discard(self, path: Path) -> None:
        """Remove a folder or a file so that it is there whole or not at all under its name."""
        self.trash.mkdir(exist_ok=True)
        aside = self.trash / f"{path.parent.name}.{path.name}.{os.getpid()}.{time.monotonic_ns()}"
        try:
            path.rename(aside)
        except FileNotFoundError:
            return
        sync_folder(path.parent)
        self.empty_trash()

    def empty_trash(self) -> None:
        """Delete what `discard` put aside."""
        for path in self.trash.iterdir() if self.trash.is_dir() else ():
            if is_folder(path):
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def safe_name(name: str) -> str:
    """The model's name, if it is one plain name of a folder. Raises: InputError."""
    if not _NAME.match(name) or ".." in name:
        raise InputError(
            f"the model's name {name[:80]!r} is no name of a folder",
            where="desired state",
            fix="small letters, digits, . _ and -",
        )
    return name


def is_folder(path: Path) -> bool:
    """Whether it is a folder itself, not a link to one."""
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False


def files_below(path: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Regular files at any depth with their status. What an agent removes meanwhile is left out: a command may look at
    a folder that changes."""
    for root, _folders, names in os.walk(path):
        for name in names:
            found = Path(root, name)
            with contextlib.suppress(FileNotFoundError):
                status = found.lstat()
                if stat.S_ISREG(status.st_mode):
                    yield found, status


def write_durably(path: Path, data: bytes) -> None:
    """Write a small file that is there, whole, also after a loss of power in the next instant."""
    write_whole(path, data)
    sync_folder(path.parent)


def rename_durably(source: Path, target: Path) -> None:
    """Give a folder, whose content is on the disk, its name."""
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)
    sync_folder(target.parent)
    sync_folder(source.parent)


def point(link: Path, target: str) -> None:
    """Make `link` a link to `target`, beside it, in one step."""
    if link.is_symlink() and os.readlink(link) == target:
        return
    aside = link.with_name(f".{link.name}.{os.getpid()}")
    aside.unlink(missing_ok=True)
    aside.symlink_to(target)
    aside.replace(link)
    sync_folder(link.parent)


def sync_folder(path: Path) -> None:
    """Have the names in a folder on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(path: Path) -> None:
    """Have a folder, its files and their names on the disk."""
    for root, _folders, names in os.walk(path):
        for name in names:
            descriptor = os.open(Path(root, name), os.O_RDONLY | os.O_NOFOLLOW)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_folder(Path(root))


def _hex(digest: str) -> str:
    text = digest.removeprefix("sha256:")
    if not _HEX.match(text):
        raise InputError(f"not a SHA-256: {digest[:80]!r}", where="desired state", fix="sha256: and 64 hex digits")
    return text
