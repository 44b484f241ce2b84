"""The worker's side of the kept answers: exact repeats by its own look, everything else by asking the keeper.

Decides nothing about what is served. Never blocks and never raises into a request: where the keeper is slow, gone or
behind, a look is a miss with that reason, and what was to be kept is dropped and counted. A ticket that came too late
for its look is handed in with that request's answer all the same, so a slow moment does not spoil the record.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import cast

import msgspec

from gridctl.answers.handed import Handed, Kind
from gridctl.answers.question import Found, Fresh, Kept, Note, Question
from gridctl.answers.reading import Reading
from gridctl.answers.wire import (
    VERSION,
    Abandon,
    Answered,
    Frames,
    Hello,
    Keep,
    Keeps,
    Look,
    Notes,
    ToKeeper,
    connect,
    decode_from_keeper,
    frame,
)
from gridctl.cache.cacheable import LONGEST_PROMPT
from gridctl.errors import InputError

__all__ = ["Answers", "Found", "Fresh", "Kept", "Note", "Question"]

MOST_LOOKS = 1_024
MOST_UNSENT_BYTES = 8 << 20
MOST_LATE = 4_096
NOTES_EVERY_S = 0.05
MOST_NOTES = 10_000
LEAST_RETRY_S, MOST_RETRY_S = 0.05, 2.0


class Answers:
    """The kept answers as one worker sees them. `folder` is live/cache, `presence` the name of the shared table."""

    def __init__(self, folder: Path, presence: str, loop: asyncio.AbstractEventLoop) -> None:
        self._folder, self._loop = folder, loop
        self._reading = Reading(folder, presence)
        self.absent = self._reading.absent
        """The stamp, where nothing is kept under an exact key; None where it is worth a look. Half a microsecond."""
        self._link: _Link | None = None
        self._looks: dict[int, _Asked] = {}
        self._late: OrderedDict[tuple[str, bytes], int | None] = OrderedDict()
        self._notes: list[Note] = []
        self._notes_timer: asyncio.TimerHandle | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._retry_s = LEAST_RETRY_S
        self._number = 0
        self._is_closed = False
        self._connecting: asyncio.Task[None] | None = None
        self.dropped = 0
        self.shared_ns = 0
        """What a look among other gateways' answers may take, 0 where the keeper does not look there."""
        self._connect()

    @property
    def is_up(self) -> bool:
        """Whether the keeper can be asked."""
        return self._link is not None and self._link.is_greeted

    def close(self) -> None:
        """Hang up; looks that wait are misses."""
        self._is_closed = True
        self._send_notes()
        for timer in (self._retry, self._notes_timer):
            if timer is not None:
                timer.cancel()
        if self._connecting is not None:
            self._connecting.cancel()
        if self._link is not None:
            self._link.hang_up()
        self._miss_all("closed")
        self._reading.close()
        self.absent = self._reading.absent

    def stamp(self) -> int:
        """What a `Fresh` carries: the purges known now. Take it before the engine is asked."""
        return self._reading.last_purge

    def exact(self, question: Question, now_unix_ns: int) -> Kept | None:
        """The kept answer to this very question, by this process alone: a microsecond or two when there is none."""
        return self._reading.find(question, now_unix_ns)

    def look(self, question: Question, then: Callable[[Found], None], budget_ns: int) -> Callable[[], None]:
        """Ask the keeper; `then` is called exactly once, from the loop, unless the returned function is called first.
        After `budget_ns` it is a miss, "keeper-slow"."""
        reason = self._why_not(question)
        if reason is None:
            number = self._number = self._number + 1
            if self._send(Look(number, question)):
                timer = self._loop.call_later(budget_ns / 1e9, self._slow, number)
                asked = self._looks[number] = _Asked(question, then, timer)
                return lambda: self._cancel(number, asked)
            reason = "keeper-behind"
        waiting = self._loop.call_soon(then, Found("miss", reason))
        return waiting.cancel

    def keep(self, question: Question, fresh: Fresh) -> None:
        """Hand an engine's answer in. Also for a ticket whose request failed (its status says so)."""
        if fresh.ticket is None:
            fresh.ticket = self._late.pop((question.request_id, question.exact), None)
        if fresh.ticket is None and (fresh.status != 200 or len(question.text) > LONGEST_PROMPT):
            return
        if not self._send(Keep(question, fresh)):
            self.dropped += 1

    def hand_in(self, kinds: list[Kind], handed: list[Handed]) -> None:
        """Hand answers in as they came, and their kinds. The keeper reads them."""
        for one in handed:
            if self._late and one.ticket is None:
                one.ticket = self._late.pop((one.request_id, one.exact), None)
        if not self._send(Keeps(kinds, handed)):
            self.dropped += len(handed)

    def abandon(self, question: Question, ticket: int) -> None:
        """No answer will come for this ticket (the client left, no engine was up)."""
        if not self._send(Abandon(question, ticket)):
            self.dropped += 1

    def served(self, question: Question, kept: Kept) -> None:
        """Note that an answer went out, and what it saved."""
        if len(self._notes) >= MOST_NOTES:
            self.dropped += 1
            return
        note = Note(question.request_id, kept.entry, kept.level, question.workload, question.tenant, kept.saved_usd)
        self._notes.append(note)
        if self._notes_timer is None and not self._is_closed:
            self._notes_timer = self._loop.call_later(NOTES_EVERY_S, self._send_notes)

    # ── looks that wait ──

    def _why_not(self, question: Question) -> str | None:
        if not self.is_up:
            return "keeper-down"
        if len(question.text) > LONGEST_PROMPT:
            return "too-long"
        return "keeper-behind" if len(self._looks) >= MOST_LOOKS else None

    def _slow(self, number: int) -> None:
        """The budget is over; a ticket that still comes is remembered for the request's answer."""
        asked = self._looks.pop(number, None)
        if asked is None:
            return
        self._remember_late(number, asked)
        asked.then(Found("miss", "keeper-slow"))

    def _cancel(self, number: int, asked: _Asked) -> None:
        if self._looks.pop(number, None) is not None:
            asked.timer.cancel()
            asked.is_cancelled = True
            self._remember_late(number, asked)

    def _remember_late(self, number: int, asked: _Asked) -> None:
        if self._link is not None:
            late = self._link.late
            late[number] = asked
            if len(late) > MOST_LATE:
                late.popitem(last=False)

    def answered(self, message: Answered) -> None:
        """The keeper's answer to a look."""
        asked = self._looks.pop(message.number, None)
        if asked is not None:
            asked.timer.cancel()
            asked.then(message.found)
            return
        late = self._link.late.pop(message.number, None) if self._link is not None else None
        if late is None or message.found.ticket is None:
            return
        if late.is_cancelled or not late.question.request_id:
            self.abandon(late.question, message.found.ticket)
            return
        self._late[late.question.request_id, late.question.exact] = message.found.ticket
        if len(self._late) > MOST_LATE:
            self._late.popitem(last=False)

    def _miss_all(self, reason: str) -> None:
        waiting, self._looks = self._looks, {}
        for asked in waiting.values():
            asked.timer.cancel()
            self._loop.call_soon(asked.then, Found("miss", reason))

    # ── the connection ──

    def _send(self, message: ToKeeper) -> bool:
        if self._link is None or not self.is_up:
            return False
        try:
            return self._link.send(frame(message))
        except (InputError, msgspec.MsgspecError, TypeError):
            return False

    def _send_notes(self) -> None:
        self._notes_timer = None
        notes, self._notes = self._notes, []
        if notes and not self._send(Notes(notes)):
            self.dropped += len(notes)

    def _connect(self) -> None:
        self._retry = None
        if not self._is_closed and self._connecting is None:
            self._connecting = self._loop.create_task(self._reach())

    async def _reach(self) -> None:
        try:
            connection = connect(self._folder)
            try:
                _, link = await self._loop.create_connection(lambda: _Link(self), sock=connection)
            except BaseException:
                connection.close()
                raise
            self._link = link
        except OSError:
            self.lost()
        finally:
            self._connecting = None

    def greeted(self, hello: Hello) -> None:
        """The keeper is there, and of this version."""
        self._retry_s = LEAST_RETRY_S
        self.shared_ns = int(hello.shared_ms * 1e6)
        self._reading.attach()
        self.absent = self._reading.absent

    def lost(self) -> None:
        """The connection ended, or there was none to be had: try again, less and less often."""
        self._link, self.shared_ns = None, 0
        self._miss_all("keeper-down")
        if not self._is_closed and self._retry is None:
            self._retry = self._loop.call_later(self._retry_s, self._connect)
            self._retry_s = min(MOST_RETRY_S, 2 * self._retry_s)


