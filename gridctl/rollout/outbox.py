"""Outbox: what sites are to be told, and what the registry is to be told of them, as rows of the store.

Every function runs inside the caller's transaction, so what is to be told is written with the change it follows from.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import NamedTuple

from gridctl.rollout import records
from gridctl.rollout.protocol import Report
from gridctl.rollout.state import Instruct, Instruction, Rollout

_NOBODY = Report(boot_id="-", seq=0)


class Declaration(NamedTuple):
    """The registry should say that engines of a site serve this variant of a model, because the site says they do."""

    number: int
    site: str
    model: str
    variant: str
    rollout: str


def instruct(connection: sqlite3.Connection, rollout: Rollout, instructions: Iterable[Instruction]) -> None:
    """Have sites told this of the rollout's model from now on."""
    for one in instructions:
        if isinstance(one, Instruct):
            connection.execute(
                "INSERT INTO wanted VALUES (?, ?, ?, ?, ?) ON CONFLICT (site, model) DO UPDATE SET"
                " rollout = excluded.rollout, generation = excluded.generation, document = excluded.document",
                (one.site, one.wanted.model, rollout.name, rollout.generation, records.text_of(one.wanted)),
            )
        else:
            connection.execute("DELETE FROM wanted WHERE site = ? AND model = ?", (one.site, one.model))
        connection.execute(
            "INSERT INTO site VALUES (?, ?, '', -1, '', 0, ?) ON CONFLICT (site) DO UPDATE SET"
            " generation = excluded.generation",
            (one.site, rollout.generation, records.text_of(_NOBODY)),
        )


def declare(connection: sqlite3.Connection, site: str, report: Report, generation: int) -> None:
    """What the site's engines serve is to be said of it: by its digest's variant, else by the site's own word."""
    if not report.engine_ok:
        return
    for actual in report.actual:
        serving = actual.serving
        if serving is None:
            continue
        known = records.variant_of(connection, actual.model, serving.digest) or serving.variant
        row = connection.execute(
            "SELECT variant FROM serving WHERE site = ? AND model = ?", (site, actual.model)
        ).fetchone()
        if row is not None and row[0] == known:
            continue
        connection.execute("INSERT OR REPLACE INTO serving VALUES (?, ?, ?)", (site, actual.model, known))
        # What was true before must not be told after.
        connection.execute("DELETE FROM outbox WHERE site = ? AND model = ?", (site, actual.model))
        rollout = connection.execute(
            "SELECT rollout FROM wanted WHERE site = ? AND model = ?", (site, actual.model)
        ).fetchone()
        connection.execute(
            "INSERT INTO outbox (site, model, variant, rollout, generation) VALUES (?, ?, ?, ?, ?)",
            (site, actual.model, known, rollout[0] if rollout else "", generation),
        )


def declarations(connection: sqlite3.Connection) -> list[Declaration]:
    """What the registry has not been told yet, in order."""
    rows = connection.execute("SELECT number, site, model, variant, rollout FROM outbox ORDER BY number").fetchall()
    return [Declaration(*row) for row in rows]


def forget(connection: sqlite3.Connection, number: int) -> None:
    """The registry has been told."""
    connection.execute("DELETE FROM outbox WHERE number = ?", (number,))
