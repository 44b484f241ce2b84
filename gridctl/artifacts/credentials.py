"""Credentials: who we are to a registry, and the tokens it gives us.

Reads what `docker login` wrote (`$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`) and asks credential
helpers; never writes. Invariant: a secret is held only in memory, shows in no message, no log and no repr, and is sent
only to the registry it is for or to the token server that this registry named.

Source: OCI distribution specification; Docker registry token authentication.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gridctl.errors import InputError

HELPER_SECONDS = 15.0
DOCKER_HUB = "https://index.docker.io/v1/"
_PAIR = re.compile(r'([A-Za-z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_HELPER = re.compile(r"^[A-Za-z0-9._-]+$")


@dataclass(frozen=True, slots=True)
class Credential:
    """A user and a secret, or an identity token alone."""

    user: str
    secret: str = field(repr=False)

    @property
    def is_token(self) -> bool:
        """Whether the secret is a refresh token, which buys access tokens."""
        return self.user == "<token>"

    @property
    def basic(self) -> str:
        """The value of an Authorization header."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.secret}".encode()).decode()


@dataclass(frozen=True, slots=True)
class Challenge:
    """What a 401 asks for: `scheme` in lower case, `realm`, `service` and `scope` where given."""

    scheme: str
    realm: str = ""
    service: str = ""
    scope: str = ""


def read_challenge(header: str) -> Challenge:
    """A `WWW-Authenticate` header.

    >>> read_challenge('Bearer realm="https://a/t",service="r",scope="repository:m:pull,push"').scope
    'repository:m:pull,push'
    """
    scheme, _, rest = header.strip().partition(" ")
    pairs = {name.lower(): quoted or plain for name, quoted, plain in _PAIR.findall(rest)}
    return Challenge(scheme.lower(), pairs.get("realm", ""), pairs.get("service", ""), pairs.get("scope", ""))


def credential_for(host: str, environment: Mapping[str, str] | None = None) -> Credential | None:
    """What docker's configuration holds for a registry host; None when it holds nothing.

    Raises: InputError when the configuration is not JSON or a helper fails for another reason than knowing nothing.
    """
    variables = os.environ if environment is None else environment
    home = variables.get("HOME") or str(Path.home())
    path = Path(variables.get("DOCKER_CONFIG") or Path(home, ".docker"), "config.json")
    try:
        config = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        raise InputError("docker's configuration cannot be read", where=str(path), fix="docker login") from None
    if not isinstance(config, dict):
        return None
    keys = (host, f"https://{host}", f"https://{host}/v1/", DOCKER_HUB if host.endswith("docker.io") else host)
    helpers = config.get("credHelpers")
    helper = helpers.get(host) if isinstance(helpers, dict) else None
    if isinstance(helper, str):
        return _from_helper(helper, host, variables)
    auths = config.get("auths")
    for key in keys:
        entry = auths.get(key) if isinstance(auths, dict) else None
        found = _from_entry(entry, str(path)) if isinstance(entry, dict) else None
        if found is not None:
            return found
    store = config.get("credsStore")
    return _from_helper(store, host, variables) if isinstance(store, str) and store else None


def known_hosts(environment: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Registry hosts that docker's configuration names; none when it cannot be read."""
    variables = os.environ if environment is None else environment
    home = variables.get("HOME") or str(Path.home())
    try:
        config = json.loads(Path(variables.get("DOCKER_CONFIG") or Path(home, ".docker"), "config.json").read_bytes())
        found = [*(config.get("auths") or {}), *(config.get("credHelpers") or {})]
    except (OSError, ValueError, AttributeError, TypeError):
        return ()
    return tuple(sorted({word.removeprefix("https://").partition("/")[0] for word in found}))


def _from_entry(entry: dict[str, object], where: str) -> Credential | None:
    token = entry.get("identitytoken")
    if isinstance(token, str) and token:
        return Credential("<token>", token)
    packed = entry.get("auth")
    if not isinstance(packed, str) or not packed:
        return None
    try:
        user, colon, secret = base64.b64decode(packed, validate=True).decode().partition(":")
    except ValueError:
        colon = user = secret = ""
    if not colon:
        raise InputError("an entry of docker's configuration is damaged", where=where, fix="docker login")
    return Credential(user, secret)


def _from_helper(helper: str, host: str, environment: Mapping[str, str]) -> Credential | None:
    if not _HELPER.match(helper):
        raise InputError("not the name of a credential helper", where="docker's configuration", fix="docker login")
    command = f"docker-credential-{helper}"
    try:
        done = subprocess.run(
            [command, "get"],
            input=host,
            capture_output=True,
            text=True,
            timeout=HELPER_SECONDS,
            check=False,
            env=dict(environment),
        )
    except (OSError, subprocess.TimeoutExpired):
        raise InputError("the credential helper does not answer", where=command, fix="docker login") from None
    if done.returncode != 0:
        return None
    try:
        answer = json.loads(done.stdout)
        return Credential(str(answer["Username"]), str(answer["Secret"]))
    except (ValueError, KeyError, TypeError):
        raise InputError("the credential helper's answer is unreadable", where=command, fix="docker login") from None
