"""Origin: where one engine listens, checked before a single byte goes there.

An engine's URL comes from the registry only; a request can never name one. It is parsed once, its name is resolved by
us and every address is checked, and the connection goes to the very address that was checked, so that no second parser
and no second DNS answer has a say. Refused: credentials in the URL, numbers in disguise (`0x7f.1`, `2130706433`),
link-local and cloud metadata addresses unless the operator allows them, and the gateway's own listeners.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from gridctl.errors import InputError

Address = tuple[str, int]

METADATA = frozenset(
    ipaddress.ip_address(address)
    for address in ("169.254.169.254", "100.100.100.200", "fd00:ec2::254", "168.63.129.16")
)
"""Where clouds answer machines about their own credentials."""

_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_NUMBER = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)")
_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~-]+)*")


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port of an engine and the path it is mounted under; `name` as it stands in a Host header."""

    scheme: str
    host: str
    port: int
    prefix: str

    @property
    def is_tls(self) -> bool:
        return self.scheme == "https"

    @property
    def name(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.is_tls else 80) else f"{host}:{self.port}"

    @property
    def literal(self) -> str | None:
        """The host when it is an address and needs no resolving."""
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return None
        return self.host


def parse_origin(url: str, where: str) -> Origin:
    """The origin in an engine's URL, with or without a trailing `/v1`. Raises InputError, which names `where`.

    >>> parse_origin("http://10.0.0.7:8000/v1", "cluster a").name
    '10.0.0.7:8000'
    """

    def wrong(what: str) -> InputError:
        return InputError(f"the engine's URL {url!r} {what}", where=where, fix="write it as http://HOST:PORT[/PREFIX]")

    if any(character <= " " or character >= "\x7f" or character in "\\@" for character in url):
        raise wrong("has characters that an engine's URL may not have (spaces, '@', backslashes)")
    try:
        parts: SplitResult = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise wrong(f"cannot be read: {error}") from error
    if parts.scheme not in ("http", "https"):
        raise wrong("is neither http nor https")
    if parts.query or parts.fragment:
        raise wrong("has a query or a fragment")
    host = parts.hostname or ""
    if not _is_host(host):
        raise wrong("has no plain host name or address")
    prefix = parts.path.rstrip("/").removesuffix("/v1")
    if not _PREFIX.fullmatch(prefix) or "/.." in prefix or "/." in prefix:
        raise wrong("has a path that is not plain words")
    if port == 0:
        raise wrong("has port 0")
    return Origin(parts.scheme, host, port or (443 if parts.scheme == "https" else 80), prefix)


def _is_host(host: str) -> bool:
    """A DNS name or an address in its usual spelling: nothing that a resolver reads as a number in disguise."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        labels = host.rstrip(".").split(".")
        return all(_LABEL.fullmatch(label) for label in labels) and not _NUMBER.fullmatch(labels[-1])
    return "%" not in host


def check_address(address: Address, *, allows_link_local: bool, own: Collection[Address] = ()) -> str | None:
    """Why nothing may be sent to that address, or None when it may."""
    plain = ipaddress.ip_address(address[0].partition("%")[0])
    ip = getattr(plain, "ipv4_mapped", None) or plain
    if ip.is_unspecified or ip.is_multicast or str(ip) == "255.255.255.255":
        return "it is no address of one machine"
    if (ip in METADATA or ip.is_link_local) and not allows_link_local:
        return "it is a link-local or metadata address (--allow-link-local lets it pass)"
    if (str(ip), address[1]) in own:
        return "the gateway itself listens there"
    return None


def addresses_of(found: Collection[tuple[object, ...]]) -> list[Address]:
    """Host and port of what `getaddrinfo` found, each once, in its order."""
    addresses: list[Address] = []
    for family, _kind, _protocol, _name, at in found:
        if family in (socket.AF_INET, socket.AF_INET6) and isinstance(at, tuple):
            address = (str(at[0]), int(at[1]))
            if address not in addresses:
                addresses.append(address)
    return addresses
