"""The tables of rollouts, beside the registry's and opened in the same way: numbered migrations, forward only."""

from __future__ import annotations

from gridctl.registry.schema import MIGRATION_TABLE, Migration

MIGRATIONS = (
    Migration(
        1,
        (
            MIGRATION_TABLE,
            """CREATE TABLE counter (
                id INTEGER PRIMARY KEY CHECK (id = 1),
                generation INTEGER NOT NULL CHECK (generation >= 0)
            )""",
            "INSERT INTO counter VALUES (1, 0)",
            """CREATE TABLE rollout (
                name TEXT NOT NULL PRIMARY KEY CHECK (name <> ''),
                model TEXT NOT NULL,
                generation INTEGER NOT NULL,
                is_over INTEGER NOT NULL,
                created_s REAL NOT NULL,
                document TEXT NOT NULL
            ) WITHOUT ROWID""",
            """CREATE TABLE rollout_site (
                rollout TEXT NOT NULL REFERENCES rollout (name),
                site TEXT NOT NULL,
                document TEXT NOT NULL,
                PRIMARY KEY (rollout, site)
            ) WITHOUT ROWID""",
            """CREATE TABLE site (
                site TEXT NOT NULL PRIMARY KEY,
                generation INTEGER NOT NULL,
                boot_id TEXT NOT NULL,
                seq INTEGER NOT NULL,
                retired TEXT NOT NULL,
                heard_s REAL NOT NULL,
                report TEXT NOT NULL
            ) WITHOUT ROWID""",
            """CREATE TABLE wanted (
                site TEXT NOT NULL,
                model TEXT NOT NULL,
                rollout TEXT NOT NULL,
                generation INTEGER NOT NULL,
                document TEXT NOT NULL,
                PRIMARY KEY (site, model)
            ) WITHOUT ROWID""",
            """CREATE TABLE release (
                model TEXT NOT NULL,
                digest TEXT NOT NULL,
                variant TEXT NOT NULL,
                PRIMARY KEY (model, digest)
            ) WITHOUT ROWID""",
            """CREATE TABLE serving (
                site TEXT NOT NULL,
                model TEXT NOT NULL,
                variant TEXT NOT NULL,
                PRIMARY KEY (site, model)
            ) WITHOUT ROWID""",
            """CREATE TABLE outbox (
                number INTEGER PRIMARY KEY AUTOINCREMENT,
                site TEXT NOT NULL,
                model TEXT NOT NULL,
                variant TEXT NOT NULL,
                rollout TEXT NOT NULL,
                generation INTEGER NOT NULL
            )""",
            """CREATE TABLE event (
                number INTEGER PRIMARY KEY AUTOINCREMENT,
                at_s REAL NOT NULL,
                rollout TEXT NOT NULL,
                generation INTEGER NOT NULL,
                cause TEXT NOT NULL,
                site TEXT NOT NULL,
                phase TEXT NOT NULL,
                detail TEXT NOT NULL
            )""",
            "CREATE INDEX event_of_rollout ON event (rollout, number)",
        ),
    ),
)
