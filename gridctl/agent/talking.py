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
from gridctl.errors import GridctlError, InputError, UnreachableError
from gridctl.rollout.protocol import Desired, Report

if TYPE_CHECKING:
    import ssl

    import httpx

ANSWER_S = 30.0
CONNECT_S = 10.0
MAX_REFUSAL_BYTES = 16_384
MAX_SAID = 300
MAKE_TOKEN = "gridctl token create NAME --role agent --site SITE > FILE"


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
                if response.status_code not in (200, 304):
                    raise _refusal(response.status_code, url, response.headers, await _beginning(response))
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
        raise InputError(f"the token cannot be read: {reason}", where=str(path), fix=MAKE_TOKEN) from None
    if not token or not token.isprintable() or " " in token:
        raise InputError("the file holds no token", where=str(path), fix=MAKE_TOKEN)
    return token


def _refusal(status: int, url: str, headers: httpx.Headers, body: bytes) -> GridctlError:
    """Everything that is no answer, as the error it is; with the orchestrator's own words where it has some."""
    if status in (401, 403):
        what = f"the orchestrator does not accept the token ({status})"
        return SyncRefusedError(what, where=url, fix=MAKE_TOKEN)
    if status == 404:
        return SyncRefusedError("the orchestrator knows no such site", where=url, fix="check --site and --url")
    said = _said(body)
    words = (f"{said.what}; there: {said.fix}" if said.fix else said.what) if said is not None else ""
    what = f"the orchestrator answers {status}" + (f": {words}" if words else "")
    if status in (408, 425, 429) or status >= 500:
        return SyncBusyError(what, where=url, wait_s=retry_after_s(headers.get("retry-after", ""), time.time()))
    return SyncRefusedError(what, where=url, fix="check --url, and gridctl's versions")


class _Said(msgspec.Struct):
    """What is read of a problem document of the admin API."""

    what: str
    fix: str | None = None


def _said(body: bytes) -> _Said | None:
    """What a refusal's body says, on one line and printable; None when it says nothing of ours."""
    try:
        said = msgspec.json.decode(body, type=_Said)
    except msgspec.MsgspecError:
        return None
    return _Said(_one_line(said.what), _one_line(said.fix) if said.fix else None)


def _one_line(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text[:MAX_SAID])


async def _beginning(response: httpx.Response) -> bytes:
    """A refusal's first bytes."""
    data = b""
    async for part in response.aiter_raw():
        data += part
        if len(data) > MAX_REFUSAL_BYTES:
            break
    return data[:MAX_REFUSAL_BYTES]


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
