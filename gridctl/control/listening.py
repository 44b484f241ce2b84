"""Addresses to listen on: reading them, what each of them demands, and opening them once for all workers.

Invariant: nothing listens where others could reach it unless the operator gave it TLS, or said in so many words that it
needs none.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import stat
from pathlib import Path
from typing import NamedTuple

from gridctl.errors import InputError, UsageError
from gridctl.resources.hosts import is_loopback

BACKLOG = 4096
_TCP = re.compile(r"^(?:(?P<host>\[[0-9A-Fa-f:.%]+\]|[^:\[\]/\s]*):)?(?P<port>[0-9]{1,5})\Z")


class Address(NamedTuple):
    """Where something listens: a path of a Unix socket, or a host and a port (0: any that is free)."""

    host: str = ""
    port: int = 0
    path: str = ""

    @property
    def is_private(self) -> bool:
        """Whether only this machine can reach it."""
        return bool(self.path) or is_loopback(self.host)

    def url(self, *, tls: bool = False) -> str:
        """How a client names it."""
        if self.path:
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if tls else 'http'}://{host}:{self.port}"


def parse_address(text: str, flag: str, *, unix: bool = True) -> Address:
    """`127.0.0.1:8080`, `[::1]:8080`, `:8080` or `8080` (loopback), `unix:/path`. Raises UsageError.

    >>> parse_address("8080", "--listen")
    Address(host='127.0.0.1', port=8080, path='')
    """
    if text.startswith("unix:") and unix:
        path = text.removeprefix("unix:")
        if path and len(os.fsencode(os.path.abspath(path))) < 104 and "\0" not in path:
            return Address(path=os.path.abspath(path))
        raise UsageError("this is no path for a Unix socket", where=flag, fix="unix:/PATH, at most 103 bytes long")
    found = _TCP.match(text)
    if found is None or not int(found["port"]) <= 65535:
        raise UsageError(
            f"not an address to listen on: {text[:80]!r}",
            where=flag,
            fix="HOST:PORT, for example 127.0.0.1:8080" + (", or unix:/PATH" if unix else ""),
        )
    return Address((found["host"] or "127.0.0.1").strip("[]"), int(found["port"]))


def open_listener(address: Address, flag: str) -> tuple[socket.socket, Address]:
    """A socket that listens, and its address with the port it got. Raises InputError when it cannot be had."""
    if address.path:
        return _open_unix(address, flag), address
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise InputError(
            f"{address.host} is no address of this machine: {error.strerror}",
            where=flag,
            fix="give an address, for example 127.0.0.1:8080",
        ) from None
    family, kind, protocol, _, place = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise _refused(error, address, flag) from None
    listener.setblocking(False)
    return listener, address._replace(port=listener.getsockname()[1])


def _open_unix(address: Address, flag: str) -> socket.socket:
    path = Path(address.path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _remove_stale(path, flag)
        # Bound with no rights for others from the start: chmod afterwards would leave a moment.
        before = os.umask(0o177)
        try:
            listener.bind(address.path)
        finally:
            os.umask(before)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise _refused(error, address, flag) from None
    except InputError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


def _remove_stale(path: Path, flag: str) -> None:
    """Remove a socket nobody listens on any more; leave anything else."""
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise InputError("there is a file that is no socket", where=f"{flag} {path}", fix="name another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except OSError:
            pass
    raise InputError("another process listens on this socket", where=f"{flag} {path}", fix="name another path")


def _refused(error: OSError, address: Address, flag: str) -> InputError:
    where = f"{flag} {address.url().removeprefix('http://')}"
    if error.errno == errno.EADDRINUSE:
        return InputError(
            f"port {address.port} is taken by another process",
            where=where,
            fix=f"take any free one ({flag} {address.host}:0), or see who has it: ss -ltnp 'sport = :{address.port}'",
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return InputError(
            f"{address.host} is no address of this machine", where=where, fix="see them: ip addr; or take 127.0.0.1"
        )
    if error.errno == errno.EACCES:
        return InputError(
            "this account may not listen there", where=where, fix="take a port from 1024 up, or a folder of your own"
        )
    return InputError(f"cannot listen: {error.strerror or error}", where=where, fix="choose another address")
