"""Download: one manifest over https, or over http from this machine. Bounded in size, time and redirects.

A redirect may not leave the scheme it began with, so that a manifest asked for over https never arrives in clear text;
credentials in a URL are refused, because URLs end up in event histories and logs.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from gridctl.errors import InputError, UnreachableError
from gridctl.manifest.document import MAX_BYTES
from gridctl.manifest.source import too_large
from gridctl.resources.hosts import is_loopback

if TYPE_CHECKING:
    import httpx

TIMEOUT_S = 10.0
"""Seconds to connect, and seconds without a byte."""
DEADLINE_S = 60.0
"""Seconds for the whole download."""
MAX_REDIRECTS = 5


def download(url: str) -> bytes:
    """The body at `url`.

    Raises InputError for a URL that may not be read and UnreachableError when the peer does not deliver.
    """
    import httpx

    deadline = time.monotonic() + DEADLINE_S
    try:
        target = httpx.URL(url)
        first = _checked(target, url)
        # a proxy has no business between this machine and itself
        with httpx.Client(timeout=TIMEOUT_S, follow_redirects=False, trust_env=first == "https") as client:
            for _ in range(MAX_REDIRECTS + 1):
                with client.stream("GET", target) as response:
                    if not response.has_redirect_location:
                        return _body(response, url, deadline)
                    target = target.join(response.headers["location"])
                if _checked(target, url) != first:
                    raise InputError(
                        f"the URL redirects from {first} to {target.scheme}",
                        where=url,
                        fix=f"use {_bare(target)} itself",
                    )
    except httpx.InvalidURL as error:
        raise InputError(f"not a URL: {error}", where=url[:200], fix="check the address") from None
    except httpx.HTTPError as error:
        reason = str(error) or type(error).__name__
        raise UnreachableError(
            f"the manifest cannot be fetched: {reason}", where=url, fix="check the address and the network"
        ) from None
    raise UnreachableError(f"more than {MAX_REDIRECTS} redirects", where=url, fix="use the final address")


def _bare(target: httpx.URL) -> str:
    return str(target.copy_with(userinfo=b""))


def _checked(target: httpx.URL, url: str) -> str:
    """The scheme of a URL that may be read."""
    if target.userinfo:
        raise InputError("a URL may not hold credentials", where=_bare(target), fix="download the file and apply that")
    if target.scheme == "https" and target.host:
        return "https"
    if target.scheme == "http" and is_loopback(target.host):
        return "http"
    raise InputError(
        "manifests are read over https, or over http from this machine only", where=url, fix="use an https:// URL"
    )


def _body(response: httpx.Response, url: str, deadline: float) -> bytes:
    if response.status_code != 200:
        raise UnreachableError(
            f"the server answered {response.status_code}", where=url, fix="check the address in a browser"
        )
    body = bytearray()
    for part in response.iter_bytes():
        body += part
        if len(body) > MAX_BYTES:
            raise too_large(url)
        if time.monotonic() > deadline:
            raise UnreachableError(f"the download took over {DEADLINE_S:.0f} s", where=url, fix="fetch the file first")
    return bytes(body)
