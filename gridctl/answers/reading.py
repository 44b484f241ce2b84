"""Reading: a worker's own look for an exact repeat: the presence table, then the entry in the file, and nobody else.

Decides whether an entry may go to a question by the same rules as the keeper: whole key, partition, workload,
jurisdiction, purges, time. The table and the file are only hints to each other: an entry number counts when the table
belongs to this file, and what the file says of it is compared with everything the question says. Rows are kept for a
while; the table, asked each time, says whether they still hold. Any trouble with the file is an absent answer.
"""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from gridctl.answers.database import open_to_read
from gridctl.answers.entries import Purge, Stored, is_valid, kept_at
from gridctl.answers.lifetimes import age_of
from gridctl.answers.presence import Presence
from gridctl.answers.question import Kept, Question
from gridctl.errors import GridctlError

ROWS_KEPT = 4_096
LARGEST_KEPT_BYTES = 64 << 10
_FIELDS = Stored.__struct_fields__
_SELECT = f"SELECT {', '.join(_FIELDS)} FROM entries WHERE number = ?"  # noqa: S608 (names of our own struct)
_TAGS = _FIELDS.index("tags")
_decode_tags = msgspec.msgpack.Decoder(tuple[str, ...]).decode


class Reading:
    """The table and the file of a folder, opened as they come and opened anew when the keeper began anew."""

    def __init__(self, folder: Path, presence: str) -> None:
        self._folder, self._name = folder, presence
        self._presence: Presence | None = None
        self._file: sqlite3.Connection | None = None
        self._identity = 0
        self._purges: dict[str, Purge] = {}
        self._last_purge = -1
        self._rows: OrderedDict[int, Stored] = OrderedDict()
        self.absent: Callable[[bytes], int | None] = _unknown
        """`last_purge`, where nothing is kept under an exact key as far as the table says; None where something may."""
        self.attach()

    def attach(self) -> bool:
        """Look for the table again; True when it is there. Called when the keeper is back."""
        try:
            found = Presence.attach(self._name)
        except GridctlError:
            return self._presence is not None
        if self._presence is not None:
            self._presence.close()
        found.populate()
        self._presence, self.absent = found, found.absent
        return True

    def close(self) -> None:
        """Let go of the table and the file."""
        if self._presence is not None:
            self.absent = _unknown
            self._presence.close()
            self._presence = None
        self._forget_file()

    @property
    def last_purge(self) -> int:
        """The place of the last purge, 0 while nothing is known: the oldest there is."""
        return self._presence.purge if self._presence is not None else 0

    def find(self, question: Question, now_ns: int) -> Kept | None:
        """The kept answer to this very question."""
        presence = self._presence
        if presence is None or not question.may_serve:
            return None
        number = presence.find(question.exact)
        if not number:
            return None
        try:
            row = self._row(presence, number)
        except (sqlite3.Error, OSError, msgspec.MsgspecError):
            self._forget_file()
            return None
        if row is None or not self._fits(row, question):
            return None
        age = age_of(row, question.ttl_s, question.stale_s, now_ns)
        if age is None:
            return None
        return kept_at(row, question, age, "exact", None, None)

    def _fits(self, row: Stored, question: Question) -> bool:
        return (
            row.exact == question.exact
            and row.partition.hex() == question.partition
            and row.workload == question.workload
            and row.jurisdiction == question.jurisdiction
            and is_valid(row.tags, row.stamp, self._purges)
        )

    def _row(self, presence: Presence, number: int) -> Stored | None:
        if self._file is None or presence.file_identity != self._identity:
            self._open(presence)
        if presence.purge != self._last_purge:
            self._read_purges(presence.purge)
        row = self._rows.get(number)
        if row is not None:
            self._rows.move_to_end(number)
            return row
        assert self._file is not None
        found = self._file.execute(_SELECT, (number,)).fetchone()
        if found is None:
            return None
        values = list(found)
        values[_TAGS] = _decode_tags(values[_TAGS])
        row = Stored(*values)
        if len(row.content) <= LARGEST_KEPT_BYTES:
            self._rows[number] = row
            if len(self._rows) > ROWS_KEPT:
                self._rows.popitem(last=False)
        return row

    def _open(self, presence: Presence) -> None:
        self._forget_file()
        file, identity = open_to_read(self._folder)
        if identity != presence.file_identity:
            file.close()
            raise sqlite3.OperationalError("the table belongs to another file")
        self._file, self._identity = file, identity

    def _read_purges(self, last: int) -> None:
        assert self._file is not None
        rows = self._file.execute("SELECT tag, number, announced, place FROM purges").fetchall()
        self._purges = {tag: Purge(number, announced, place) for tag, number, announced, place in rows}
        self._last_purge = last

    def _forget_file(self) -> None:
        if self._file is not None:
            with suppress(sqlite3.Error):
                self._file.close()
        self._file, self._identity, self._last_purge = None, 0, -1
        self._purges = {}
        self._rows.clear()


def _unknown(exact: bytes) -> int:
    """Nothing is known to be kept, and of no purge."""
    return 0
