"""Who calls the admin API: one function turns whatever carries an identity into a principal, or refuses.

Deny by default. Carriers are a token (`Authorization: Bearer` or `x-api-key`, which mean the same and are treated
alike) and the account at the other end of the Unix socket. A token, where there is one, decides alone, so that a wrong
one is never helped by the socket it came through. Tokens are found by digest: no comparison tells a guesser anything.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from gridctl.control.problems import DeniedError
from gridctl.registry import AccessKey
from gridctl.registry.keys import TOKEN_START, digest_of

AdminRole = Literal["viewer", "operator", "admin", "agent"]
RANK: dict[str, int] = {"viewer": 1, "operator": 2, "admin": 3}
AGENT = "agent"
"""A role beside the others: it reports for its site, and only it may; it sees nothing else."""
LONGEST_TOKEN = 512


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller: what events call it, and what it may do; an agent, for which site."""

    name: str
    role: AdminRole
    site: str | None = None

    def may(self, needed: AdminRole) -> bool:
        """Whether its role is that one or a higher one."""
        if AGENT in (self.role, needed):
            return self.role == needed
        return RANK[self.role] >= RANK[needed]


def principal_of(
    headers: Mapping[str, str],
    peer_uid: int | None,
    find: Callable[[str], AccessKey | None],
    now_ns: int,
) -> Principal:
    """The caller. `headers` in lower case; `peer_uid` is of the account at a Unix socket's other end (None: TCP);
    `find` gives the key with that digest.

    Raises DeniedError: 401 for nobody we know, 403 for a key that is for requests."""
    token = _token(headers)
    if token is None:
        if peer_uid is None:
            raise _unknown("the admin API wants a token")
        return _of_account(peer_uid)
    key = find(digest_of(token)) if token.startswith(TOKEN_START) and len(token) <= LONGEST_TOKEN else None
    if key is None or key.state(now_ns) == "revoked":
        raise _unknown("this token is not known")
    if key.state(now_ns) == "expired":
        raise _unknown(f"the key {key.name} has expired")
    if key.role == "client":
        raise DeniedError(
            403,
            "forbidden",
            f"the key {key.name} is for requests to models, not for the admin API",
            fix="use a key with a role of viewer, operator or admin: gridctl token create NAME --role viewer",
        )
    return Principal(f"token {key.name}", key.role, key.site)


def require(principal: Principal, needed: AdminRole) -> None:
    """Refuse a caller whose role does not suffice. Raises DeniedError (403)."""
    if not principal.may(needed):
        raise DeniedError(
            403,
            "forbidden",
            f"{principal.name} is {'an' if principal.role[0] in 'ao' else 'a'} {principal.role}; "
            f"this needs the role {needed}",
            fix="use the token of the site's agent: gridctl token create NAME --role agent --site SITE"
            if needed == AGENT
            else f"use a token with it: gridctl token create NAME --role {needed}",
        )


def _token(headers: Mapping[str, str]) -> str | None:
    """The token, or None when no header carries one. Raises DeniedError for two different ones, and other schemes."""
    found: set[str] = set()
    authorization = headers.get("authorization")
    if authorization is not None:
        scheme, _, token = authorization.strip().partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise _unknown("Authorization must be `Bearer TOKEN`")
        found.add(token.strip())
    plain = headers.get("x-api-key")
    if plain is not None:
        found.add(plain.strip())
    if len(found) > 1:
        raise _unknown("two headers carry different tokens")
    return found.pop() if found else None


def _of_account(uid: int) -> Principal:
    if uid not in (os.getuid(), 0):
        raise DeniedError(
            403,
            "forbidden",
            f"account {uid} may not use this socket",
            fix="use a token, over TCP: gridctl up --admin 127.0.0.1:8081",
        )
    import pwd

    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = f"uid {uid}"
    return Principal(name, "admin")


def _unknown(what: str) -> DeniedError:
    return DeniedError(
        401,
        "unauthorized",
        what,
        fix="make one where the orchestrator runs: gridctl token create NAME --role viewer; "
        "then: gridctl context add NAME --url URL --token-file FILE",
    )