class _Asked:
    """A look that waits."""

    __slots__ = ("is_cancelled", "question", "then", "timer")

    def __init__(self, question: Question, then: Callable[[Found], None], timer: asyncio.TimerHandle) -> None:
        self.question, self.then, self.timer = question, then, timer
        self.is_cancelled = False


class _Link(asyncio.Protocol):
    """One connection to the keeper."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._frames = Frames()
        self._transport: asyncio.Transport | None = None
        self.is_greeted = False
        self.late: OrderedDict[int, _Asked] = OrderedDict()
        self._gathered: list[bytes] = []
        self._gathered_bytes = 0

    def send(self, data: bytes) -> bool:
        """Send bytes; False when too many wait already. What is sent in one turn of the loop goes out together: each
        piece for itself would cost a system call, and wake the keeper."""
        transport = self._transport
        if transport is None or transport.is_closing() or self._gathered_bytes > MOST_UNSENT_BYTES:
            return False
        if not self._gathered:
            if transport.get_write_buffer_size() > MOST_UNSENT_BYTES:
                return False
            asyncio.get_running_loop().call_soon(self._send_gathered)
        self._gathered.append(data)
        self._gathered_bytes += len(data)
        return True

    def _send_gathered(self) -> None:
        gathered, self._gathered, self._gathered_bytes = self._gathered, [], 0
        if gathered and self._transport is not None:
            self._transport.write(b"".join(gathered))

    def hang_up(self) -> None:
        """End the connection, once what was written is sent."""
        self._send_gathered()
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.send(frame(Hello()))

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._answers.lost()

    def data_received(self, data: bytes) -> None:
        try:
            for body in self._frames.cut(data):
                message = decode_from_keeper(body)
                if isinstance(message, Hello):
                    self.is_greeted = message.version == VERSION
                    if self.is_greeted:
                        self._answers.greeted(message)
                elif isinstance(message, Answered) and self.is_greeted:
                    self._answers.answered(message)
        except (msgspec.MsgspecError, InputError):
            with suppress(Exception):
                self.hang_up()
