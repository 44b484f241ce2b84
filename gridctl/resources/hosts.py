"""Hosts: which of them are this machine. Plain text and secrets in the clear go to those and to no others.

Decides by the name alone and asks no resolver: a name but `localhost` may lead anywhere tomorrow. Every room that
reads an address from an operator asks here, so that no two of them draw the line elsewhere.
"""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether a host, named as in a URL or as an address with or without brackets and zone, is this machine.

    >>> [is_loopback(host) for host in ("localhost", "127.0.0.2", "[::1]", "10.0.0.1", "localhost.example")]
    [True, True, True, False, False]
    """
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]").partition("%")[0]).is_loopback
    except ValueError:
        return False
