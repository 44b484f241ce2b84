"""Order: everything an agent was told when it was started. Checked once, never changed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from gridctl.errors import UsageError
from gridctl.resources.hosts import is_loopback

KEEP_FREE_SHARE = 0.10
"""Share of the disk that stays free."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A prompt that shows whether an engine works. `expect` is the answer, where only one is right."""

    prompt: str
    max_tokens: int = 16
    expect: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """`keep_free_bytes` of the disk stay free (None: a tenth of it). `architectures` are the `model_type`s that this
    site's engines load (none: any). `retry_s` is the first pause after a failed step; it doubles up to 240 times."""

    site: str
    url: str
    token_file: Path
    folder: Path
    engine_url: str | None = None
    reload_command: tuple[str, ...] = ()
    reload_url: str | None = None
    key_pem: str | None = None
    certificates: Path | None = None
    interval_s: float = 30.0
    bandwidth_bytes_per_s: float | None = None
    parallel: int = 2
    architectures: tuple[str, ...] = ()
    requires_signature: bool = False
    probes: tuple[Probe, ...] = ()
    probe_every_s: float = 60.0
    health_every_s: float = 5.0
    ready_s: float = 600.0
    hook_s: float = 600.0
    retry_s: float = 5.0
    keep_free_bytes: int | None = None


def check_url(url: str, flag: str) -> str:
    """A URL without its last slash, if a secret may be sent there. Raises: UsageError."""
    parts = urlsplit(url)
    is_private = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))
    if not parts.hostname or not is_private or parts.username or parts.query or parts.fragment:
        raise UsageError(
            f"not a URL to talk to: {url[:100]!r}", where=flag, fix="https://HOST[:PORT], or http:// on this machine"
        )
    return url.rstrip("/")
