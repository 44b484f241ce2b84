"""One connection to the keeper: a worker's, or the control process's.

Decides what is hung up on: who sends what is no message, another version, or does not read what it asked for. Remembers
which labels its worker promised, since none will come when it is gone.
"""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

import msgspec

from gridctl.answers.handed import opened
from gridctl.answers.question import Fresh, Note, Question
from gridctl.answers.wire import (
    VERSION,
    Abandon,
    Frames,
    FromKeeper,
    Hello,
    Keep,
    Keeps,
    Look,
    Notes,
    Order,
    decode_to_keeper,
    frame,
)
from gridctl.errors import InputError

MOST_UNREAD_BYTES = 8 << 20
MOST_TICKETS = 20_000
_UNSAID, _HANDED_IN = -1, -2


class Served(Protocol):
    """What a connection's messages go to."""

    @property
    def hello(self) -> Hello:
        """What a connection is greeted with."""

    def connected(self, connection: Connection) -> None:
        """A connection is there."""

    def gone(self, connection: Connection) -> None:
        """It ended."""

    def look(self, connection: Connection, message: Look) -> None:
        """A worker asks."""

    def keep(self, question: Question, fresh: Fresh) -> None:
        """A worker hands an answer in."""

    def abandon(self, question: Question, ticket: int) -> None:
        """A label will not come."""

    def noted(self, notes: list[Note]) -> None:
        """A worker says what it served."""

    def take_order(self, connection: Connection, message: Order) -> None:
        """The control process orders."""


class Connection(asyncio.Protocol):
    """One worker, or the control process."""

    def __init__(self, service: Served) -> None:
        self._service = service
        self._frames = Frames()
        self._transport: asyncio.Transport | None = None
        self._is_greeted = False
        self.tickets: dict[tuple[str, int], tuple[Question, int]] = {}
        self._looks: dict[tuple[str, bytes], int] = {}
        """By request, and what it asks, for clients name their requests: the ticket of its look, _UNSAID, or
        _HANDED_IN. A worker that does not wait for the look any more hands its answer in without the ticket, which may
        come before or after that: a ticket that nobody redeems would hold up every later label of the workload until
        it is overdue."""

    def awaits(self, question: Question, ticket: int) -> None:
        """A label of this worker's is waited for; of one that is gone already, none."""
        asked = question.request_id, question.exact
        known = self._looks.get(asked)
        if self._transport is None or known == _HANDED_IN:
            self._looks.pop(asked, None)
            self._service.abandon(question, ticket)
            return
        if known is not None:
            self._looks[asked] = ticket
        self.tickets[question.workload, ticket] = question, ticket
        if len(self.tickets) > MOST_TICKETS:  # those are overdue by now
            del self.tickets[next(iter(self.tickets))]

    def say(self, message: FromKeeper) -> None:
        """Send a message; to one that is gone or does not read, nothing."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if transport.get_write_buffer_size() > MOST_UNREAD_BYTES:
            transport.abort()
            return
        transport.write(frame(message))

    def hang_up(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._service.connected(self)
        self.say(self._service.hello)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._service.gone(self)

    def data_received(self, data: bytes) -> None:
        try:
            for body in self._frames.cut(data):
                self._take(decode_to_keeper(body))
        except (msgspec.MsgspecError, InputError, IndexError):
            self.hang_up()

    def _look(self, message: Look) -> None:
        question = message.question
        if question.request_id:
            self._looks[question.request_id, question.exact] = _UNSAID
            if len(self._looks) > MOST_TICKETS:
                del self._looks[next(iter(self._looks))]
        self._service.look(self, message)

    def _keep(self, question: Question, fresh: Fresh) -> None:
        asked = question.request_id, question.exact
        known = self._looks.pop(asked, None)
        if fresh.ticket is None and known == _UNSAID:
            self._looks[asked] = _HANDED_IN
        elif fresh.ticket is None:
            fresh.ticket = known
        if fresh.ticket is not None:
            self.tickets.pop((question.workload, fresh.ticket), None)
        self._service.keep(question, fresh)

    def _take(self, message: object) -> None:
        service = self._service
        if isinstance(message, Hello):
            self._is_greeted = message.version == VERSION
        if not self._is_greeted:
            self.hang_up()
        elif isinstance(message, Look):
            self._look(message)
        elif isinstance(message, Keep):
            self._keep(message.question, message.fresh)
        elif isinstance(message, Keeps):
            for handed in message.handed:
                self._keep(*opened(message.kinds, handed))
        elif isinstance(message, Notes):
            service.noted(message.notes)
        elif isinstance(message, Abandon):
            self._looks.pop((message.question.request_id, message.question.exact), None)
            self.tickets.pop((message.question.workload, message.ticket), None)
            service.abandon(message.question, message.ticket)
        elif isinstance(message, Order):
            service.take_order(self, message)
