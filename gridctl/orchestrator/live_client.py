"""The client of the admin API: how commands talk to a running orchestrator, on this machine or far away.

Decides how failures of the wire become errors with a way out (exit code 5); what the orchestrator itself refuses comes
back as the very error it would have been here. httpx is imported when a client is made, not before.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar
from urllib.parse import quote

import msgspec

from gridctl.errors import InputError, UnreachableError

if TYPE_CHECKING:
    import httpx

    from gridctl.control import messages, registry_messages
    from gridctl.health.reports import HealthReport, SiteReport, TopBy, TopFrame
    from gridctl.orchestrator.context import GridHome
    from gridctl.registry import Event, Planned, Stored
    from gridctl.resources import Resource, ResourceKey
    from gridctl.routing.decision import Decision

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 30.0
TOKEN_VARIABLE = "GRIDCTL_TOKEN"
START_IT = "start it: gridctl up --detach"
_BASE = "http://orchestrator"
_Answer = TypeVar("_Answer")


class Remote(NamedTuple):
    """An orchestrator elsewhere: `url` is https://…, http://… on loopback, or unix:/PATH; `token` is its text or ""."""

    url: str
    token: str = ""
    ca: str = ""


class LiveClient:
    """A context manager; one per thread."""

    def __init__(self, remote: Remote, *, transport: httpx.BaseTransport | None = None) -> None:
        """`transport` replaces the wire in tests. Raises InputError for an address nobody should send a token to."""
        import httpx

        self.remote = remote
        base = _BASE
        headers = {"authorization": f"Bearer {remote.token}"} if remote.token else {}
        if remote.url.startswith("unix:"):
            transport = transport or httpx.HTTPTransport(uds=remote.url.removeprefix("unix:"))
        else:
            base = _checked(remote.url)
            transport = transport or httpx.HTTPTransport(verify=_trust(remote))
        timeout = httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
        self._client = httpx.Client(
            base_url=base, headers=headers, timeout=timeout, transport=transport, follow_redirects=False
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()

    # ── what is so now ──────────────────────────────────────────────────────────────────────────────────────────────

    def status(self) -> messages.Status:
        """The orchestrator itself."""
        from gridctl.control import messages

        return self.get("/v1/status", messages.Status)

    def health(self) -> HealthReport:
        """What is wrong, since when, what it affects, what to do."""
        from gridctl.health.reports import HealthReport

        return self.get("/v1/health", HealthReport)

    def sites(self) -> list[messages.SiteSummary]:
        """Sites that serve, and their states."""
        from gridctl.control import messages

        return list(self.get("/v1/sites", messages.SiteSummaryList).items)

    def site(self, name: str) -> SiteReport:
        """One site on one screen. Raises NotFoundError."""
        from gridctl.health.reports import SiteReport

        return self.get(f"/v1/sites/{quote(name, safe='')}", SiteReport)

    def top(self, by: TopBy = "workload", window_s: int | None = None) -> TopFrame:
        """Requests, latencies and dollars of the last seconds."""
        from gridctl.health.reports import TopFrame

        return self.get("/v1/top", TopFrame, by=by, window_s=window_s)

    def metrics(self) -> str:
        """The metrics, in Prometheus' text format."""
        return self._send("GET", "/metrics").decode()

    def request(self, request_id: str) -> dict[str, Any]:
        """What a worker remembers of a request. Raises NotFoundError."""
        return self.get(f"/v1/requests/{quote(request_id, safe='')}", dict[str, Any])

    def route_test(self, question: messages.RouteTestMessage) -> Decision:
        """Where such a request would go now."""
        from gridctl.routing.decision import Decision

        return self.post("/v1/route/test", question, Decision)

    def record(self, folder: str | None) -> messages.Recording:
        """Have requests recorded to a folder on the orchestrator's machine; None ends that."""
        from gridctl.control import messages

        return self.post("/v1/recording", messages.RecordMessage(folder=folder), messages.Recording)

    def stop(self, grace_s: float | None = None) -> messages.Stopping:
        """Stop the orchestrator."""
        from gridctl.control import messages

        return self.post("/v1/stop", messages.StopMessage(grace_s=grace_s), messages.Stopping)

    # ── the grid's declarations ─────────────────────────────────────────────────────────────────────────────────────

    def version(self) -> int:
        """How many changes the grid has seen."""
        from gridctl.control import registry_messages

        return self.get("/v1/version", registry_messages.VersionMessage).version

    def resources(self, kind: str | None = None) -> list[Stored]:
        """Every resource, or those of a kind."""
        from gridctl.control import registry_messages

        answer: Any = self.get("/v1/resources", registry_messages.stored_list_type(), kind=kind)
        return [registry_messages.stored_of(one) for one in answer.items]

    def resource(self, kind: str, name: str) -> Stored:
        """One resource. Raises NotFoundError."""
        from gridctl.control import registry_messages

        path = f"/v1/resources/{quote(kind, safe='')}/{quote(name, safe='')}"
        return registry_messages.stored_of(self.get(path, registry_messages.stored_type()))

    def apply(
        self,
        resources: Sequence[Resource],
        *,
        cause: str,
        expected: Mapping[ResourceKey, int] | None,
        dry_run: bool,
    ) -> list[Planned]:
        """Create and update, all or nothing."""
        from gridctl.control import registry_messages

        body = registry_messages.apply_type()(
            resources=tuple(resources), cause=cause, expected=_versions(expected), dry_run=dry_run
        )
        path = "/v1/resources/plan" if dry_run else "/v1/resources/apply"
        return registry_messages.planned_of(self.post(path, body, registry_messages.planned_list_type()))

    def delete(
        self, keys: Sequence[ResourceKey], *, cause: str, expected: Mapping[ResourceKey, int] | None, dry_run: bool
    ) -> list[Stored]:
        """Delete, all or nothing."""
        from gridctl.control import registry_messages

        body = registry_messages.DeleteMessage(
            keys=tuple(registry_messages.KeyOfResource(key.kind, key.name) for key in keys),
            cause=cause,
            expected=_versions(expected),
            dry_run=dry_run,
        )
        answer: Any = self.post("/v1/resources/delete", body, registry_messages.deleted_list_type())
        return [registry_messages.stored_of(one) for one in answer.items]

    def events(
        self, *, kind: str | None = None, name: str | None = None, since_version: int = 0, limit: int | None = None
    ) -> list[Event]:
        """Events, oldest first."""
        from gridctl.control import registry_messages

        answer = self.get(
            "/v1/events", registry_messages.EventList, kind=kind, name=name, since_version=since_version, limit=limit
        )
        return list(answer.items)

    def access_keys(self) -> list[registry_messages.KeyMessage]:
        """Every key, without its token."""
        from gridctl.control import registry_messages

        return list(self.get("/v1/keys", registry_messages.KeyList).items)

    def create_key(self, wanted: registry_messages.WantedKeyMessage) -> registry_messages.MadeKey:
        """Make a key."""
        from gridctl.control import registry_messages

        return self.post("/v1/keys", wanted, registry_messages.MadeKey)

    def revoke_key(self, name: str, cause: str) -> registry_messages.KeyMessage:
        """Revoke a key. Raises NotFoundError."""
        from gridctl.control import registry_messages

        content = self._send("DELETE", f"/v1/keys/{quote(name, safe='')}", params={"cause": cause} if cause else {})
        return self._decoded(content, registry_messages.KeyMessage)

    # ── the wire ────────────────────────────────────────────────────────────────────────────────────────────────────

    def get(self, path: str, answer: type[_Answer], /, **query: object) -> _Answer:
        """The answer to a GET. Raises what the orchestrator says, UnreachableError when it says nothing of use."""
        asked = {name: str(value) for name, value in query.items() if value is not None}
        return self._decoded(self._send("GET", path, params=asked), answer)

    def post(self, path: str, body: msgspec.Struct, kind: type[_Answer]) -> _Answer:
        """The answer to a POST."""
        headers = {"content-type": "application/json"}
        return self._decoded(self._send("POST", path, content=msgspec.json.encode(body), headers=headers), kind)

    def _send(self, method: str, path: str, **what: Any) -> bytes:
        import httpx

        from gridctl.control.problems import error_of, read_problem

        path_of_socket = self.remote.url.removeprefix("unix:") if self.remote.url.startswith("unix:") else ""
        if path_of_socket and not os.path.exists(path_of_socket):
            raise self._unreachable("does not listen any more", START_IT)
        try:
            answer = self._client.request(method, path, **what)
        except httpx.ConnectTimeout:
            raise self._unreachable("does not answer", "check the address, and firewalls on the way") from None
        except httpx.TimeoutException:
            raise self._unreachable(f"did not answer in {READ_TIMEOUT_S:g} s", "try again; gridctl status") from None
        except httpx.ConnectError as error:
            raise self._no_connection(error) from None
        except httpx.HTTPError as error:
            raise self._unreachable(f"broke off: {error or type(error).__name__}", "try again") from None
        if answer.is_success:
            return answer.content
        problem = read_problem(answer.content)
        if problem is None:
            raise self._unreachable(
                f"answers with status {answer.status_code}, not as an orchestrator does",
                "is this the admin API's address, and not the one for requests?",
            )
        raise error_of(problem)

    def _decoded(self, content: bytes, kind: type[_Answer]) -> _Answer:
        try:
            return msgspec.json.decode(content, type=kind)
        except msgspec.MsgspecError as error:
            raise self._unreachable(
                f"answers what this gridctl does not understand: {error}",
                "use the same gridctl version on both sides",
            ) from None

    def _no_connection(self, error: Exception) -> UnreachableError:
        text = str(error)
        if "CERTIFICATE_VERIFY_FAILED" in text:
            return self._unreachable(
                "shows a certificate that is not trusted here", "name its authority: gridctl context add NAME --ca FILE"
            )
        if "SSL" in text or "TLS" in text:
            return self._unreachable(f"speaks no TLS we could agree on: {text}", "check the URL's scheme and port")
        if self.remote.url.startswith("unix:"):
            return self._unreachable("does not listen any more", START_IT)
        return self._unreachable(f"cannot be reached: {text}", "check the address; is gridctl up running there?")

    def _unreachable(self, what: str, fix: str) -> UnreachableError:
        return UnreachableError(f"the orchestrator {what}", where=self.remote.url, fix=fix)


def local_client(home: GridHome) -> LiveClient:
    """A client of the orchestrator that runs for this grid on this machine. Raises UnreachableError when none does."""
    from gridctl.orchestrator.live import running_or_fail

    return LiveClient(Remote(running_or_fail(home).admin))


def client_of(home: GridHome) -> LiveClient:
    """A client of the grid's orchestrator, wherever it runs: the context's, else the one on this machine."""
    return LiveClient(home.remote) if home.remote is not None else local_client(home)


def token_from(reference: str) -> str:
    """The token that `env:NAME` or `file:PATH` stands for; "" for "". Raises InputError when it is not there."""
    scheme, _, place = reference.partition(":")
    if not reference:
        return os.environ.get(TOKEN_VARIABLE, "").strip()
    if scheme == "env":
        token = os.environ.get(place, "").strip()
        if not token:
            raise InputError(f"the variable {place} holds no token", where="context", fix=f"export {place}=TOKEN")
        return token
    try:
        token = Path(place).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise InputError(
            f"the token cannot be read: {reason}", where=place, fix="write the token to this file, mode 0600"
        ) from None
    if not token:
        raise InputError("the file holds no token", where=place, fix="write the token to this file, mode 0600")
    return token


def _checked(url: str) -> str:
    """The URL, if a token may be sent there: TLS, or loopback."""
    import httpx

    from gridctl.control.listening import Address

    fix = "https://HOST:PORT, or http://127.0.0.1:PORT through ssh -L"
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError):
        raise InputError(f"not a URL: {url[:80]!r}", where="context", fix=fix) from None
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.userinfo or parsed.query:
        raise InputError(f"not an address of an admin API: {url[:80]!r}", where="context", fix=fix)
    if parsed.scheme == "http" and not Address(parsed.host, 0).is_private:
        raise InputError("a token would cross the network unencrypted", where=url[:80], fix=fix)
    return url.rstrip("/")


def _trust(remote: Remote) -> Any:
    if not remote.ca:
        return True
    import ssl

    try:
        return ssl.create_default_context(cafile=str(Path(remote.ca).expanduser()))
    except (OSError, ssl.SSLError) as error:
        raise InputError(
            f"the authority's certificate cannot be used: {error}", where=remote.ca, fix="give a PEM file: --ca FILE"
        ) from None


def _versions(expected: Mapping[ResourceKey, int] | None) -> Any:
    from gridctl.control import registry_messages

    if expected is None:
        return None
    return tuple(registry_messages.ExpectedVersion(key.kind, key.name, version) for key, version in expected.items())
