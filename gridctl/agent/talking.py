"""Talking: one sync with the orchestrator, outbound only, and what its answer means.

Decides nothing about models. A 304 means "as before" and counts as being heard; whoever is refused keeps what he has
and asks again, slowly; `Retry-After` is honoured. Invariants: the token goes to the orchestrator's own URL only, never
along a redirect; it is read anew from its file, so a new one needs no restart; nothing waits for ever.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from gridctl.agent.acceptance import MAX_DESIRED_BYTES, read_desired
from gridctl.agent.order import Order
from gridctl.artifacts.registry_client import retry_after_s
from gridctl.errors import InputError, UnreachableError
from gridctl.rollout.protocol import Desired, Report

if TYPE_CHECKING:
    import ssl

    import httpx

ANSWER_S = 30.0
CONNECT_S = 10.0
MAX_REFUSAL_BYTES = 16 << 10


class SyncRefusedError(InputError):
    """The orchestrator does not take this agent: a revoked token, an unknown site."""


class SyncBusyError(UnreachableError):
    """No answer, or "later"; asking again makes sense in `wait_s` seconds (0: as usual)."""

    def __init__(self, what: str, *, where: str, wait_s: float = 0.0) -> None:
        super().__init__(what, where=where, fix="it is asked again")
        self.wait_s = wait_s


@dataclass(frozen=True, slots=True)
class Heard:
    """An answer. `desired` is None when nothing changed. `clock_ahead_s` is how far the orchestrator's clock is ahead
    of ours, None where it told no time; `asked_at` is this machine's monotonic time when the question left."""

    desired: Desired | None
    etag: str
    clock_ahead_s: float | None
    asked_at: float


class Line:
    """The way to the orchestrator. Close it."""

    def __init__(self, order: Order) -> None:
        import httpx

        self._order = order
        is_tls = order.url.startswith("https")
        self._http = httpx.AsyncClient(
            timeout=httpx.Timeout(ANSWER_S, connect=CONNECT_S),
            follow_redirects=False,
            trust_env=is_tls,
            verify=_trust(order.certificates) if is_tls else False,
            headers={"user-agent": "gridctl-agent", "accept-encoding": "identity"},
        )

    async def close(self) -> None:
        """Let go of the connection."""
        await self._http.aclose()

    async def sync(self, report: Report, etag: str) -> Heard:
        """Report, and hear what is wanted. Raises: SyncRefusedError, SyncBusyError, RefusedError, InputError."""
        import httpx

        url = f"{self._order.url}/v1/sites/{self._order.site}/sync"
        headers = {"authorization": f"Bearer {read_token(self._order.token_file)}", "content-type": "application/json"}
        if etag:
            headers["if-none-match"] = etag
        asked_at = time.monotonic()
        try:
            async with self._http.stream("POST", url, content=msgspec.json.encode(report), headers=headers) as response:
                _refuse(response.status_code, url, response.headers)
                data = b"" if response.status_code == 304 else await _bounded(response, url)
                ahead = _clock_ahead_s(response.headers.get("date", ""))
                told = response.headers.get("etag", "")
                is_same = response.status_code == 304
        except (httpx.HTTPError, OSError) as error:
            what = f"the orchestrator does not answer: {type(error).__name__}"
            raise SyncBusyError(what, where=url) from None
        return Heard(None if is_same else read_desired(data), etag if is_same else told, ahead, asked_at)


def read_token(path: Path) -> str:
    """The token in a file. Raises: InputError."""
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "not ASCII"
        raise InputError(f"the token cannot be read: {reason}", where=str(path), fix="gridctl token create") from None
    if not token or not token.isprintable() or " " in token:
        raise InputError("the file holds no token", where=str(path), fix="gridctl token create NAME > FILE")
    return token


def _refuse(status: int, url: str, headers: httpx.Headers) -> None:
    """Raises for everything that is no answer."""
    if status in (200, 304):
        return
    if status in (401, 403):
        what = f"the orchestrator does not accept the token ({status})"
        raise SyncRefusedError(what, where=url, fix="gridctl token create NAME, and write it to the --token-file")
    if status == 404:
        raise SyncRefusedError("the orchestrator knows no such site", where=url, fix="check --site and --url")
    if status in (408, 425, 429) or status >= 500:
        wait = retry_after_s(headers.get("retry-after", ""), time.time())
        raise SyncBusyError(f"the orchestrator answers {status}", where=url, wait_s=wait)
    raise SyncRefusedError(f"the orchestrator answers {status}", where=url, fix="check --url, and gridctl's versions")


async def _bounded(response: httpx.Response, where: str) -> bytes:
    parts: list[bytes] = []
    total = 0
    async for part in response.aiter_raw():
        total += len(part)
        if total > MAX_DESIRED_BYTES:
            raise InputError(f"an answer over {MAX_DESIRED_BYTES} bytes", where=where, fix="check --url")
        parts.append(part)
    return b"".join(parts)


def _clock_ahead_s(header: str) -> float | None:
    try:
        return parsedate_to_datetime(header).timestamp() - time.time()
    except (TypeError, ValueError):
        return None


def _trust(certificates: Path | None) -> ssl.SSLContext:
    """The certificates to trust: the machine's, or a file's. Raises: InputError."""
    import ssl

    try:
        return ssl.create_default_context(cafile=str(certificates) if certificates is not None else None)
    except (OSError, ssl.SSLError):
        raise InputError("no certificates in PEM", where=str(certificates), fix="name the file of your CA") from None
