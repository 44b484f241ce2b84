"""Access keys: who may send requests, and who may look at or change the grid.

A key's token is 256 random bits, so a plain SHA-256 of it is all that need be kept: nobody can search that space, and a
copy of the database opens nothing. Invariants: a token is shown once and stored nowhere; a name is never used twice, so
that an event names one key for good; making and revoking a key are events like any other change.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import sqlite3
import time
from typing import Any, Literal, get_args

import msgspec

from gridctl.errors import InputError, NotFoundError, did_you_mean
from gridctl.registry import ledger
from gridctl.registry.stored import Change

Role = Literal["client", "viewer", "operator", "admin", "agent"]
ROLES: tuple[Role, ...] = get_args(Role)
KIND = "Key"
TOKEN_START = "gridctl_"
TOKEN_BYTES = 32
DEFAULT_TENANT = "default"
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")
_SELECT = (
    "SELECT name, digest, role, tenant, workload, created_ns, created_by, expires_ns, revoked_ns, requests_per_s,"
    " tokens_per_minute, site FROM access_key"
)
SLOWEST_PER_S, FASTEST_PER_S = 0.001, 1e6
MOST_TOKENS_PER_MINUTE = 10**12


class WantedKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key to be made. A `client` sends requests, as its tenant and, if named, only for one workload; the other
    roles are for the admin API; an `agent` reports for one `site` and may do nothing else. `expires_ns` is Unix
    time; None: it does not expire. A client key may be limited in the requests a second and the tokens a minute
    that it asks for; None: it is not."""

    name: str
    role: Role = "client"
    tenant: str = DEFAULT_TENANT
    workload: str | None = None
    expires_ns: int | None = None
    requests_per_s: float | None = None
    tokens_per_minute: int | None = None
    site: str | None = None


class AccessKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key as it is kept: the SHA-256 of its token in hex, and what it allows. Times are Unix nanoseconds."""

    name: str
    digest: str
    role: Role
    tenant: str
    workload: str | None
    created_ns: int
    created_by: str
    expires_ns: int | None
    revoked_ns: int | None
    requests_per_s: float | None = None
    tokens_per_minute: int | None = None
    site: str | None = None

    def state(self, now_ns: int) -> Literal["active", "expired", "revoked"]:
        """Whether it opens anything at `now_ns`."""
        if self.revoked_ns is not None:
            return "revoked"
        return "expired" if self.expires_ns is not None and self.expires_ns <= now_ns else "active"


def digest_of(token: str) -> str:
    """What is kept of a token.

    >>> digest_of("abc")[:16]
    'ba7816bf8f01cfea'
    """
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def keys_of(connection: sqlite3.Connection) -> list[AccessKey]:
    """Every key by name, in code-point order."""
    return [_key(row) for row in connection.execute(f"{_SELECT} ORDER BY name")]


def create(connection: sqlite3.Connection, wanted: WantedKey, cause: str, actor: str) -> tuple[AccessKey, str]:
    """Make a key and its event; the key and its token. Raises InputError."""
    row = connection.execute(f"{_SELECT} WHERE name = ?", (wanted.name,)).fetchone()
    check_key(wanted, None if row is None else _key(row))
    token = TOKEN_START + secrets.token_urlsafe(TOKEN_BYTES)
    now_ns = time.time_ns()
    key = AccessKey(
        name=wanted.name,
        digest=digest_of(token),
        role=wanted.role,
        tenant=wanted.tenant,
        workload=wanted.workload,
        created_ns=now_ns,
        created_by=actor,
        expires_ns=wanted.expires_ns,
        revoked_ns=None,
        requests_per_s=wanted.requests_per_s,
        tokens_per_minute=wanted.tokens_per_minute,
        site=wanted.site,
    )
    connection.execute(
        "INSERT INTO access_key (name, digest, role, tenant, workload, created_ns, created_by, expires_ns, revoked_ns,"
        " requests_per_s, tokens_per_minute, site) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        msgspec.structs.astuple(key),
    )
    ledger.note(connection, "created", KIND, key.name, [Change("spec", None, _described(key))], cause, actor)
    return key, token


def revoke(connection: sqlite3.Connection, name: str, cause: str, actor: str) -> AccessKey:
    """End a key, with its event. Raises NotFoundError."""
    row = connection.execute(f"{_SELECT} WHERE name = ?", (name,)).fetchone()
    if row is None:
        names = [found for (found,) in connection.execute("SELECT name FROM access_key ORDER BY name")]
        near = did_you_mean(name, names)
        raise NotFoundError(
            f"there is no key {name}", fix=f"did you mean {near}?" if near else "see them: gridctl token list"
        )
    key = _key(row)
    if key.revoked_ns is not None:
        return key
    revoked = msgspec.structs.replace(key, revoked_ns=time.time_ns())
    connection.execute("UPDATE access_key SET revoked_ns = ? WHERE name = ?", (revoked.revoked_ns, name))
    ledger.note(connection, "deleted", KIND, name, [Change("spec", _described(key), None)], cause, actor)
    return revoked


def check_key(wanted: WantedKey, namesake: AccessKey | None) -> None:
    """Refuse a key that cannot be made. `namesake` is the key that has its name already. Raises InputError."""
    _check(wanted)
    if namesake is not None:
        raise InputError(
            f"there is a key {wanted.name} already" + (", revoked" if namesake.revoked_ns is not None else ""),
            where="NAME",
            fix="choose another name: a name stands for one key for good",
        )


def _check(wanted: WantedKey) -> None:
    if not _NAME.fullmatch(wanted.name):
        raise InputError(
            f"{wanted.name[:64]!r} is not a name for a key",
            where="NAME",
            fix="use lower-case letters, digits, '-' and '.'; 1 to 63 characters",
        )
    if wanted.role not in ROLES:
        near = did_you_mean(wanted.role, ROLES)
        raise InputError(
            f"there is no role {str(wanted.role)[:64]!r}",
            where="--role",
            fix=f"did you mean {near}?" if near else f"one of: {', '.join(ROLES)}",
        )
    if wanted.role != "client" and (wanted.workload is not None or wanted.tenant != DEFAULT_TENANT):
        raise InputError(
            f"a key of role {wanted.role} is for the admin API: it has no tenant and no workload",
            where="--tenant, --workload",
            fix="leave them out, or make it a client key: --role client",
        )
    if (wanted.role == "agent") != (wanted.site is not None):
        raise InputError(
            "an agent's key is for one site, and only an agent's key is",
            where="--site",
            fix="gridctl token create NAME --role agent --site SITE",
        )
    _check_quota(wanted)
    for field, text in (("tenant", wanted.tenant), ("workload", wanted.workload)):
        if text is not None and (not text or len(text) > 128 or not text.isprintable()):
            raise InputError(f"{text[:64]!r} is no {field}", where=f"--{field}", fix="1 to 128 printable characters")
    if wanted.expires_ns is not None and not time.time_ns() < wanted.expires_ns < 1 << 63:
        raise InputError("the key would have expired already", where="--expires", fix="give a time to come")


def _check_quota(wanted: WantedKey) -> None:
    rate, tokens = wanted.requests_per_s, wanted.tokens_per_minute
    if wanted.role != "client" and (rate is not None or tokens is not None):
        raise InputError(
            f"a key of role {wanted.role} sends no requests that could be limited",
            where="--requests-per-s, --tokens-per-minute",
            fix="leave them out, or make it a client key: --role client",
        )
    if rate is not None and not SLOWEST_PER_S <= rate <= FASTEST_PER_S:
        fix = f"{SLOWEST_PER_S:g} to {FASTEST_PER_S:,.0f}; to allow none: gridctl token revoke"
        raise InputError(f"{rate:g} requests a second", where="--requests-per-s", fix=fix)
    if tokens is not None and not 1 <= tokens <= MOST_TOKENS_PER_MINUTE:
        fix = f"1 to {MOST_TOKENS_PER_MINUTE:,}; to allow none: gridctl token revoke"
        raise InputError(f"{tokens:,} tokens a minute", where="--tokens-per-minute", fix=fix)


def _described(key: AccessKey) -> dict[str, object]:
    """What an event tells of a key: everything but its digest."""
    told = {"role": key.role, "tenant": key.tenant, "workload": key.workload, "expires_ns": key.expires_ns}
    further = {
        "requests_per_s": key.requests_per_s,
        "tokens_per_minute": key.tokens_per_minute,
        "site": key.site,
    }
    return {**told, **{name: value for name, value in further.items() if value is not None}}


def _key(row: tuple[Any, ...]) -> AccessKey:
    name, digest, role, tenant, workload, created_ns, created_by, expires_ns, revoked_ns, per_s, per_minute, site = row
    return AccessKey(
        name=name,
        digest=digest,
        role=role,
        tenant=tenant,
        workload=workload,
        created_ns=created_ns,
        created_by=created_by,
        expires_ns=expires_ns,
        revoked_ns=revoked_ns,
        requests_per_s=per_s,
        tokens_per_minute=per_minute,
        site=site,
    )
