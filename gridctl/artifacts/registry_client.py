"""Registry client: requests to one OCI registry, answered, refused, or repeated with patience.

Decides authentication, redirects and retries, and nothing about models. Invariants: `Authorization` goes to the
registry's own origin only, never across a redirect; an answer that a registry asks to repeat later (429, 503 and other
5xx) is repeated no earlier than its `Retry-After`; nothing waits for ever. Safe among threads.

Source: OCI distribution specification 1.1; RFC 9110 for Retry-After.
"""

from __future__ import annotations

import email.utils
import random
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from gridctl.artifacts.contents import bytes_digest
from gridctl.artifacts.credentials import Challenge, Credential, credential_for, read_challenge
from gridctl.artifacts.manifest import MANIFEST_TYPE, MAX_MANIFEST_BYTES
from gridctl.artifacts.reference import Reference
from gridctl.errors import InputError, NotFoundError, UnreachableError

if TYPE_CHECKING:
    import httpx

CONNECT_S = 10.0
SILENCE_S = 60.0
"""Seconds without a byte after which a peer has stalled."""
COMMIT_S = 600.0
"""Seconds a registry may take to digest a blob it has received."""
ATTEMPTS = 6
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 60.0
MAX_REDIRECTS = 5
TOKEN_S = 60.0
"""Life of a token whose server does not tell."""
TOKEN_MARGIN_S = 10.0
MAX_TOKEN_BYTES = 1 << 20

Body = bytes | Callable[[], Iterable[bytes]]


class RegistryBusyError(UnreachableError):
    """The registry did not do its part in all attempts; it may be asked again in `wait_s` seconds."""

    def __init__(self, what: str, *, where: str, fix: str, wait_s: float) -> None:
        super().__init__(what, where=where, fix=fix)
        self.wait_s = wait_s


class _Token(msgspec.Struct):
    token: str = ""
    access_token: str = ""
    expires_in: float = TOKEN_S


