"""Keys: a caller's token → who that is. One function for every header that may carry one; unknown is refused.

A token is looked up by its SHA-256, so that a look takes the same time however much of a guess is right; tokens have
256 random bits, so a digest in a stolen file gives no token away. Knows no workload and no model.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from gridctl.broker.ask import Principal
from gridctl.broker.plan import Key, Settings
from gridctl.broker.refusal import forbidden, unauthorized

LONGEST_TOKEN: Final = 512
MAY_ASK: Final = ("client", "operator", "admin")
"""Roles whose keys may send requests to models; a viewer's may only look."""


def digest_of(token: str) -> str:
    """What is kept of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


class Keyring:
    """The keys of a plan. `unix_s` is the clock that expiry goes by."""

    def __init__(self, keys: Sequence[Key], settings: Settings, unix_s: Callable[[], float] = time.time) -> None:
        self._keys = {key.digest: (key, Principal(key.name, key.role, key.tenant, key.workload)) for key in keys}
        self._nobody = Principal("anonymous", "client", settings.anonymous_tenant, None) if settings.anonymous else None
        self._unix_s = unix_s
        self.has_expiring = any(key.expires_unix_s is not None for key in keys)
        """Whether who somebody is has to be asked again for every request."""

    def principal(self, headers: Mapping[bytes, bytes]) -> Principal:
        """Who sends these headers. Raises Refusal: 401 without a valid key, 403 for a role that may not ask.

        Where callers without a key are served and no key exists, any token will do: official clients insist on one."""
        token = _token(headers)
        if token is None or (self._nobody is not None and not self._keys):
            if self._nobody is None:
                raise unauthorized(
                    "You didn't provide an API key. Send it in an Authorization header: Authorization: Bearer YOUR_KEY"
                )
            return self._nobody
        found = self._keys.get(hashlib.sha256(token).hexdigest())
        if found is None:
            raise unauthorized("Incorrect API key provided.")
        key, principal = found
        if key.expires_unix_s is not None and self._unix_s() >= key.expires_unix_s:
            raise unauthorized("The API key has expired.")
        if key.role not in MAY_ASK:
            raise forbidden(f"A key of role {key.role} may not send requests to models.", reason="forbidden")
        return principal


def _token(headers: Mapping[bytes, bytes]) -> bytes | None:
    """The one token that the headers carry, None for none. Raises Refusal for two that differ and for nonsense."""
    named = headers.get(b"x-api-key")
    said = headers.get(b"authorization")
    if said is None:
        token = named
    else:
        scheme, _, rest = said.partition(b" ")
        if scheme.lower() != b"bearer":
            raise unauthorized("The Authorization header is not of the form: Bearer YOUR_KEY")
        token = rest.strip()
        if named is not None and named.strip() != token:
            raise unauthorized("Two different API keys were sent, in authorization and in x-api-key.")
    if token is None:
        return None
    token = token.strip()
    if not token or len(token) > LONGEST_TOKEN:
        raise unauthorized("Incorrect API key provided.")
    return token
