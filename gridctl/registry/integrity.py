"""What must hold of a registry beyond what SQLite itself enforces; checked by reading, never repaired."""

from __future__ import annotations

import sqlite3

from gridctl.errors import StoreError
from gridctl.registry.documents import resource_from


def problems_of(connection: sqlite3.Connection) -> list[str]:
    """A sentence for each thing that is wrong; empty when all is well. O(resources + events)."""
    try:
        pages = [str(row[0]) for row in connection.execute("PRAGMA integrity_check").fetchall()]
        problems = [page for page in pages if page != "ok"]
        # Rows of damaged pages cannot be trusted to say anything about each other.
        return problems or [*_ledger_problems(connection), *_document_problems(connection)]
    except sqlite3.DatabaseError as error:
        return [f"the database cannot be read to its end: {error}"]


def _ledger_problems(connection: sqlite3.Connection) -> list[str]:
    problems = []
    counters = connection.execute("SELECT version FROM counter").fetchall()
    count, newest = connection.execute("SELECT count(*), coalesce(max(version), 0) FROM event").fetchone()
    if counters != [(newest,)]:
        problems.append(f"the newest event has version {newest}, the counter holds {counters}")
    if count != newest:
        problems.append(f"{newest - count} of {newest} events are missing")
    strays = connection.execute(
        "SELECT r.kind, r.name, r.version FROM resource r LEFT JOIN event e"
        " ON e.version = r.version AND e.kind = r.kind AND e.name = r.name AND e.action <> 'deleted'"
        " WHERE e.version IS NULL ORDER BY r.kind, r.name"
    ).fetchall()
    problems += [f"{kind} {name} has version {version}, which no event made" for kind, name, version in strays]
    return problems


def _document_problems(connection: sqlite3.Connection) -> list[str]:
    problems = []
    for kind, name, document in connection.execute("SELECT kind, name, document FROM resource ORDER BY kind, name"):
        try:
            resource = resource_from(kind, name, document)
        except StoreError as error:
            problems.append(error.what)
            continue
        if resource.name != name:
            problems.append(f"{kind} {name} holds the declaration of {resource.name}")
    return problems
