"""Where the shared tier is, how it is spoken to, and the key that the gateways share it under.

Decides which addresses and key files will do; opens no connection. A URL names the server and never a password: those
who list a machine's processes would read it. A password never crosses the network in the clear. Everything that the
tier needs to be secret is derived from one key file, by keyed BLAKE2b (RFC 7693), so gateways with the same file make
the same keys of the same question, and those of another deployment never meet theirs.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import msgspec

from gridctl.errors import InputError, UsageError
from gridctl.resources.hosts import is_loopback

FLAG, KEY_FLAG = "--cache-shared", "--cache-shared-key-file"
PASSWORD_VARIABLE = "GRIDCTL_CACHE_SHARED_PASSWORD"
DEFAULT_PORT = 6379
DEFAULT_BUDGET_MS, MOST_BUDGET_MS = 5.0, 1_000.0
LEAST_KEY_BYTES, MOST_KEY_BYTES = 32, 4_096
FEWEST_DIFFERENT = 8
"""Different bytes in a key: fewer were typed, not drawn."""
SCHEMES = {"redis": False, "valkey": False, "rediss": True, "valkeys": True}
"""Whether each speaks TLS."""
EXAMPLE = "rediss://cache.example:6380/0, valkey://127.0.0.1 or unix:///run/valkey.sock"
_MAKE_KEY = "make one and give it to every gateway: (umask 077; openssl rand -hex 32 > FILE)"


class SharedPlace(msgspec.Struct, frozen=True, kw_only=True):
    """A server. `path` is a Unix socket's, "" for TCP; `budget_ms` is what a request may wait for it."""

    host: str = ""
    port: int = DEFAULT_PORT
    path: str = ""
    is_tls: bool = False
    authority: str = ""
    user: str = ""
    password: str = ""
    database: int = 0
    budget_ms: float = DEFAULT_BUDGET_MS

    @property
    def name(self) -> str:
        """How operators are told of it: without user and password."""
        if self.path:
            return f"unix://{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'rediss' if self.is_tls else 'redis'}://{host}:{self.port}/{self.database}"


class SharedKeys(msgspec.Struct, frozen=True, kw_only=True):
    """What is derived from the key file: the secret of questions' keys, of names on the server, of what is sealed; and
    what all names of this deployment begin with."""

    questions: bytes
    names: bytes
    sealing: bytes
    prefix: str


def place_of(url: str, environment: Mapping[str, str] = os.environ) -> SharedPlace:
    """The server that a URL names. Raises UsageError for one that names none or is not safe."""
    try:
        parts = urlsplit(url)
        port = parts.port or DEFAULT_PORT
        options = _options(parts)
    except ValueError as error:
        raise _refused(f"{url[:80]!r} is no address of a server ({error})") from None
    if parts.password is not None:
        raise UsageError(
            "a password in a command line can be read by everybody on the machine",
            where=FLAG,
            fix=f"leave it out and set {PASSWORD_VARIABLE}",
        )
    budget_ms, authority = _budget(options.get("budget_ms")), options.get("ca", "")
    password, user = environment.get(PASSWORD_VARIABLE, ""), unquote(parts.username or "")
    if parts.scheme == "unix":
        if parts.netloc or not parts.path.startswith("/") or authority:
            raise _refused(f"{url[:80]!r} is no socket's path")
        database = _database(options.get("db", "0"))
        return SharedPlace(
            path=unquote(parts.path), user=user, password=password, database=database, budget_ms=budget_ms
        )
    if parts.scheme not in SCHEMES or not parts.hostname or "db" in options:
        raise _refused(f"{url[:80]!r} is no address of a server")
    place = SharedPlace(
        host=parts.hostname,
        port=port,
        is_tls=SCHEMES[parts.scheme],
        authority=authority,
        user=user,
        password=password,
        database=_database(parts.path.strip("/") or "0"),
        budget_ms=budget_ms,
    )
    _check_network(place)
    return place


def keys_of(path: Path) -> SharedKeys:
    """What a key file holds. Raises InputError for one that others can read, that is too short or was not drawn."""
    where = f"{KEY_FLAG} {path}"
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(MOST_KEY_BYTES + 1)
    except OSError as error:
        raise InputError(
            f"the key of the shared cache cannot be read: {error.strerror}", where=where, fix=_MAKE_KEY
        ) from None
    if mode & 0o077:
        raise InputError(
            f"the key of the shared cache has mode {mode & 0o777:04o}: others can read it",
            where=where,
            fix=f"chmod 600 {path}; if others may have read it, {_MAKE_KEY}",
        )
    drawn = data.strip()
    if not LEAST_KEY_BYTES <= len(drawn) <= MOST_KEY_BYTES or len(set(drawn)) < FEWEST_DIFFERENT:
        raise InputError(
            f"{len(drawn)} bytes are no key of the shared cache: {LEAST_KEY_BYTES} to {MOST_KEY_BYTES:,}, drawn at "
            "random",
            where=where,
            fix=_MAKE_KEY,
        )
    return derived(drawn)


def derived(drawn: bytes) -> SharedKeys:
    """The keys of what a file holds."""
    root = hashlib.blake2b(drawn, digest_size=32, person=b"gridctl-shared").digest()

    def of(purpose: bytes) -> bytes:
        return hashlib.blake2b(purpose, key=root, digest_size=32).digest()

    return SharedKeys(
        questions=of(b"questions"),
        names=of(b"names"),
        sealing=of(b"sealing"),
        prefix=f"gridctl:{of(b'prefix').hex()[:16]}",
    )


def check_packages() -> None:
    """Raises InputError, with the command to run, where what the tier needs is not installed."""
    from importlib.util import find_spec

    missing = [name for name in ("redis", "cryptography") if find_spec(name) is None]
    if missing:
        raise InputError(
            f"the shared cache needs the package{'s' * (len(missing) > 1)} {' and '.join(missing)}",
            where=FLAG,
            fix="pip install 'gridctl[shared-cache]'",
        )


def _options(parts: SplitResult) -> dict[str, str]:
    given = parse_qsl(parts.query, strict_parsing=bool(parts.query), keep_blank_values=True)
    unknown = [name for name, _ in given if name not in ("db", "ca", "budget_ms")]
    if unknown or len(dict(given)) != len(given) or parts.fragment:
        raise ValueError(f"after ? it may say ca, budget_ms and, of a socket, db; not {', '.join(unknown) or 'twice'}")
    return dict(given)


def _budget(text: str | None) -> float:
    try:
        found = DEFAULT_BUDGET_MS if text is None else float(text)
    except ValueError:
        found = -1.0
    if not 1.0 <= found <= MOST_BUDGET_MS:
        raise _refused(f"a budget of {str(text)[:40]!r} ms: 1 to {MOST_BUDGET_MS:g}")
    return found


def _database(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text) > 65_535:
        raise _refused(f"{text[:40]!r} is no database's number")
    return int(text)


def _check_network(place: SharedPlace) -> None:
    if place.authority and not place.is_tls:
        raise _refused("a certificate authority is for rediss:// only")
    if place.authority and not os.access(place.authority, os.R_OK):
        raise UsageError("the certificate authority cannot be read", where=f"{FLAG} ?ca={place.authority}")
    if place.password and not place.is_tls and not is_loopback(place.host):
        raise UsageError(
            "the password of the shared cache would cross the network in the clear",
            where=FLAG,
            fix=f"speak TLS (rediss://{place.host}:…), or leave {PASSWORD_VARIABLE} unset where the server wants none",
        )


def _refused(what: str) -> UsageError:
    return UsageError(what, where=FLAG, fix=f"such as {EXAMPLE}")
