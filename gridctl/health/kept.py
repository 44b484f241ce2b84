"""Kept: what stays of one TLS endpoint between its probes, for a handshake costs three times the rest of a probe.

A connection serves a few probes more where the endpoint leaves it open so long, and a TLS session spares the next
connection the certificate. Invariants: every `FRESH_EVERY`-th probe opens a connection of its own, so that an endpoint
that takes none is found out; every `WHOLE_EVERY`-th is a whole handshake, so that a certificate that has run out is;
after any failure both are gone. Nothing is kept beyond the room that this process has for open connections.
"""

from __future__ import annotations

import ssl

from gridctl.health.exchange import Connection
from gridctl.health.secure import SecureConnection

FRESH_EVERY = 4
WHOLE_EVERY = 20
GIVE_UP_AFTER = 2
"""An endpoint that has closed so many connections between two probes leaves none open till the next probe."""


class Room:
    """How many connections may stay open in all."""

    __slots__ = ("most", "taken")

    def __init__(self, most: int) -> None:
        self.most = most
        self.taken = 0


class Kept:
    """Of one endpoint, asked by one TLS context."""

    __slots__ = (
        "_address",
        "_connection",
        "_probes",
        "_probes_of_connection",
        "_refuses_sessions",
        "_room",
        "_vain",
        "session",
    )

    def __init__(self, room: Room) -> None:
        self._room = room
        self._connection: Connection | None = None
        self._address = ""
        self._probes_of_connection = 0
        self._probes = 0
        self._vain = 0
        self._refuses_sessions = False
        self.session: ssl.SSLSession | None = None

    @property
    def may_stay_open(self) -> bool:
        """Whether a connection may be left open after the next answer."""
        return self._vain < GIVE_UP_AFTER and (self._connection is not None or self._room.taken < self._room.most)

    def take(self, address: str) -> Connection | None:
        """The connection to use again, if there is one and it is not time for a fresh one."""
        self._probes += 1
        if self._probes >= WHOLE_EVERY:
            self.drop()
        connection = self._connection
        if connection is None:
            return None
        self._let_go()
        if connection.is_reusable and self._address == address and self._probes_of_connection < FRESH_EVERY:
            self._vain = 0
            return connection
        if not connection.is_reusable:
            self._vain += 1
        connection.abort()
        return None

    def note_handshake(self, connection: SecureConnection) -> None:
        """A fresh connection's first answer has come."""
        self._probes_of_connection = 0
        if connection.is_resumed or self._refuses_sessions:
            return
        if self.session is not None:
            self.session, self._refuses_sessions = None, True
        else:
            self.session = connection.session

    def put(self, connection: Connection, address: str) -> None:
        """Keep a connection for the next probe, if it can serve one."""
        if connection.is_reusable and self.may_stay_open and self._connection is None:
            self._room.taken += 1
            self._connection, self._address = connection, address
            self._probes_of_connection += 1

    def holds(self, connection: Connection) -> bool:
        """Whether this connection is kept."""
        return self._connection is connection

    def drop(self) -> None:
        """Forget all of it: the next probe is a whole handshake."""
        connection = self._connection
        if connection is not None:
            self._let_go()
            connection.abort()
        self.session = None
        self._refuses_sessions = False
        self._probes = self._vain = self._probes_of_connection = 0

    def _let_go(self) -> None:
        self._connection = None
        self._room.taken -= 1
