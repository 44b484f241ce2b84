"""One SQLite file: opening it safely, read and write transactions, errors in operators' words, backup.

Must not know what the tables mean. Settings and their reasons:

- write-ahead log, `synchronous=FULL`: a commit that was acknowledged survives kill -9 and power loss;
- every write is `BEGIN IMMEDIATE` under our own lock: a reader that upgrades to a writer fails at once whatever the
  timeout, and old SQLite libraries corrupt a log that is reset while another connection writes (see `lock`);
- for the same reason no automatic checkpoints: the writer makes them, still holding the lock.

A database belongs to the thread and the process that opened it.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from gridctl.errors import InputError, NotFoundError, StoreError
from gridctl.registry.faults import database_fault, disk_fault, not_a_database
from gridctl.registry.lock import locked
from gridctl.registry.schema import MIGRATIONS, Migration, migrate, refuse_foreign, schema_version

CHECKPOINT_BYTES = 4 << 20
SMALLEST_BYTES = 512  # one page of the smallest size SQLite has
SETTINGS = ("synchronous = FULL", "foreign_keys = ON", "trusted_schema = OFF", "wal_autocheckpoint = 0")


class Database:
    """An open registry file."""

    def __init__(self, path: Path, connection: sqlite3.Connection, timeout_s: float) -> None:
        self.path = path
        self._connection = connection
        self._timeout_s = timeout_s
        self._process = os.getpid()

    @classmethod
    def open(
        cls, path: Path, *, create: bool, timeout_s: float, migrations: Sequence[Migration] = MIGRATIONS
    ) -> Database:
        """Open `path`, bringing an older format up to date; make it first when `create`.

        Raises NotFoundError when there is none, StoreError when it cannot be used.
        """
        path = _usable_path(path, create=create)
        try:
            return cls._opened(path, create, timeout_s, migrations)
        except StoreError as error:
            if getattr(error.__cause__, "sqlite_errorcode", None) != sqlite3.SQLITE_IOERR_SHMSIZE:
                raise
        # The disk is too full for the 32 KiB that connections share. Alone, a connection needs none, so that the
        # registry can still be read; when another holds the file, those bytes are there and we do not come here.
        return cls._opened(path, create, timeout_s, migrations, alone=True)

    @classmethod
    def _opened(
        cls, path: Path, create: bool, timeout_s: float, migrations: Sequence[Migration], *, alone: bool = False
    ) -> Database:
        with _translated(path):
            connection = sqlite3.connect(path, timeout=timeout_s, isolation_level=None)
        database = cls(path, connection, timeout_s)
        try:
            database._prepare(create, migrations, alone)
        except BaseException:
            database.close()
            raise
        return database

    def close(self) -> None:
        """Let go of the file. The last one out folds the log into the database."""
        self._connection.close()

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """One consistent snapshot for several statements; inside a write, what that write sees."""
        assert self._process == os.getpid(), "a database must not cross a fork"
        with _translated(self.path):
            if self._connection.in_transaction:
                yield self._connection
                return
            self._connection.execute("BEGIN")
            try:
                yield self._connection
            finally:
                self._roll_back()

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction, all or nothing: committed when the block ends, rolled back when it raises."""
        assert self._process == os.getpid(), "a database must not cross a fork"
        assert not self._connection.in_transaction, "write transactions do not nest"
        with _translated(self.path), self._locked():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                self._roll_back()
                raise
            self._checkpoint()

    def backup(self, target: Path) -> None:
        """Write a consistent copy to `target`, which must not exist; whole or absent whatever happens."""
        if target.exists():
            raise InputError("the backup's file exists already", where=str(target), fix="choose another name")
        self._copy_to(target)

    def _prepare(self, create: bool, migrations: Sequence[Migration], alone: bool) -> None:
        with _translated(self.path):
            if alone:
                self._connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            refuse_foreign(self._connection, self.path, migrations)
            version = schema_version(self._connection)
            if version == 0 and not create:
                raise _no_registry(self.path)
            for setting in SETTINGS:
                self._connection.execute(f"PRAGMA {setting}")
            (journal,) = self._connection.execute("PRAGMA journal_mode").fetchone()
            if journal == "wal" and version == len(migrations):
                return
            with self._locked():
                self._use_log()
                if 0 < version < len(migrations):
                    self._copy_to(self.path.with_name(f"{self.path.name}.format-{version}.bak"))
                migrate(self._connection, migrations)

    def _use_log(self) -> None:
        (journal,) = self._connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if journal != "wal":
            raise StoreError(
                f"the file system allows no write-ahead log (journal mode {journal})",
                where=str(self.path),
                fix="keep the registry on a local disk",
            )

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        lock = self.path.with_name(f"{self.path.name}.lock")
        with locked(lock, timeout_s=self._timeout_s, doing="writing to the registry"):
            yield

    def _roll_back(self) -> None:
        # After a full disk SQLite has already rolled back by itself, and a second time is an error.
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def _checkpoint(self) -> None:
        """Fold a long log into the database, without waiting for readers that still need it.

        What is in the log is safe, so a failure here must not make a finished commit look failed.
        """
        with contextlib.suppress(OSError, sqlite3.Error):
            if os.stat(f"{self.path}-wal").st_size < CHECKPOINT_BYTES:
                return
            self._connection.execute("PRAGMA busy_timeout = 0")
            try:
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            finally:
                self._connection.execute(f"PRAGMA busy_timeout = {int(self._timeout_s * 1000):d}")

    def _copy_to(self, target: Path) -> None:
        partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
        try:
            _make_file(partial)
            with _translated(target), contextlib.closing(sqlite3.connect(partial, isolation_level=None)) as copy:
                self._connection.backup(copy)
            _sync(partial)
            partial.replace(target)
            _sync(target.parent)
        except OSError as error:
            raise disk_fault(error, target) from error
        finally:
            with contextlib.suppress(OSError):
                partial.unlink()


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        fault = database_fault(error, path)
        if fault is None:
            raise
        raise fault from error


def _usable_path(path: Path, *, create: bool) -> Path:
    """Where the registry really is, and that there is one, or an empty file to make one in."""
    try:
        # Through a symbolic link all processes must still find the same lock file.
        path = path.resolve()
        if path.is_dir():
            raise StoreError("this is a folder, not a registry", where=str(path), fix="name the file inside it")
        if create:
            _make_file(path)
        elif not path.exists():
            raise _no_registry(path)
        # SQLite takes a file shorter than a header for an empty one, and would overwrite it.
        if 0 < path.stat().st_size < SMALLEST_BYTES:
            raise not_a_database(path)
    except OSError as error:
        raise disk_fault(error, path) from error
    except ValueError as error:
        raise StoreError(f"this is no path: {error}", where=repr(str(path)), fix="name a file") from error
    return path


def _no_registry(path: Path) -> NotFoundError:
    return NotFoundError("there is no registry here", where=str(path), fix="make one: gridctl init NAME")


def _make_file(path: Path) -> None:
    """An empty file that only its owner may read, unless there is one; and the folders above it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        _sync(path.parent)
    except OSError as error:
        raise disk_fault(error, path) from error


def _sync(path: Path) -> None:
    """Make a file's bytes, or a folder's entries, survive a power loss."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
