"""Numbers: what this gateway knows of the orders that all gateways share, and what it still has to tell them.

The server holds one list of notices for each epoch; a notice's number is its place in it. An answer carries the number
that its gateway had read when its engine was asked, and is void once a later notice names a tag or the key of it: so a
purge is one write, whatever it hits. An epoch is a random word: when a server may have lost notices another one begins,
and nothing of the former is looked at again. Decides which answers hold, which notices are carried out here, which are
owed. Invariants: an answer never gets a number that was unknown when its engine was asked; what is owed is owed until
the server has it, over restarts, too; what was ordered here is said again in every new epoch, because others may have
missed it. No sockets, no clock.
"""

from __future__ import annotations

import os
import secrets
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from gridctl.answers.shared_record import Notice, Record, is_epoch
from gridctl.errors import StoreError

FILE = "shared.state"
MOST_NOTICES = 10_000
"""Notices of an epoch; with more of them another one begins."""
MOST_REMEMBERED = 4_000
"""Orders of this gateway that are said again in a new epoch: the last ones."""
MOST_MARKS = 4_096


class State(msgspec.Struct):
    """What outlives the keeper. `number` notices of `epoch` were carried out here; `switched` is when each workload was
    last stopped or resumed, by the clock of who ordered it."""

    version: int = 1
    sender: str = ""
    epoch: str = ""
    number: int = 0
    owed: list[Notice] = []
    ordered: list[Notice] = []
    switched: dict[str, int] = {}


class Numbers:
    """One gateway's. `folder` holds its file."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self.state = _read(self.path)
        if not self.state.sender:
            self.state.sender = secrets.token_hex(8)
        self.epoch = ""
        self.number = 0
        self._carried = 0
        self._last: dict[str, int] = {}
        self._owed: set[str] = set()
        self._marks: deque[tuple[int, int]] = deque(maxlen=MOST_MARKS)
        self._count_owed()

    # ── what is ordered here ──

    def owe(self, notices: Iterable[Notice]) -> None:
        """Have the others told; from now on nothing from the server holds that these name."""
        state = self.state
        for notice in notices:
            told = msgspec.structs.replace(notice, sender=state.sender)
            state.owed.append(told)
            state.ordered = [one for one in state.ordered if _subject(one) != _subject(told)][-MOST_REMEMBERED + 1 :]
            state.ordered.append(told)
            if told.kind in ("stop", "resume"):
                state.switched[told.value] = max(told.unix_ns, state.switched.get(told.value, 0))
        self._count_owed()

    def said(self, notices: Sequence[Notice]) -> None:
        """The server has them."""
        gone = {id(one) for one in notices}
        self.state.owed = [one for one in self.state.owed if id(one) not in gone]
        self._count_owed()

    # ── what is heard ──

    def begin(self, epoch: str) -> None:
        """Follow an epoch from its first notice; one that is new here is told what was ordered here."""
        state = self.state
        if epoch != state.epoch:
            state.epoch, state.number = epoch, 0
            known = {_subject(one) for one in state.owed}
            state.owed = [*(one for one in state.ordered if _subject(one) not in known), *state.owed][-MOST_REMEMBERED:]
            self._count_owed()
        self.epoch, self.number, self._carried = epoch, 0, state.number
        self._last.clear()
        self._marks.clear()

    def hear(self, notices: Iterable[Notice]) -> list[Notice]:
        """Take the next notices of the list; those of others that were not carried out here yet."""
        state, found = self.state, list[Notice]()
        for notice in notices:
            self.number += 1
            self._last[_subject(notice)] = self.number
            if notice.kind == "begin" or self.number <= self._carried or notice.sender == state.sender:
                continue
            if notice.kind in ("stop", "resume"):
                if notice.unix_ns <= state.switched.get(notice.value, 0):
                    continue
                state.switched[notice.value] = notice.unix_ns
            found.append(notice)
        return found

    def mark(self, place: int) -> None:
        """The purges here are at this place now, and everything heard so far is carried out."""
        self._marks.append((place, self.number))
        self._carried = max(self._carried, self.number)

    def settle(self, epoch: str, number: int) -> None:
        """What was heard so far is carried out durably: a restart needs not do it again."""
        if epoch == self.state.epoch:
            self.state.number = max(self.state.number, number)

    @property
    def is_marked(self) -> bool:
        """Whether any answer of this gateway can have a number."""
        return bool(self._marks)

    # ── which answers hold ──

    def number_for(self, stamp: int) -> int | None:
        """The number of an answer whose engine was asked when purges here were at `stamp`; None: it has none."""
        at = bisect_right(self._marks, stamp, key=lambda mark: mark[0])
        return self._marks[at - 1][1] if at else None

    def holds(self, record: Record, key: bytes) -> bool:
        """Whether nothing ordered since voids an answer to the question with that exact key."""
        if not 0 < record.number <= self.number:
            return False
        subjects = (f"key {key.hex()}", *(f"purge {tag}" for tag in record.tags))
        return not any(one in self._owed or self._last.get(one, 0) > record.number for one in subjects)

    # ── the file ──

    def packed(self) -> bytes:
        """The state, to be written."""
        return msgspec.msgpack.encode(self.state)

    def write(self, data: bytes) -> None:
        """Write a state, so that a kill leaves this or the one before. Raises StoreError; blocks on the disk."""
        aside = self.path.with_name(f".{FILE}.new")
        try:
            descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(self.path)
        except OSError as error:
            raise StoreError(
                f"what is owed to the shared cache cannot be written: {error.strerror}",
                where=str(self.path),
                fix="make room on the disk; it is tried again with the next order",
            ) from error

    def _count_owed(self) -> None:
        self._owed = {_subject(one) for one in self.state.owed}


def _subject(notice: Notice) -> str:
    """What a notice is about: a stop and a resume are about the same."""
    return f"{'switch' if notice.kind in ('stop', 'resume') else notice.kind} {notice.value}"


def _read(path: Path) -> State:
    with suppress(OSError, msgspec.MsgspecError):
        state = msgspec.msgpack.decode(path.read_bytes(), type=State)
        if state.version == State().version and (is_epoch(state.epoch) or not state.epoch):
            return state
    return State()
