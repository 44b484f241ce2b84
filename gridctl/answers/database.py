"""The file of kept answers: opened safely, set aside when it cannot be trusted, its tables, and faults in plain words.

What is in it may vanish, but never be wrong. A file that SQLite finds damaged, that a newer gridctl wrote, or that is
no database at all is renamed to `answers.db.corrupt-N` and a new one begun; nothing is ever served from it. One process
writes (it also makes the checkpoints, which keeps clear of the log-reset fault of SQLite before 3.51.3); workers open
the file read-only. Commits survive kill -9; the last ones may be lost with the machine's power.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import time
from contextlib import suppress
from pathlib import Path

from gridctl.errors import StoreError

FILE = "answers.db"
FORMAT = 1
KEPT_ASIDE = 3
"""Damaged files kept for who wants to look; older ones are removed, so a bad disk does not fill up with them."""
_SCHEMA = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE entries (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    exact BLOB NOT NULL,
    partition BLOB NOT NULL,
    workload TEXT NOT NULL,
    tenant TEXT NOT NULL,
    jurisdiction TEXT NOT NULL,
    stamp INTEGER NOT NULL,
    born INTEGER NOT NULL,
    ttl_s REAL NOT NULL,
    stale_s REAL NOT NULL,
    tags BLOB NOT NULL,
    content BLOB NOT NULL,
    finish_reason TEXT NOT NULL,
    model TEXT NOT NULL,
    variant TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    usd REAL NOT NULL,
    founder INTEGER NOT NULL,
    user TEXT NOT NULL,
    text TEXT NOT NULL,
    embedder TEXT NOT NULL,
    vector BLOB,
    digest TEXT NOT NULL,
    request_id TEXT NOT NULL,
    site TEXT NOT NULL,
    cluster TEXT NOT NULL,
    endpoint TEXT NOT NULL
) STRICT;
CREATE TABLE hits (entry INTEGER PRIMARY KEY, hits INTEGER NOT NULL, saved_usd REAL NOT NULL) STRICT;
CREATE TABLE purges (
    tag TEXT PRIMARY KEY, number INTEGER NOT NULL, announced INTEGER NOT NULL, place INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE lessons (
    place INTEGER PRIMARY KEY, workload TEXT NOT NULL, features BLOB NOT NULL, wrong INTEGER NOT NULL,
    weight REAL NOT NULL
) STRICT;
CREATE TABLE served (
    place INTEGER PRIMARY KEY, request_id TEXT NOT NULL, entry INTEGER NOT NULL, level TEXT NOT NULL,
    workload TEXT NOT NULL, tenant TEXT NOT NULL, user TEXT NOT NULL, saved_usd REAL NOT NULL, unix_ns INTEGER NOT NULL
) STRICT;
CREATE INDEX served_by_request ON served (request_id);
CREATE INDEX served_by_entry ON served (entry);
CREATE INDEX entries_by_request ON entries (request_id);
"""


def open_to_write(folder: Path) -> tuple[sqlite3.Connection, int, str | None]:
    """The writer's connection, the file's identity, and what was set aside and why (None: nothing was).

    Raises StoreError when the folder cannot be written at all.
    """
    path = folder / FILE
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        connection, identity = _open(path)
        return connection, identity, None
    except _UntrustedError as error:
        reason = str(error)
    except (OSError, sqlite3.Error) as error:
        raise fault(error, path) from error
    try:
        aside = _set_aside(path)
        connection, identity = _open(path)
    except (OSError, sqlite3.Error, _UntrustedError) as error:
        raise fault(error, path) from error
    return connection, identity, f"{reason}; it is now {aside.name}, and a new file was begun"


def open_to_read(folder: Path) -> tuple[sqlite3.Connection, int]:
    """A worker's connection and the file's identity. Raises sqlite3.Error or OSError when there is none to read."""
    path = (folder / FILE).resolve()
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=0.0, isolation_level=None)
    try:
        connection.execute("PRAGMA query_only = ON")
        connection.execute("PRAGMA trusted_schema = OFF")
        return connection, _identity(connection)
    except BaseException:
        connection.close()
        raise


def fault(error: Exception, path: Path) -> StoreError:
    """What to tell the operator when nothing can be written."""
    code = getattr(error, "sqlite_errorcode", None)
    free = 0
    with suppress(OSError):
        found = os.statvfs(path.parent)
        free = found.f_bavail * found.f_frsize
    if (code is not None and code & 0xFF == sqlite3.SQLITE_FULL) or code == sqlite3.SQLITE_IOERR_WRITE:
        return StoreError(
            f"the disk is full ({free:,} bytes free): kept answers are served, new ones are not kept",
            where=str(path),
            fix="make room, or lower the site's cache_gib; storing goes on by itself",
        )
    return StoreError(
        f"answers cannot be kept: {error}", where=str(path), fix="check the folder's owner, permissions and disk"
    )


class _UntrustedError(Exception):
    """The file is there and cannot be believed; the text says why."""


def _open(path: Path) -> tuple[sqlite3.Connection, int]:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0), 0o600))
    connection = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False)
    try:
        return connection, _prepare(connection)
    except sqlite3.DatabaseError as error:
        connection.close()
        code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_FORMAT):
            raise _UntrustedError(f"the file of kept answers is damaged ({error})") from error
        raise
    except BaseException:
        connection.close()
        raise


def _prepare(connection: sqlite3.Connection) -> int:
    for setting in ("journal_mode = WAL", "synchronous = NORMAL", "trusted_schema = OFF", "wal_autocheckpoint = 4000"):
        connection.execute(f"PRAGMA {setting}").fetchall()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == 0 and not connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
        return _create(connection)
    if version != FORMAT:
        raise _UntrustedError(f"the file of kept answers has format {version}, this gridctl reads {FORMAT}")
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise _UntrustedError(f"the file of kept answers is damaged ({verdict})")
    identity = _identity(connection)
    # Every table is read once: a file that lost one is not ours any more.
    for table in ("entries", "hits", "purges", "lessons", "served"):
        connection.execute(f"SELECT * FROM {table} LIMIT 1").fetchall()  # noqa: S608 (names written above)
    return identity


def _create(connection: sqlite3.Connection) -> int:
    identity = secrets.randbits(62) | 1
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in _SCHEMA.split(";"):
            if statement.strip():
                connection.execute(statement)
        connection.execute("INSERT INTO facts VALUES ('identity', ?)", (identity,))
        # Purges and numbers go on from a moment in time, so those of a file that was set aside are not used again.
        connection.execute("INSERT INTO facts VALUES ('first_purge', ?)", (time.time_ns() >> 20,))
        connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('entries', ?)", (time.time_ns() >> 12,))
        connection.execute(f"PRAGMA user_version = {FORMAT:d}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return identity


def _identity(connection: sqlite3.Connection) -> int:
    row = connection.execute("SELECT value FROM facts WHERE name = 'identity'").fetchone()
    if row is None:
        raise sqlite3.DatabaseError("the file has no identity")
    return int(row[0])


def _set_aside(path: Path) -> Path:
    """Rename a file and its log out of the way."""
    number = 1
    while (aside := path.with_name(f"{path.name}.corrupt-{number}")).exists():
        number += 1
    path.rename(aside)
    for ending in ("-wal", "-shm"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + ending).rename(aside.with_name(aside.name + ending))
    for old in range(1, number - KEPT_ASIDE + 1):
        for ending in ("", "-wal", "-shm"):
            path.with_name(f"{path.name}.corrupt-{old}{ending}").unlink(missing_ok=True)
    return aside