class RegistryClient:
    """A registry, by the repository of `reference`. Close it, or use it in a `with`."""

    def __init__(
        self,
        reference: Reference,
        *,
        credential: Credential | None = None,
        parallel: int = 4,
        silence_s: float = SILENCE_S,
        attempts: int = ATTEMPTS,
        pause: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        import httpx

        self.reference = reference
        self.parallel = max(1, parallel)
        self._credential = credential if credential is not None else credential_for(reference.host)
        self._attempts = attempts
        self._pause = pause
        self._clock = clock
        self._timeout = httpx.Timeout(silence_s, connect=CONNECT_S, pool=None)
        self._http = httpx.Client(
            timeout=self._timeout,
            follow_redirects=False,
            limits=httpx.Limits(max_connections=self.parallel, max_keepalive_connections=self.parallel),
            trust_env=reference.scheme == "https",
            headers={"user-agent": "gridctl", "accept-encoding": "identity"},
        )
        self._header = ""
        self._expires_at = 0.0
        self._scopes: set[str] = set()
        self._challenge: Challenge | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> RegistryClient:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._http.close()

    def path(self, tail: str, repository: str | None = None) -> str:
        """The address of something in a repository of this registry."""
        return f"{self.reference.origin}/v2/{repository or self.reference.repository}/{tail}"

    @contextmanager
    def exchange(
        self,
        method: str,
        url: str,
        expect: Collection[int],
        *,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        silence_s: float | None = None,
        attempts: int | None = None,
    ) -> Iterator[httpx.Response]:
        """One answer whose status is in `expect`, its body not yet read.

        Raises: NotFoundError, InputError (refused), UnreachableError (no answer in all attempts).
        """
        response = self._answer(method, url, expect, headers or {}, body, silence_s, attempts or self._attempts)
        try:
            yield response
        finally:
            response.close()

    def manifest(self, version: str | None = None) -> bytes | None:
        """The bytes of a manifest, checked against the digest asked for; None when there is none."""
        asked = version or self.reference.version
        url = self.path(f"manifests/{asked}")
        with self.exchange("GET", url, (200, 404), headers={"accept": MANIFEST_TYPE}) as response:
            if response.status_code == 404:
                return None
            data = read_bounded(response, MAX_MANIFEST_BYTES, url)
        if asked.startswith("sha256:") and bytes_digest(data) != asked:
            raise InputError("the registry gave another manifest than asked for", where=url, fix="push it again")
        return data

    def put_manifest(self, data: bytes, version: str, media_type: str = MANIFEST_TYPE) -> None:
        """Put a manifest at a tag or at its digest."""
        url = self.path(f"manifests/{version}")
        with self.exchange("PUT", url, (201, 202), headers={"content-type": media_type}, body=data):
            pass

    def has_blob(self, digest: str) -> bool:
        """Whether the repository holds the blob."""
        with self.exchange("HEAD", self.path(f"blobs/{digest}"), (200, 404)) as response:
            return response.status_code == 200

    def _answer(
        self,
        method: str,
        url: str,
        expect: Collection[int],
        headers: Mapping[str, str],
        body: Body | None,
        silence_s: float | None,
        attempts: int,
    ) -> httpx.Response:
        import httpx

        wait = FIRST_WAIT_S
        reason = ""
        for attempt in range(attempts):
            if attempt:
                self._pause(wait)
                wait = min(LONGEST_WAIT_S, wait * 2) * random.uniform(0.75, 1.25)
            try:
                response = self._authorized(method, url, headers, body, silence_s)
            except (httpx.TransportError, httpx.DecodingError) as error:
                reason = str(error) or type(error).__name__
                continue
            if response.status_code in expect:
                return response
            if response.status_code != 429 and response.status_code < 500:
                raise _refusal(response, url)
            reason = f"it answers {response.status_code}"
            wait = max(wait, retry_after_s(response.headers.get("retry-after", ""), time.time()))
            response.close()
        raise RegistryBusyError(
            f"the registry does not do its part: {reason[:200]}",
            where=url,
            fix="run the command again: it resumes",
            wait_s=wait,
        )

    def pause(self, seconds: float) -> None:
        """Wait, by the clock this client was given."""
        self._pause(seconds)

    def _authorized(
        self, method: str, url: str, headers: Mapping[str, str], body: Body | None, silence_s: float | None
    ) -> httpx.Response:
        """The answer after at most one challenge."""
        response = self._followed(method, url, headers, body, silence_s)
        challenged = response.headers.get("www-authenticate", "")
        if response.status_code != 401 or not challenged:
            return response
        response.close()
        self._meet(read_challenge(challenged), is_refused=True)
        return self._followed(method, url, headers, body, silence_s)

    def _followed(
        self, method: str, url: str, headers: Mapping[str, str], body: Body | None, silence_s: float | None
    ) -> httpx.Response:
        """The answer behind redirects of GET and HEAD; other hosts are asked without Authorization."""
        import httpx

        for _ in range(MAX_REDIRECTS + 1):
            sent = dict(headers)
            if _origin(httpx.URL(url)) == _origin(httpx.URL(self.reference.origin)):
                authorization = self._authorization()
                if authorization:
                    sent["authorization"] = authorization
            timeout = self._timeout if silence_s is None else httpx.Timeout(silence_s, connect=CONNECT_S, pool=None)
            content = body() if callable(body) else body
            request = self._http.build_request(method, url, headers=sent, content=content, timeout=timeout)
            response = self._http.send(request, stream=True)
            if method not in ("GET", "HEAD") or not response.has_redirect_location:
                return response
            response.close()
            target = httpx.URL(url).join(response.headers["location"])
            if httpx.URL(url).scheme == "https" and target.scheme != "https":
                raise InputError("the registry redirects to clear text", where=url, fix="ask the registry's operator")
            url = str(target)
        raise InputError(f"more than {MAX_REDIRECTS} redirects", where=url, fix="ask the registry's operator")

    def _authorization(self) -> str:
        with self._lock:
            if self._challenge is None or self._clock() < self._expires_at:
                return self._header
            challenge = self._challenge
        self._meet(challenge, is_refused=False)
        return self._header

    def _meet(self, challenge: Challenge, *, is_refused: bool) -> None:
        """Get what a challenge asks for; scopes add up, because a mount needs two."""
        with self._lock:
            if challenge.scheme == "basic":
                if self._credential is None:
                    raise _unknown(self.reference.origin)
                self._header, self._expires_at = self._credential.basic, float("inf")
            elif challenge.scheme == "bearer" and challenge.realm:
                self._scopes |= set(challenge.scope.split())
                self._challenge = challenge
                token = self._token(challenge)
                self._header = f"Bearer {token.token or token.access_token}"
                self._expires_at = self._clock() + max(TOKEN_MARGIN_S, token.expires_in - TOKEN_MARGIN_S)
            elif is_refused:
                raise _unknown(self.reference.origin)

    def _token(self, challenge: Challenge) -> _Token:
        import httpx

        realm = httpx.URL(challenge.realm)
        if self.reference.scheme == "https" and realm.scheme != "https":
            raise InputError("the registry's token server is in clear text", where=str(realm), fix="use another")
        fields = {"service": challenge.service, "scope": " ".join(sorted(self._scopes))}
        fields = {name: value for name, value in fields.items() if value}
        try:
            if self._credential is not None and self._credential.is_token:
                grant = {
                    "grant_type": "refresh_token",
                    "refresh_token": self._credential.secret,
                    "client_id": "gridctl",
                }
                response = self._http.post(realm, data={**fields, **grant})
            else:
                basic = {"authorization": self._credential.basic} if self._credential is not None else {}
                response = self._http.get(realm.copy_merge_params(fields), headers=basic)
        except httpx.TransportError as error:
            raise UnreachableError(
                f"the token server does not answer: {type(error).__name__}", where=str(realm), fix="try again"
            ) from None
        if response.status_code >= 500 or response.status_code == 429:
            raise UnreachableError(
                f"the token server answers {response.status_code}", where=str(realm), fix="try again"
            )
        if response.status_code != 200 or len(response.content) > MAX_TOKEN_BYTES:
            raise _unknown(self.reference.origin)
        try:
            return msgspec.json.decode(response.content, type=_Token)
        except msgspec.DecodeError:
            raise InputError(
                "the token server's answer is unreadable", where=str(realm), fix="ask its operator"
            ) from None


def read_bounded(response: httpx.Response, limit: int, where: str) -> bytes:
    """A small answer's body. Raises: InputError when it is larger than `limit` bytes, UnreachableError when cut."""
    import httpx

    parts: list[bytes] = []
    total = 0
    try:
        for part in response.iter_raw():
            total += len(part)
            if total > limit:
                raise InputError(f"an answer larger than {limit} bytes", where=where, fix="check the reference")
            parts.append(part)
    except httpx.TransportError as error:
        raise UnreachableError(
            f"the registry broke off: {type(error).__name__}", where=where, fix="run the command again"
        ) from None
    return b"".join(parts)


def retry_after_s(header: str, now_unix_s: float) -> float:
    """Seconds a `Retry-After` asks for: a number or a date; at most a minute, for a wrong clock must not stop us.

    >>> retry_after_s("7", 0.0)
    7.0
    """
    try:
        wait = float(header)
    except ValueError:
        try:
            wait = email.utils.parsedate_to_datetime(header).timestamp() - now_unix_s
        except (TypeError, ValueError):
            wait = 0.0
    return min(LONGEST_WAIT_S, max(0.0, wait)) if wait == wait else 0.0


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _unknown(url: str) -> InputError:
    host = url.partition("://")[2].partition("/")[0]
    return InputError("the registry does not accept who we are", where=host, fix=f"docker login {host}")


def _refusal(response: httpx.Response, url: str) -> InputError | NotFoundError:
    status = response.status_code
    text = read_bounded(response, 1 << 16, url)
    response.close()
    if status in (401, 403):
        return _unknown(url)
    try:
        said = msgspec.json.decode(text)["errors"][0]
        reason = f"{said.get('code', '')} {said.get('message', '')}".strip()
    except (msgspec.DecodeError, KeyError, IndexError, TypeError, AttributeError):
        reason = ""
    what = f"the registry refuses ({status}): {reason[:200] or 'no reason given'}"
    if status == 404:
        return NotFoundError(what, where=url, fix="check the repository and the tag")
    return InputError(what, where=url, fix="check the reference and the artefact")
