"""A connection over TLS, with the handshake done by hand: half the CPU of the event loops' own TLS layer.

Invariant: not one byte of a question leaves before the other end has proved who it is, and no answer is taken in
before. A session of an earlier handshake spares both ends the certificate, which was verified then.
"""

from __future__ import annotations

import asyncio
import ssl

from gridctl.health.exchange import Connection

READ_BYTES = 1 << 16


class SecureConnection(Connection):
    """TLS to `host` by `context`; `session`: of an earlier connection to the same endpoint by the same context."""

    def __init__(self, context: ssl.SSLContext, host: str, session: ssl.SSLSession | None) -> None:
        super().__init__()
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host, session=session)
        self._has_agreed = False
        self._waiting = b""

    @property
    def is_resumed(self) -> bool:
        """Whether the other end took the session up, so that no certificate was shown."""
        return bool(self._tls.session_reused)

    @property
    def session(self) -> ssl.SSLSession | None:
        """What resumes this session, once the first answer has come. Costs a quarter of a handshake to make."""
        return self._tls.session

    def send(self, data: bytes) -> None:
        if not self._has_agreed:
            self._waiting += data
            return
        self._tls.write(data)
        self._flush()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._go_on()

    def data_received(self, data: bytes) -> None:
        self._incoming.write(data)
        self._go_on()

    def _go_on(self) -> None:
        """Take in what has come, as far as it reaches."""
        try:
            if not self._has_agreed:
                self._tls.do_handshake()
                self._has_agreed = True
                self._tls.write(self._waiting)
                self._waiting = b""
            while plain := self._tls.read(READ_BYTES):
                super().data_received(plain)
            self.abort()  # the other end has said that it says no more
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLError, OSError) as error:
            self.fail(error)
            self._flush()  # the alert, so that the other end can say why as well
            self.abort()
            return
        self._flush()

    def _flush(self) -> None:
        if self._outgoing.pending:
            super().send(self._outgoing.read())
