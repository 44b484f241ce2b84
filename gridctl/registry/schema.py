"""The tables, and how an older database becomes a current one.

Migrations are numbered, go forward only, and take one transaction each, which also records the migration's checksum
and the gridctl that ran it. A released migration never changes. Invariant: `user_version` is the number of the last
migration whose tables are there; a database with a higher one, or with other checksums, is refused untouched.
"""

from __future__ import annotations

import sqlite3
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from gridctl import __version__
from gridctl.errors import StoreError

APPLICATION_ID = 0x67726964  # "grid" in ASCII, in the header of the file


class Migration(NamedTuple):
    """Statements that bring a database from `number - 1` to `number`."""

    number: int
    statements: tuple[str, ...]

    @property
    def checksum(self) -> int:
        return zlib.crc32("\n".join(self.statements).encode())


MIGRATION_TABLE = """CREATE TABLE migration (
                number INTEGER PRIMARY KEY,
                checksum INTEGER NOT NULL,
                gridctl TEXT NOT NULL,
                applied_ns INTEGER NOT NULL
            )"""
"""Where each migration is recorded: the first statement of every database's first migration. Its spaces are part of
checksums that were released."""

MIGRATIONS = (
    Migration(
        1,
        (
            MIGRATION_TABLE,
            """CREATE TABLE counter (
                id INTEGER PRIMARY KEY CHECK (id = 1),
                version INTEGER NOT NULL CHECK (version >= 0)
            )""",
            "INSERT INTO counter VALUES (1, 0)",
            """CREATE TABLE resource (
                kind TEXT NOT NULL CHECK (kind <> ''),
                name TEXT NOT NULL CHECK (name <> ''),
                uid TEXT NOT NULL UNIQUE,
                version INTEGER NOT NULL,
                generation INTEGER NOT NULL CHECK (generation >= 1),
                created_ns INTEGER NOT NULL,
                updated_ns INTEGER NOT NULL,
                document TEXT NOT NULL,
                PRIMARY KEY (kind, name)
            ) WITHOUT ROWID""",
            """CREATE TABLE event (
                version INTEGER PRIMARY KEY,
                time_ns INTEGER NOT NULL,
                actor TEXT NOT NULL,
                action TEXT NOT NULL CHECK (action IN ('created', 'updated', 'deleted')),
                kind TEXT NOT NULL,
                name TEXT NOT NULL,
                cause TEXT NOT NULL,
                diff TEXT NOT NULL
            )""",
            "CREATE INDEX event_of_resource ON event (kind, name, version)",
        ),
    ),
    Migration(
        2,
        (
            """CREATE TABLE access_key (
                name TEXT NOT NULL PRIMARY KEY CHECK (name <> ''),
                digest TEXT NOT NULL UNIQUE CHECK (length(digest) = 64),
                role TEXT NOT NULL CHECK (role IN ('client', 'viewer', 'operator', 'admin')),
                tenant TEXT NOT NULL,
                workload TEXT,
                created_ns INTEGER NOT NULL,
                created_by TEXT NOT NULL,
                expires_ns INTEGER,
                revoked_ns INTEGER
            ) WITHOUT ROWID""",
        ),
    ),
    Migration(
        3,
        (
            "ALTER TABLE access_key ADD COLUMN requests_per_s REAL CHECK (requests_per_s > 0)",
            "ALTER TABLE access_key ADD COLUMN tokens_per_minute INTEGER CHECK (tokens_per_minute > 0)",
        ),
    ),
    Migration(
        4,
        (
            # A check cannot be changed in place.
            """CREATE TABLE access_key_with_agents (
                name TEXT NOT NULL PRIMARY KEY CHECK (name <> ''),
                digest TEXT NOT NULL UNIQUE CHECK (length(digest) = 64),
                role TEXT NOT NULL CHECK (role IN ('client', 'viewer', 'operator', 'admin', 'agent')),
                tenant TEXT NOT NULL,
                workload TEXT,
                created_ns INTEGER NOT NULL,
                created_by TEXT NOT NULL,
                expires_ns INTEGER,
                revoked_ns INTEGER,
                requests_per_s REAL CHECK (requests_per_s > 0),
                tokens_per_minute INTEGER CHECK (tokens_per_minute > 0),
                site TEXT CHECK ((role = 'agent') = (site IS NOT NULL))
            ) WITHOUT ROWID""",
            """INSERT INTO access_key_with_agents SELECT name, digest, role, tenant, workload, created_ns, created_by,
                expires_ns, revoked_ns, requests_per_s, tokens_per_minute, NULL FROM access_key""",
            "DROP TABLE access_key",
            "ALTER TABLE access_key_with_agents RENAME TO access_key",
        ),
    ),
)


def schema_version(connection: sqlite3.Connection) -> int:
    """Number of the last migration applied; 0 for an empty file."""
    (number,) = connection.execute("PRAGMA user_version").fetchone()
    return int(number)


def refuse_foreign(connection: sqlite3.Connection, path: Path, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Raise StoreError unless the database is empty or ours, and no newer than this program."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    version = schema_version(connection)
    if application != APPLICATION_ID:
        if tables or version or application:
            raise StoreError(
                "this is a database, but not a gridctl registry",
                where=str(path),
                fix="name the registry's file, or make one with `gridctl init NAME`",
            )
        return
    if version > len(migrations):
        writer = _writer(connection)
        raise StoreError(
            f"the registry was written by a newer gridctl: its format is {version}, "
            f"gridctl {__version__} reads up to {len(migrations)}",
            where=str(path),
            fix=f"install it: pip install 'gridctl>={writer}'" if writer else "install the newest gridctl",
        )
    recorded = connection.execute("SELECT number, checksum FROM migration ORDER BY number").fetchall()
    if recorded != [(migration.number, migration.checksum) for migration in migrations[:version]]:
        raise StoreError(
            f"the registry's format {version} is not the one gridctl {__version__} knows by that number",
            where=str(path),
            fix="open it with the gridctl that made it and `gridctl export` from there",
        )


def migrate(connection: sqlite3.Connection, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Apply what is missing. The caller holds the writer's lock; no transaction is open."""
    for migration in migrations:
        connection.execute("BEGIN IMMEDIATE")
        try:
            if schema_version(connection) < migration.number:
                _apply(connection, migration)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _apply(connection: sqlite3.Connection, migration: Migration) -> None:
    for statement in migration.statements:
        connection.execute(statement)
    connection.execute(
        "INSERT INTO migration VALUES (?, ?, ?, ?)",
        (migration.number, migration.checksum, __version__, time.time_ns()),
    )
    # PRAGMA takes no parameters; both numbers are this module's own.
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID:d}")
    connection.execute(f"PRAGMA user_version = {migration.number:d}")


def _writer(connection: sqlite3.Connection) -> str | None:
    """The gridctl that brought the database to its format, as long as that table still says so."""
    try:
        row = connection.execute("SELECT gridctl FROM migration ORDER BY number DESC LIMIT 1").fetchone()
    except sqlite3.Error:
        return None
    return str(row[0]) if row else None
