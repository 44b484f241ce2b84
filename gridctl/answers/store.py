"""Store: entries, purges, lessons and servings, as the keeper writes and reads them, a batch at a time.

Decides what becomes durable together and what is dropped when the disk is full: new entries and notes are, removals and
purges are tried again. Invariants: an entry's number is never used again; an entry is never changed, only removed; a
reader sees a batch whole or not at all. `take` and `settle` belong to the keeper's thread, `commit` may run in another.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from gridctl.answers.database import FILE, fault, open_to_read, open_to_write
from gridctl.answers.entries import Batch, Entry, Lesson, Purge, Serving
from gridctl.cache.model import MOST_LABELS
from gridctl.errors import StoreError

SERVINGS_KEPT = 100_000
LESSONS_KEPT = 4 * MOST_LABELS
NUMBERS_SKIPPED = 1 << 20


_COLUMNS = Entry.__struct_fields__
_INSERT = f"INSERT INTO entries ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM entries"  # noqa: S608 (names of our own struct)
_TAGS = _COLUMNS.index("tags")
_decode_tags = msgspec.msgpack.Decoder(tuple[str, ...]).decode
_encode = msgspec.msgpack.encode


class Store:
    """The keeper's file, open for writing."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self._writer, self.identity, self.aside = open_to_write(folder)
        self._reader, _ = open_to_read(folder)
        (last,) = self._writer.execute("SELECT seq FROM sqlite_sequence WHERE name = 'entries'").fetchone()
        # Numbers of entries that were told of and lost with the process are left out, too.
        self._last = int(last) + NUMBERS_SKIPPED
        found = self._writer.execute("SELECT tag, number, announced, place FROM purges").fetchall()
        self.purges = {tag: Purge(number, announced, place) for tag, number, announced, place in found}
        (first,) = self._writer.execute("SELECT value FROM facts WHERE name = 'first_purge'").fetchone()
        self.last_purge = max((purge.place for purge in self.purges.values()), default=int(first))
        (place,) = self._writer.execute("SELECT coalesce(max(place), 0) FROM served").fetchone()
        self._served = int(place)
        self._waiting = Batch()
        self._writing: Batch | None = None

    def close(self) -> None:
        """Write what waits, as far as the disk takes it, and let go of the file."""
        with suppress(StoreError):
            self.flush()
        self._reader.close()
        self._writer.close()

    # ── what is to be written ──

    def next_number(self) -> int:
        """The number of an entry to be added."""
        self._last += 1
        return self._last

    def add(self, entry: Entry) -> None:
        """Keep an entry; it can be read from now on and is durable after the next commit."""
        self._waiting.entries[entry.number] = entry

    def waits(self, number: int) -> bool:
        """Whether an entry is not durable yet."""
        writing = self._writing
        return number in self._waiting.entries or (writing is not None and number in writing.entries)

    def remove(self, number: int) -> None:
        """Forget an entry."""
        if self._waiting.entries.pop(number, None) is None:
            self._waiting.removed.add(number)

    def purge(self, tag: str, number: int | None = None) -> Purge:
        """Purge a tag, by a number from elsewhere or the next one; the same or an older number does nothing."""
        known = self.purges.get(tag, Purge(0, 0, 0))
        if number is not None and number <= known.number:
            return known
        number = max(known.number, known.announced) + 1 if number is None else number
        self.last_purge += 1
        return self._set_purge(tag, Purge(number, max(known.announced, number), self.last_purge))

    def announce(self, tag: str, number: int) -> Purge:
        """Hear that a tag was purged so many times; when purges are missing here, nothing with the tag is valid."""
        known = self.purges.get(tag, Purge(0, 0, 0))
        if number <= known.announced:
            return known
        self.last_purge += 1
        return self._set_purge(tag, Purge(known.number, number, known.place))

    def learnt(self, lesson: Lesson) -> None:
        """Keep a label of the model."""
        self._waiting.lessons.append(lesson)

    def served(self, serving: Serving) -> None:
        """Note a serving, for traces."""
        self._waiting.served.append(serving)

    # ── writing ──

    def take(self) -> Batch | None:
        """What waits, to be committed; None when nothing does or a batch is being written."""
        if self._writing is not None or self._waiting.is_empty:
            return None
        self._writing, self._waiting = self._waiting, Batch()
        return self._writing

    def commit(self, batch: Batch) -> None:
        """Write a batch, whole or not at all. Raises StoreError; blocks on the disk."""
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                self._write(batch)
                self._writer.execute("COMMIT")
            except BaseException:
                # After a full disk SQLite has already rolled back by itself, and a second time is an error.
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise
        except (sqlite3.Error, OSError) as error:
            raise fault(error, self.path) from error

    def settle(self, batch: Batch, is_written: bool) -> None:
        """Take note of how a commit went. Of a batch that failed, removals, purges and lessons wait again."""
        self._writing = None
        if is_written:
            return
        waiting = self._waiting
        waiting.removed |= batch.removed
        waiting.purges = {**batch.purges, **waiting.purges}
        waiting.lessons = [*batch.lessons, *waiting.lessons][-LESSONS_KEPT:]

    def flush(self) -> Batch | None:
        """Write what waits, here and now; the batch. Raises StoreError."""
        batch = self.take()
        if batch is None:
            return None
        try:
            self.commit(batch)
        except StoreError:
            self.settle(batch, is_written=False)
            raise
        self.settle(batch, is_written=True)
        return batch

    # ── reading ──

    def read(self, number: int) -> Entry | None:
        """The entry of that number, durable or not; None when there is none (any more)."""
        for batch in (self._waiting, self._writing):
            if batch is not None:
                if number in batch.removed:
                    return None
                if number in batch.entries:
                    return batch.entries[number]
        try:
            row = self._reader.execute(f"{_SELECT} WHERE number = ?", (number,)).fetchone()
        except sqlite3.Error:  # a page that cannot be read is as good as gone
            return None
        return None if row is None else _entry(row)

    def entries(self, after: int = 0, most: int = 1_000) -> list[Entry]:
        """Durable entries in the order of their numbers."""
        rows = self._reader.execute(f"{_SELECT} WHERE number > ? ORDER BY number LIMIT ?", (after, most))
        return [_entry(row) for row in rows.fetchall()]

    def lessons(self) -> Iterator[Lesson]:
        """Labels of the model, oldest first."""
        rows = self._reader.execute("SELECT workload, features, wrong, weight FROM lessons ORDER BY place")
        for workload, features, wrong, weight in rows.fetchall():
            yield Lesson(workload, features, bool(wrong), weight)

    def hits(self) -> dict[int, int]:
        """How often entries were served."""
        return dict(self._reader.execute("SELECT entry, hits FROM hits").fetchall())

    def servings(self, request_id: str = "", entry: int = 0, most: int = 1_000) -> list[Serving]:
        """What went out under a request's id or from an entry, newest first, among the last ones written."""
        column, value = ("request_id", request_id) if request_id else ("entry", entry)
        rows = self._reader.execute(
            "SELECT request_id, entry, level, workload, tenant, user, saved_usd, unix_ns FROM served "  # noqa: S608
            f"WHERE {column} = ? ORDER BY place DESC LIMIT ?",
            (value, most),
        )
        return [Serving(*row) for row in rows.fetchall()]

    def served_to(self) -> list[tuple[str, str, int, int, float]]:
        """Workload, tenant, answers that went out, those by meaning, and dollars saved, of the last ones written."""
        rows = self._reader.execute(
            "SELECT workload, tenant, COUNT(*), SUM(level = 'semantic'), SUM(saved_usd) FROM served"
            " GROUP BY workload, tenant ORDER BY workload, tenant"
        )
        return rows.fetchall()

    def brought_by(self, request_id: str) -> list[int]:
        """Entries whose answers were made for a request."""
        rows = self._reader.execute("SELECT number FROM entries WHERE request_id = ?", (request_id,))
        return [number for (number,) in rows.fetchall()]

    def _set_purge(self, tag: str, purge: Purge) -> Purge:
        self.purges.pop(tag, None)
        self.purges[tag] = purge
        self._waiting.purges[tag] = purge
        return purge

    def _write(self, batch: Batch) -> None:
        writer = self._writer
        writer.executemany("DELETE FROM entries WHERE number = ?", [(one,) for one in batch.removed])
        writer.executemany("DELETE FROM hits WHERE entry = ?", [(one,) for one in batch.removed])
        writer.executemany(_INSERT, [_row(entry) for entry in batch.entries.values()])
        writer.executemany(
            "INSERT OR REPLACE INTO purges VALUES (?, ?, ?, ?)",
            [(tag, one.number, one.announced, one.place) for tag, one in batch.purges.items()],
        )
        writer.executemany(
            "INSERT INTO lessons (workload, features, wrong, weight) VALUES (?, ?, ?, ?)",
            [(one.workload, one.features, one.wrong, one.weight) for one in batch.lessons],
        )
        writer.execute("DELETE FROM lessons WHERE place <= (SELECT max(place) FROM lessons) - ?", (LESSONS_KEPT,))
        self._write_served(batch.served)

    def _write_served(self, served: list[Serving]) -> None:
        if not served:
            return
        writer = self._writer
        # The place is taken round and round: the newest servings stand where the oldest were.
        for one in served:
            self._served += 1
            row = (self._served, *(getattr(one, name) for name in Serving.__struct_fields__))
            writer.execute("INSERT INTO served VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        writer.execute("DELETE FROM served WHERE place <= ?", (self._served - SERVINGS_KEPT,))
        writer.executemany(
            "INSERT INTO hits VALUES (?, 1, ?) ON CONFLICT (entry) DO UPDATE "
            "SET hits = hits + 1, saved_usd = saved_usd + excluded.saved_usd",
            [(one.entry, one.saved_usd) for one in served],
        )


def _row(entry: Entry) -> tuple[object, ...]:
    return tuple(_encode(entry.tags) if name == "tags" else getattr(entry, name) for name in _COLUMNS)


def _entry(row: tuple[object, ...]) -> Entry:
    values = dict(zip(_COLUMNS, row, strict=True))
    values["tags"] = _decode_tags(row[_TAGS])  # type: ignore[arg-type]
    return Entry(**values)  # type: ignore[arg-type]
