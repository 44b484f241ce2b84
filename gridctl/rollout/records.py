"""Records: the rows of the store, one function for each statement that is used more than once.

Every function runs inside the caller's transaction.
"""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

import msgspec

from gridctl.errors import NotFoundError, did_you_mean
from gridctl.rollout.protocol import Report
from gridctl.rollout.state import Rollout, SiteProgress


class Heard(NamedTuple):
    """Who spoke last for a site, and what: older reports, and those of earlier boots, are not listened to."""

    boot_id: str
    seq: int
    retired: tuple[str, ...]
    heard_s: float
    report: Report


def variant_of(connection: sqlite3.Connection, model: str, digest: str) -> str | None:
    row = connection.execute("SELECT variant FROM release WHERE model = ? AND digest = ?", (model, digest)).fetchone()
    return str(row[0]) if row else None


def tick(connection: sqlite3.Connection, now_s: float) -> int:
    """The next generation."""
    (last,) = connection.execute("SELECT generation FROM counter").fetchone()
    generation = max(int(last) + 1, int(now_s))
    connection.execute("UPDATE counter SET generation = ?", (generation,))
    return generation


def text_of(document: object) -> str:
    return msgspec.json.encode(document).decode()


def document_of(rollout: Rollout) -> str:
    """Everything but its sites, which have rows of their own."""
    return text_of(msgspec.structs.replace(rollout, sites={}))


def insert(connection: sqlite3.Connection, rollout: Rollout) -> None:
    connection.execute(
        "INSERT INTO rollout VALUES (?, ?, ?, ?, ?, ?)",
        (rollout.name, rollout.model, rollout.generation, rollout.is_over, rollout.created_s, document_of(rollout)),
    )
    for progress in rollout.sites.values():
        write_site(connection, rollout.name, progress)


def write_site(connection: sqlite3.Connection, rollout: str, progress: SiteProgress) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO rollout_site VALUES (?, ?, ?)", (rollout, progress.site, text_of(progress))
    )


def keep_site(connection: sqlite3.Connection, site: str, heard: Heard) -> None:
    connection.execute(
        "INSERT INTO site VALUES (?, 0, ?, ?, ?, ?, ?) ON CONFLICT (site) DO UPDATE SET boot_id = excluded.boot_id,"
        " seq = excluded.seq, retired = excluded.retired, heard_s = excluded.heard_s, report = excluded.report",
        (site, heard.boot_id, heard.seq, " ".join(heard.retired), heard.heard_s, text_of(heard.report)),
    )


def read(connection: sqlite3.Connection, name: str) -> Rollout:
    row = connection.execute("SELECT document FROM rollout WHERE name = ?", (name,)).fetchone()
    if row is None:
        names = [found for (found,) in connection.execute("SELECT name FROM rollout").fetchall()]
        near = did_you_mean(name, names)
        raise NotFoundError(
            f"there is no rollout {name}", fix=f"did you mean {near}?" if near else "see them: gridctl rollout list"
        )
    rollout = msgspec.json.decode(row[0], type=Rollout)
    rows = connection.execute("SELECT document FROM rollout_site WHERE rollout = ?", (name,)).fetchall()
    sites = [msgspec.json.decode(document, type=SiteProgress) for (document,) in rows]
    sites.sort(key=lambda site: (site.wave, site.site))
    return msgspec.structs.replace(rollout, sites={site.site: site for site in sites})


def note(
    connection: sqlite3.Connection,
    now_s: float,
    rollout: Rollout,
    cause: str,
    site: str,
    detail: str,
    *,
    phase: str | None = None,
) -> None:
    connection.execute(
        "INSERT INTO event (at_s, rollout, generation, cause, site, phase, detail) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (now_s, rollout.name, rollout.generation, cause, site, phase or rollout.phase, detail),
    )


def failure_text(progress: SiteProgress) -> str:
    failure = progress.failure
    if failure is None:
        return ""
    return f"{failure.reason}: {failure.detail}" if failure.detail else failure.reason
