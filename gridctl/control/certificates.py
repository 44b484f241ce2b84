"""Certificates: TLS certificates that were renewed on the disk, taken up without a restart.

Looks at the files now and then; when they changed and fit together, every TLS context that was handed in, and those of
the workers, serve the new certificate to connections from then on. Open connections go on with the one they began with.
Files that do not fit together, or are half written, change nothing: the certificate in use stays, which is said once.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

from gridctl.control.order import Tls, server_context
from gridctl.errors import InputError

LOOK_S = 2.0
"""Between two looks; whoever renews certificates has days."""
Mark = tuple[tuple[int, int, int], ...]


class Certificates:
    """The certificate of one orchestrator. `renewed` is called when the workers are to take it up as well."""

    def __init__(self, tls: Tls | None, renewed: Callable[[], None], say: Callable[[str], None]) -> None:
        self._tls = tls
        self._renewed = renewed
        self._say = say
        self._contexts: list[ssl.SSLContext] = []
        self._mark = self._look()

    def use(self, context: ssl.SSLContext | None) -> None:
        """Renew the certificate in this context, too."""
        if context is not None:
            self._contexts.append(context)

    async def run(self) -> None:
        """Look until cancelled; without TLS there is nothing to look at."""
        while self._tls is not None:
            await asyncio.sleep(LOOK_S)
            self.look()

    def look(self) -> bool:
        """Take up files that changed since the last look; whether they were."""
        mark = self._look()
        if self._tls is None or mark == self._mark:
            return False
        self._mark = mark
        try:
            server_context(self._tls)  # into a context of its own first: a pair that does not fit must not be half used
            for context in self._contexts:
                context.load_cert_chain(self._tls.certificate, self._tls.key, password=lambda: b"")
        except (InputError, ssl.SSLError, OSError) as error:
            what = error.what if isinstance(error, InputError) else str(error)
            self._say(
                f"the certificate changed and cannot be used; the one before stays: {what} ({self._tls.certificate})"
            )
            return False
        self._renewed()
        self._say(f"a renewed certificate is in use: {self._tls.certificate}")
        return True

    def _look(self) -> Mark:
        """What tells whether the files are other ones than before."""
        marks = []
        for path in (self._tls.certificate, self._tls.key) if self._tls is not None else ():
            try:
                status = path.stat()
                marks.append((status.st_ino, status.st_size, status.st_mtime_ns))
            except OSError:
                marks.append((0, 0, 0))
        return tuple(marks)
