"""The ledger: numbers changes, writes rows and their events, and reads events back.

Every function runs inside the caller's transaction. Invariant: counter = version of the newest event = number of
events; the row of a resource carries the version of its last event.
"""

from __future__ import annotations

import os
import sqlite3
import time
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from gridctl.registry.changes import changes_between
from gridctl.registry.stored import Change, Event, Planned, Stored

LONGEST_TEXT = 1024
CACHE = "Cache"
"""The kind of events that are orders to the cache of answers."""

_DIFF_ENCODER = msgspec.json.Encoder()
_DIFF_DECODER = msgspec.json.Decoder(tuple[Change, ...])


def version_of(connection: sqlite3.Connection) -> int:
    """The counter."""
    (version,) = connection.execute("SELECT version FROM counter").fetchone()
    return int(version)


def write(
    connection: sqlite3.Connection, writes: Iterable[tuple[Planned, str]], cause: str, actor: str | None = None
) -> None:
    """Create and update rows to their new texts, with one event each, in order.

    `actor` is who makes the change; the account of this process unless given."""
    version = version_of(connection)
    now_ns = time.time_ns()
    inserts: list[tuple[object, ...]] = []
    updates: list[tuple[object, ...]] = []
    events: list[tuple[object, ...]] = []
    for step, text in writes:
        version += 1
        kind, name = step.key
        if step.before is None:
            action = "created"
            inserts.append((kind, name, str(uuid.uuid4()), version, 1, now_ns, now_ns, text))
        else:
            action = "updated"
            spec_changed = step.before.resource.spec != step.resource.spec
            generation = step.before.generation + spec_changed
            updates.append((version, generation, now_ns, text, kind, name, step.before.version))
        events.append((version, action, kind, name, _DIFF_ENCODER.encode(step.diff).decode()))
    connection.executemany("INSERT INTO resource VALUES (?, ?, ?, ?, ?, ?, ?, ?)", inserts)
    updated = connection.executemany(
        "UPDATE resource SET version = ?, generation = ?, updated_ns = ?, document = ?"
        " WHERE kind = ? AND name = ? AND version = ?",
        updates,
    )
    assert not updates or updated.rowcount == len(updates), "a row moved inside a write transaction"
    _record(connection, events, now_ns, cause, actor)


def delete(connection: sqlite3.Connection, deleted: Sequence[Stored], cause: str, actor: str | None = None) -> None:
    """Delete rows, leaving an event each that holds the last declaration."""
    version = version_of(connection)
    events: list[tuple[object, ...]] = []
    for number, stored in enumerate(deleted, start=version + 1):
        diff = changes_between(stored.resource, None)
        events.append((number, "deleted", *stored.key, _DIFF_ENCODER.encode(diff).decode()))
    connection.executemany("DELETE FROM resource WHERE kind = ? AND name = ?", [stored.key for stored in deleted])
    _record(connection, events, time.time_ns(), cause, actor)


def note(
    connection: sqlite3.Connection, action: str, kind: str, name: str, diff: Sequence[Change], cause: str, actor: str
) -> None:
    """One event of something that is no resource: a key that was made or revoked."""
    row = (version_of(connection) + 1, action, kind, name, _DIFF_ENCODER.encode(tuple(diff)).decode())
    _record(connection, [row], time.time_ns(), cause, actor)


def events(
    connection: sqlite3.Connection, *, kind: str | None, name: str | None, since_version: int, limit: int | None
) -> list[Event]:
    """Events after `since_version`, oldest first; with a `limit` the newest that many."""
    conditions = ["version > ?"]
    values: list[object] = [since_version]
    for column, value in (("kind", kind), ("name", name)):
        if value is not None:
            conditions.append(f"{column} = ?")
            values.append(value)
    select = "SELECT version, time_ns, actor, action, kind, name, cause, diff FROM event"
    statement = f"{select} WHERE {' AND '.join(conditions)} ORDER BY version DESC LIMIT ?"
    # A negative limit is SQLite's way of saying "all".
    rows = connection.execute(statement, (*values, -1 if limit is None else max(0, limit))).fetchall()
    return [_event(row) for row in reversed(rows)]


def _event(row: tuple[Any, ...]) -> Event:
    version, time_ns, actor, action, kind, name, cause, diff = row
    return Event(version, time_ns, actor, action, kind, name, cause, _DIFF_DECODER.decode(diff))


def _record(
    connection: sqlite3.Connection,
    rows: Sequence[tuple[object, ...]],
    now_ns: int,
    cause: str,
    actor: str | None,
) -> None:
    if not rows:
        return
    actor = _storable(actor or own_account())
    cause = _storable(cause)
    connection.executemany(
        "INSERT INTO event (version, action, kind, name, diff, time_ns, actor, cause) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [(*row, now_ns, actor, cause) for row in rows],
    )
    connection.execute("UPDATE counter SET version = version + ?", (len(rows),))


def own_account() -> str:
    """Who makes the change: what the environment says, else the account's name, else its number."""
    named = os.environ.get("USER") or os.environ.get("LOGNAME")
    if named:
        return named
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container that runs as a number without an account
        return f"uid {os.getuid()}"


def _storable(text: str) -> str:
    """Free text, for example a command line: undecodable bytes and NUL replaced, length bounded."""
    return text[:LONGEST_TEXT].encode("utf-8", "replace").decode().replace("\0", "\ufffd")
