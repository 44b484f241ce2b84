"""RunStore: the results of replays, a folder each: `run.json`, one `.npy` file per column, and an index of them.

    runs/NAME/run.json        the document, as given
    runs/NAME/columns.json    bytes, checksum, type and shape of every column
    runs/NAME/COLUMN.npy
    runs/NAME/inputs.jsonl.gz what it was made from, where it was kept: compressed as it was given
    runs/.partial-NAME-…      a run being written; its writer holds a lock on the folder
    runs/.replaced-NAME       the old run, between the two renames that put a new one in its place

Invariant: a folder NAME is a complete run whatever was killed when: a run is written aside, flushed to the disk and
renamed. Leftovers of killed writers are invisible to readers and removed by the next writer.
"""

from __future__ import annotations

import builtins
import contextlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec

from gridctl.errors import InputError, NotFoundError, StoreError, did_you_mean
from gridctl.registry.columns import ColumnFacts, damaged, map_column, needed_bytes, write_column
from gridctl.registry.faults import disk_fault, free_bytes, full_disk
from gridctl.registry.lock import locked, try_lock
from gridctl.registry.runwriter import RunWriter

if TYPE_CHECKING:
    import numpy as np

LOCK_TIMEOUT_S = 5.0
LOCK = ".lock"
DOCUMENT = "run.json"
INDEX = "columns.json"
INPUTS = "inputs.jsonl.gz"
PARTIAL = ".partial-"
REPLACED = ".replaced-"

Found = TypeVar("Found")

_NAME = r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?"
_COLUMN = r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?"


