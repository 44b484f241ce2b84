"""Reference: where an artefact is, `host[:port]/repository[:tag][@sha256:…]`, and whether it is asked in clear text.

Invariant: clear text only to this machine or by `http://` written out; a reference never carries a secret.

Source: OCI distribution specification, the grammar of `<name>` and `<reference>`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gridctl.artifacts.contents import is_digest
from gridctl.errors import UsageError
from gridctl.resources.hosts import is_loopback

_REPOSITORY = re.compile(r"^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$")
_TAG = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$")
_HOST = re.compile(r"^(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?$")
EXAMPLE = "registry.example.com/models/llama:v2"


@dataclass(frozen=True, slots=True)
class Reference:
    """A repository at a host, and a tag, a digest, or both."""

    scheme: str
    host: str
    repository: str
    tag: str = ""
    digest: str = ""

    @property
    def version(self) -> str:
        """What to ask the registry for: the digest where there is one."""
        return self.digest or self.tag or "latest"

    @property
    def origin(self) -> str:
        """`scheme://host[:port]`."""
        return f"{self.scheme}://{self.host}"

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.host}/{self.repository}{tag}{'@' + self.digest if self.digest else ''}"


def parse_reference(text: str) -> Reference:
    """The reference written in `text`. Raises: UsageError.

    >>> parse_reference("localhost:5000/models/a:v1").scheme
    'http'
    """
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "", text
    rest, _, digest = rest.partition("@")
    host, _, path = rest.partition("/")
    repository, _, tag = path.partition(":")
    is_sound = (
        scheme in ("", "http", "https")
        and _HOST.match(host) is not None
        and _REPOSITORY.match(repository) is not None
        and (not tag or _TAG.match(tag) is not None)
        and (not digest or is_digest(digest))
    )
    if not is_sound:
        raise UsageError(f"not a reference: {text[:100]!r}", where="REF", fix=f"write HOST/NAME:TAG, as {EXAMPLE}")
    name = re.sub(r":\d+$", "", host)
    return Reference(scheme or ("http" if is_loopback(name) else "https"), host, repository, tag, digest)
