"""Store: rollouts, what sites should hold and what they said, in one SQLite file; one transaction for each event.

Decides nothing: it runs the machine and keeps what came of it, all or nothing. Every write is a compare-and-set on the
rollout's generation; generations come from one counter that never goes back, and that a lost file does not set back
either, because it is at least the clock's seconds. Invariants: what sites are told, and what the registry is to be
told, is written with the change that it follows from, so a crash at any point loses neither; a report that is not newer
than the last of its site changes nothing; one active rollout at most for a site and model.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Self

import msgspec

from gridctl.errors import ConflictError, InputError
from gridctl.registry.database import Database
from gridctl.rollout import news, outbox, records
from gridctl.rollout.draft import listed
from gridctl.rollout.machine import refusal, step
from gridctl.rollout.outbox import Declaration
from gridctl.rollout.protocol import Report, Wanted
from gridctl.rollout.records import Heard
from gridctl.rollout.schema import MIGRATIONS
from gridctl.rollout.state import Event, Operated, Rollout, Step

FILE = "rollouts.db"
TIMEOUT_S = 10.0
SETTLED = ("committed", "reverted")


class HistoryEntry(msgspec.Struct, frozen=True):
    """Something that changed a rollout or one of its sites."""

    at_s: float
    rollout: str
    generation: int
    cause: str
    site: str
    phase: str
    detail: str


class KnownSite(msgspec.Struct, frozen=True):
    """A site as it last said it was."""

    site: str
    generation: int
    heard_s: float
    report: Report


class RolloutStore:
    """The store in a folder. Belongs to the thread that opened it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._active: dict[str, Rollout] = {}
        self._settling: dict[str, Rollout] = {}
        self._heard: dict[str, Heard] = {}
        with database.reading() as connection:
            for (name,) in connection.execute("SELECT name FROM rollout WHERE is_over = 0").fetchall():
                self._active[name] = records.read(connection, name)
            for row in connection.execute("SELECT site, boot_id, seq, retired, heard_s, report FROM site"):
                site, boot_id, seq, retired, heard_s, report = row
                if not boot_id:  # told something, never heard
                    continue
                boots = tuple(retired.split())
                self._heard[site] = Heard(boot_id, seq, boots, heard_s, msgspec.json.decode(report, type=Report))

    @classmethod
    def open(cls, folder: Path) -> Self:
        """The store of a folder, made when there is none. Raises StoreError."""
        return cls(Database.open(folder / FILE, create=True, timeout_s=TIMEOUT_S, migrations=MIGRATIONS))

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    # ── what is so ──────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def active(self) -> dict[str, Rollout]:
        """Rollouts that are not over, by name."""
        return dict(self._active)

    def names(self) -> list[str]:
        """Every rollout, the newest first."""
        with self._database.reading() as connection:
            rows = connection.execute("SELECT name FROM rollout ORDER BY created_s DESC, name DESC").fetchall()
        return [name for (name,) in rows]

    def get(self, name: str) -> Rollout:
        """A rollout. Raises NotFoundError."""
        known = self._active.get(name) or self._settling.get(name)
        if known is not None:
            return known
        with self._database.reading() as connection:
            return records.read(connection, name)

    def history(self, name: str | None, limit: int) -> list[HistoryEntry]:
        """The newest that many changes of a rollout or of all, oldest first."""
        query = "SELECT at_s, rollout, generation, cause, site, phase, detail FROM event"
        chosen: tuple[object, ...] = () if name is None else (name,)
        query += " WHERE rollout = ?" if name is not None else ""
        with self._database.reading() as connection:
            rows = connection.execute(f"{query} ORDER BY number DESC LIMIT ?", (*chosen, limit)).fetchall()
        return [HistoryEntry(*row) for row in reversed(rows)]

    def known_site(self, site: str) -> KnownSite | None:
        """What a site last said; None when it never did."""
        heard = self._heard.get(site)
        if heard is None:
            return None
        return KnownSite(site, self.site_generation(site), heard.heard_s, heard.report)

    def heard_s(self) -> dict[str, float]:
        """When each site was last heard."""
        return {site: heard.heard_s for site, heard in self._heard.items()}

    def site_generation(self, site: str) -> int:
        """The generation of a site's desired state; 0 while nothing was ever wanted of it."""
        with self._database.reading() as connection:
            row = connection.execute("SELECT generation FROM site WHERE site = ?", (site,)).fetchone()
        return int(row[0]) if row else 0

    def wanted(self, site: str) -> tuple[Wanted, ...]:
        """What a site should do, model by model."""
        with self._database.reading() as connection:
            rows = connection.execute("SELECT document FROM wanted WHERE site = ? ORDER BY model", (site,)).fetchall()
        return tuple(msgspec.json.decode(document, type=Wanted) for (document,) in rows)

    def latest(self, site: str, model: str) -> str | None:
        """The rollout that what is wanted of a model at a site comes from."""
        with self._database.reading() as connection:
            row = connection.execute(
                "SELECT rollout FROM wanted WHERE site = ? AND model = ?", (site, model)
            ).fetchone()
        return str(row[0]) if row else None

    def declarations(self) -> list[Declaration]:
        """What the registry has not been told yet, in order."""
        with self._database.reading() as connection:
            return outbox.declarations(connection)

    # ── what happens ────────────────────────────────────────────────────────────────────────────────────────────────

    def create(self, rollout: Rollout, now_s: float, *, first: Event | None = None) -> Rollout:
        """Keep a new rollout, and let `first` happen to it at once. Its version's counter is that of this moment.

        Raises InputError for a name that is taken, ConflictError while another is active at one of its sites."""
        with self._database.writing() as connection:
            if connection.execute("SELECT 1 FROM rollout WHERE name = ?", (rollout.name,)).fetchone():
                raise InputError(
                    f"there is a rollout {rollout.name} already", where="--name", fix="choose another name"
                )
            self._refuse_second(rollout)
            generation = records.tick(connection, now_s)
            version = msgspec.structs.replace(rollout.version, counter=generation)
            made = msgspec.structs.replace(rollout, version=version, generation=generation, created_s=now_s)
            made = msgspec.structs.replace(made, since_s=now_s)
            records.insert(connection, made)
            connection.execute(
                "INSERT OR REPLACE INTO release VALUES (?, ?, ?)", (made.model, version.digest, version.variant)
            )
            records.note(connection, now_s, made, f"created by {made.created_by}", "", f"for {listed(made.sites)}")
            if first is not None:
                made = self._keep(connection, made, step(made, first, now_s, generation), now_s, news.cause_of(first))
        self._remember(made)
        return made

    def happen(self, name: str, event: Event, now_s: float) -> Rollout:
        """Let an event happen to a rollout. Raises NotFoundError; ConflictError for what an operator cannot do now."""
        rollout = self.get(name)
        if isinstance(event, Operated) and (why := refusal(rollout, event.verb)) is not None:
            raise ConflictError(
                f"rollout {name} cannot {event.verb}: {why}",
                where=f"rollout {name}",
                fix=f"see: gridctl rollout status {name}",
            )
        if step(rollout, event, now_s, rollout.generation + 1).rollout is rollout:
            return rollout
        with self._database.writing() as connection:
            generation = records.tick(connection, now_s)
            after = self._keep(
                connection, rollout, step(rollout, event, now_s, generation), now_s, news.cause_of(event)
            )
        self._remember(after)
        return after

    def report(self, site: str, report: Report, now_s: float) -> bool:
        """Take a site's report; whether it was listened to, being the newest."""
        heard = self._heard.get(site)
        taken = news.heard_after(heard, report, now_s)
        if taken is None:
            return False
        followed = [rollout for rollout in self._concerned(site) if news.changes(rollout, site, report, now_s)]
        if followed or heard is None or news.is_news(heard, taken):
            with self._database.writing() as connection:
                generation = records.tick(connection, now_s)
                followed = [
                    self._keep(connection, rollout, step(rollout, event, now_s, generation), now_s, "report", site)
                    for rollout in followed
                    for event in (news.reported(rollout, site, report),)
                ]
                outbox.declare(connection, site, report, generation)
                records.keep_site(connection, site, taken)
            for rollout in followed:
                self._remember(rollout)
        self._heard[site] = taken
        return True

    def declared(self, number: int) -> None:
        """The registry has been told."""
        with self._database.writing() as connection:
            outbox.forget(connection, number)

    # ── inside ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _refuse_second(self, rollout: Rollout) -> None:
        for other in self._active.values():
            shared = sorted(other.sites.keys() & rollout.sites.keys()) if other.model == rollout.model else []
            if shared:
                raise ConflictError(
                    f"rollout {other.name} of {other.model} is {other.phase} at {shared[0]}"
                    + (f" and {len(shared) - 1} more of these sites" if len(shared) > 1 else ""),
                    where=f"rollout {other.name}",
                    fix=f"wait for it, or end it: gridctl rollout abort {other.name}",
                )

    def _concerned(self, site: str) -> list[Rollout]:
        """Rollouts that a report of the site may change: active ones, and ended ones that still wait for the site."""
        active = [rollout for rollout in self._active.values() if site in rollout.sites]
        models = {rollout.model for rollout in active}
        with self._database.reading() as connection:
            rows = connection.execute("SELECT rollout, model FROM wanted WHERE site = ?", (site,)).fetchall()
            for name, model in rows:
                if name in self._active or model in models:
                    continue
                if name not in self._settling:
                    self._settling[name] = records.read(connection, name)
        names = {name for name, model in rows if name not in self._active and model not in models}
        ended = [self._settling[name] for name in sorted(names)]
        return active + [one for one in ended if site in one.sites and one.sites[site].phase not in SETTLED]

    def _remember(self, rollout: Rollout) -> None:
        if rollout.is_over:
            self._active.pop(rollout.name, None)
            self._settling[rollout.name] = rollout
        else:
            self._active[rollout.name] = rollout

    def _keep(
        self, connection: sqlite3.Connection, before: Rollout, after: Step, now_s: float, cause: str, site: str = ""
    ) -> Rollout:
        """Write what a step led to: rollout, sites, instructions, history."""
        rollout = after.rollout
        if rollout is before:
            return before
        updated = connection.execute(
            "UPDATE rollout SET generation = ?, is_over = ?, document = ? WHERE name = ? AND generation = ?",
            (rollout.generation, rollout.is_over, records.document_of(rollout), rollout.name, before.generation),
        )
        if updated.rowcount != 1:
            raise ConflictError(
                f"rollout {rollout.name} was changed by another process",
                where=f"rollout {rollout.name}",
                fix="one orchestrator at a time may use this folder: gridctl status",
            )
        for name, progress in rollout.sites.items():
            was = before.sites.get(name)
            if progress is not was:
                records.write_site(connection, rollout.name, progress)
                if was is None or was.phase != progress.phase:
                    detail = records.failure_text(progress)
                    records.note(connection, now_s, rollout, cause, name, detail, phase=progress.phase)
        outbox.instruct(connection, rollout, after.instructions)
        if rollout.phase != before.phase or rollout.wave != before.wave:
            records.note(connection, now_s, rollout, cause, site, rollout.because)
        return rollout