class RunStore:
    """The runs in one folder. Safe for any number of processes at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def check_name(self, name: str) -> None:
        """Refuse what is no name for a run, before any work is done for it. Raises InputError."""
        _refuse_bad_name(name)

    def save(
        self, name: str, document: bytes, columns: Mapping[str, np.ndarray[Any, Any]], *, replace: bool = False
    ) -> None:
        """Write a run; when this returns it is complete and survives a power loss.

        Raises InputError when the name is taken and `replace` is false, or is no name; StoreError when the disk is
        full or refuses. Nothing is left behind then, and an older run of that name is untouched.
        """
        _refuse_bad_name(name)
        needed = len(document) + sum(needed_bytes(array) for array in columns.values())
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._restore(name)
            if not replace:
                self._refuse_taken(name)
            with self._partial(name) as partial:
                _write(partial, document, columns)
                self.put_in_place(partial, name, replace=replace)
        except OSError as error:
            # What was written is gone again by now, so the free bytes are the ones to compare with.
            raise disk_fault(error, self.folder / name, needed_bytes=needed) from error

    @contextlib.contextmanager
    def writing(
        self, name: str, types: Mapping[str, type[np.generic]], rows: int, *, replace: bool = False
    ) -> Iterator[RunDraft]:
        """A run to be written piece by piece: what is in it is kept when `finish` is called, and gone otherwise.

        Raises like `save`, and StoreError at once when the disk has no room for so many rows.
        """
        import numpy as np

        _refuse_bad_name(name)
        needed = sum(np.dtype(kind).itemsize * rows + 128 for kind in types.values())
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._restore(name)
            if not replace:
                self._refuse_taken(name)
            if free_bytes(self.folder) < needed:
                raise full_disk(self.folder / name, needed_bytes=needed)
            with self._partial(name) as partial, contextlib.closing(RunWriter(partial, types, rows)) as writer:
                yield RunDraft(self, partial, name, writer, replace)
        except OSError as error:
            raise disk_fault(error, self.folder / name, needed_bytes=needed) from error

    def load(self, name: str) -> tuple[bytes, dict[str, np.ndarray[Any, Any]]]:
        """The document and the columns, read-only and memory-mapped.

        Raises NotFoundError when there is no such run, StoreError when a file of it is missing, cut or altered.
        """
        return self._read_whole(name, _read)

    def document(self, name: str) -> bytes:
        """The document alone. Raises NotFoundError, with the closest name there is."""
        return self._read_whole(name, lambda folder: _read_bytes(folder / DOCUMENT))

    def inputs(self, name: str) -> bytes | None:
        """What the run was made from, as it was given; None where it was not kept. Raises like `document`."""

        def read(folder: Path) -> bytes | None:
            return _read_bytes(folder / INPUTS) if (folder / INPUTS).exists() else None

        return self._read_whole(name, read)

    def list(self) -> builtins.list[str]:
        """Names of all runs, in code-point order."""
        try:
            entries = [entry.name for entry in os.scandir(self.folder) if entry.is_dir()]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise disk_fault(error, self.folder) from error
        interrupted = [entry.removeprefix(REPLACED) for entry in entries if entry.startswith(REPLACED)]
        return sorted({name for name in (*entries, *interrupted) if re.fullmatch(_NAME, name)})

    def latest(self) -> str | None:
        """The run saved last, or None when there is none."""
        moments = []
        for name in self.list():
            with contextlib.suppress(NotFoundError, StoreError):
                moments.append((self._read_whole(name, _saved_ns), name))
        return max(moments)[1] if moments else None

    def delete(self, name: str) -> None:
        """Delete a run, whole at once for every reader. Raises NotFoundError."""
        path = self._existing(name)
        try:
            with self._lock():
                if not path.is_dir():
                    raise self._missing(name)
                gone = self._fresh_partial(name)
                # A reader that holds the run's columns keeps them: its files live on until it lets go.
                path.rename(gone / "run")
                _sync(self.folder)
                _remove(gone)
        except OSError as error:
            raise disk_fault(error, path) from error

    def fresh_name(self, prefix: str = "run") -> str:
        """The first free name `PREFIX-N` after the highest N there is. A concurrent caller may get the same one."""
        _refuse_bad_name(f"{prefix}-1")
        suffixes = (name.removeprefix(f"{prefix}-") for name in self.list() if name.startswith(f"{prefix}-"))
        return f"{prefix}-{1 + max((int(s) for s in suffixes if s.isdecimal()), default=0)}"

    def _read_whole(self, name: str, read: Callable[[Path], Found]) -> Found:
        """What `read` finds in the run's folder; read again when the run was replaced meanwhile."""
        while True:
            with _held(self._existing(name)) as held:
                if held is None:
                    continue
                try:
                    found = read(held.folder)
                except StoreError:
                    if held.is_in_place():
                        raise
                    continue
                if held.is_in_place():
                    return found

    def _existing(self, name: str) -> Path:
        path = self.folder / name
        if re.fullmatch(_NAME, name) and (path.is_dir() or self._comes_back(name)):
            return path
        raise self._missing(name)

    def _comes_back(self, name: str) -> bool:
        """Whether a run that is not in its place was only being replaced. The lock tells: no writer is between its two
        renames while we hold it, and however often somebody looks without it, each look may fall between two of them.
        """
        if not any((self.folder / there).exists() for there in (LOCK, f"{REPLACED}{name}")):
            return False  # nobody has ever written here
        try:
            with self._lock():
                return self._is_back(name)
        except StoreError as error:
            if isinstance(error.__cause__, OSError):
                return False  # the folder may only be read
            raise

    def _missing(self, name: str) -> NotFoundError:
        close = did_you_mean(name, self.list())
        return NotFoundError(
            f"there is no run {name}",
            where=str(self.folder),
            fix=f"did you mean {close}? `gridctl run list` shows all"
            if close
            else "see what there is: gridctl run list",
        )

    def _refuse_taken(self, name: str) -> None:
        if (self.folder / name).exists():
            raise InputError(
                f"there is a run {name} already",
                where=str(self.folder / name),
                fix=f"choose another name (--name {self.fresh_name(_prefix(name))}) or replace it (--replace)",
            )

    def _restore(self, name: str) -> None:
        """Bring back the old run when its replacement was killed between the two renames."""
        if not (self.folder / name).exists():
            with self._lock():
                self._is_back(name)

    def _is_back(self, name: str) -> bool:
        """Whether the run is in its place, where an interrupted replacement left the old one aside too. With the lock
        held."""
        place, replaced = self.folder / name, self.folder / f"{REPLACED}{name}"
        if not place.exists() and replaced.exists():
            replaced.rename(place)
        return place.is_dir()

    def put_in_place(self, partial: Path, name: str, *, replace: bool) -> None:
        """Give a folder that was written aside its name, the old run's place if it is to be replaced."""
        target = self.folder / name
        replaced = self.folder / f"{REPLACED}{name}"
        with self._lock():
            if not replace:
                self._refuse_taken(name)
            if target.exists():
                _remove(replaced)
                target.rename(replaced)
            partial.rename(target)
            _sync(self.folder)
            _remove(replaced)

    @contextlib.contextmanager
    def _partial(self, name: str) -> Iterator[Path]:
        """A new folder to write a run into, removed again unless it was renamed away."""
        with self._lock():
            self._remove_leftovers()
            path = self._fresh_partial(name)
            # Held until the end, so that no other writer takes the folder for a leftover.
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try_lock(descriptor)
        try:
            yield path
        finally:
            _remove(path)
            os.close(descriptor)

    def _fresh_partial(self, name: str) -> Path:
        path = self.folder / f"{PARTIAL}{name}-{os.urandom(8).hex()}"
        path.mkdir(mode=0o700)
        return path

    def _remove_leftovers(self) -> None:
        for entry in os.scandir(self.folder):
            if not entry.name.startswith(PARTIAL):
                continue
            try:
                descriptor = os.open(entry.path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue  # its writer gave up, and removed it since
            try:
                if try_lock(descriptor):
                    _remove(Path(entry.path))
            finally:
                os.close(descriptor)

    def _lock(self) -> contextlib.AbstractContextManager[None]:
        return locked(self.folder / LOCK, timeout_s=LOCK_TIMEOUT_S, doing="writing a run")


class RunDraft:
    """A run being written; see `RunStore.writing`."""

    def __init__(self, store: RunStore, folder: Path, name: str, writer: RunWriter, replace: bool) -> None:
        self._store = store
        self._folder = folder
        self._name = name
        self._replace = replace
        self.append = writer.append
        self.read = writer.read
        self._seal = writer.seal

    def finish(self, document: bytes, inputs: bytes | None = None) -> None:
        """Put the run in its place, with what it was made from; when this returns it is complete and survives a power
        loss."""
        if inputs is not None:
            _write_bytes(self._folder / INPUTS, inputs)
        _write_bytes(self._folder / INDEX, msgspec.json.encode(self._seal()))
        _write_bytes(self._folder / DOCUMENT, document)
        _sync(self._folder)
        self._store.put_in_place(self._folder, self._name, replace=self._replace)


def _refuse_bad_name(name: str) -> None:
    if not re.fullmatch(_NAME, name):
        raise InputError(
            f"{name!r} is not a name for a run",
            fix="use lower-case letters, digits, '-' and '.'; 1 to 63 characters (--name)",
        )


def _prefix(name: str) -> str:
    """`base` for `base` and `base-7`, cut so that a number still fits."""
    return re.sub(r"-\d+$", "", name)[:50].rstrip("-.")


def _column_path(folder: Path, column: str) -> Path:
    if not re.fullmatch(_COLUMN, column):
        raise StoreError(f"{column!r} is not a name for a column", where=str(folder))
    return folder / f"{column}.npy"


class _HeldFolder(NamedTuple):
    """A run's folder, kept open: while it is, its inode number cannot go to another folder."""

    folder: Path
    descriptor: int

    def is_in_place(self) -> bool:
        """Whether the folder of that name is still the one it was: a replacement may come between two reads of it."""
        try:
            return os.path.samestat(os.stat(self.folder), os.fstat(self.descriptor))
        except FileNotFoundError:
            return False


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[_HeldFolder | None]:
    """The folder, held; None where it went away before it could be."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield None
        return
    except OSError as error:
        raise disk_fault(error, folder) from error
    try:
        yield _HeldFolder(folder, descriptor)
    finally:
        os.close(descriptor)


def _read(folder: Path) -> tuple[bytes, dict[str, np.ndarray[Any, Any]]]:
    document = _read_bytes(folder / DOCUMENT)
    try:
        index = msgspec.json.decode(_read_bytes(folder / INDEX), type=dict[str, ColumnFacts])
    except msgspec.MsgspecError as error:
        raise damaged(folder / INDEX, f"it cannot be read: {error}") from error
    return document, {column: map_column(_column_path(folder, column), facts) for column, facts in index.items()}


def _saved_ns(folder: Path) -> int:
    try:
        return (folder / DOCUMENT).stat().st_mtime_ns
    except OSError as error:
        raise damaged(folder / DOCUMENT, f"it cannot be read: {error.strerror or error}") from error


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise damaged(path, f"it cannot be read: {error.strerror or error}") from error


def _write(folder: Path, document: bytes, columns: Mapping[str, np.ndarray[Any, Any]]) -> None:
    index = {column: write_column(_column_path(folder, column), array) for column, array in columns.items()}
    _write_bytes(folder / INDEX, msgspec.json.encode(index))
    _write_bytes(folder / DOCUMENT, document)
    _sync(folder)


def _write_bytes(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(folder: Path) -> None:
    """Remove a folder if it is there. What cannot be removed stays invisible and is tried again by the next writer."""
    import shutil

    shutil.rmtree(folder, ignore_errors=True)
