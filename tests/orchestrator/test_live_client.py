"""The client of the admin API: every failure of the wire is one error with a way out, each refusal the error it was."""

from __future__ import annotations

import inspect
from pathlib import Path

import httpx
import msgspec
import pytest
import respx

from gridctl.control.problems import error_of, problem_of, read_problem
from gridctl.errors import (
    ConflictError,
    GridctlError,
    InputError,
    NotFoundError,
    StoreError,
    UnreachableError,
    UsageError,
)
from gridctl.orchestrator.live_client import LiveClient, Remote, token_from
from gridctl.orchestrator.remote_registry import RemoteRegistry
from gridctl.registry import Registry

URL = "https://grid.example:8443"
STATUS = {
    "grid": "g",
    "state": "ready",
    "version": "1",
    "pid": 7,
    "started_unix_ns": 1,
    "data_url": "http://x",
    "admin": "unix:/x",
    "policy": "p",
    "price_book": "b",
    "generation": 3,
    "registry_version": 9,
    "backends": 2,
    "sites": 1,
    "keys": 0,
    "anonymous": True,
    "recordings": None,
    "workers": [],
}


@respx.mock
def test_the_token_goes_with_every_call_and_a_newer_servers_fields_do_no_harm() -> None:
    route = respx.get(f"{URL}/v1/status").mock(return_value=httpx.Response(200, json={**STATUS, "added_later": [1]}))
    with LiveClient(Remote(URL, "secret")) as client:
        assert client.status().generation == 3
    assert route.calls[0].request.headers["authorization"] == "Bearer secret"


@pytest.mark.parametrize(
    ("failure", "words", "fix"),
    [
        (httpx.ConnectError("[Errno 111] Connection refused"), "cannot be reached", "gridctl up"),
        (httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed"), "not trusted here", "--ca FILE"),
        (httpx.ConnectError("[SSL: WRONG_VERSION_NUMBER]"), "speaks no TLS", "scheme"),
        (httpx.ConnectTimeout("slow"), "does not answer", "firewalls"),
        (httpx.ReadTimeout("slow"), "did not answer in 30 s", "try again"),
        (httpx.RemoteProtocolError("peer closed"), "broke off", "try again"),
        (httpx.ReadError("reset"), "broke off", "try again"),
    ],
    ids=range(7),
)
@respx.mock
def test_a_wire_that_fails_is_unreachable_with_a_fix(failure: Exception, words: str, fix: str) -> None:
    respx.get(f"{URL}/v1/status").mock(side_effect=failure)
    with LiveClient(Remote(URL)) as client, pytest.raises(UnreachableError, match=words) as caught:
        client.status()
    assert caught.value.exit_code == 5
    assert caught.value.where == URL
    assert fix in (caught.value.fix or "")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (httpx.Response(404, text="<html>nginx</html>"), "answers with status 404, not as an orchestrator"),
        (httpx.Response(502, text=""), "answers with status 502"),
        (httpx.Response(302, headers={"location": "https://evil.example/"}), "answers with status 302"),
        (httpx.Response(200, text="<html>"), "does not understand"),
        (httpx.Response(200, json={"grid": 1}), "does not understand"),
        (httpx.Response(200, json=[]), "does not understand"),
    ],
    ids=range(6),
)
@respx.mock
def test_something_else_at_the_address_is_noticed(answer: httpx.Response, words: str) -> None:
    respx.get(f"{URL}/v1/status").mock(return_value=answer)
    with LiveClient(Remote(URL)) as client, pytest.raises(UnreachableError, match=words):
        client.status()


@pytest.mark.parametrize(
    "error",
    [
        UsageError("a", where="b", fix="c"),
        InputError("a", related=[InputError("second", where="x")]),
        ConflictError("a", fix="c"),
        StoreError("a"),
        NotFoundError("a", fix="did you mean b?"),
        UnreachableError("a"),
        GridctlError("a"),
    ],
    ids=lambda error: type(error).__name__,
)
@respx.mock
def test_what_the_orchestrator_refuses_is_the_error_it_was_there(error: GridctlError) -> None:
    problem = problem_of(error)
    content = msgspec.json.encode(problem)
    respx.get(f"{URL}/v1/version").mock(return_value=httpx.Response(problem.status, content=content))
    with LiveClient(Remote(URL)) as client, pytest.raises(type(error)) as caught:
        client.version()
    again = caught.value
    assert type(again) is type(error)
    assert (again.what, again.where, again.fix, again.exit_code) == (
        error.what,
        error.where,
        error.fix,
        error.exit_code,
    )
    assert [one.what for one in again.related] == [one.what for one in error.related]


def test_a_problem_of_a_kind_that_came_later_is_bad_input() -> None:
    problem = read_problem(b'{"status":418,"kind":"teapot","what":"short and stout"}')
    assert problem is not None
    assert type(error_of(problem)) is InputError
    assert read_problem(b"not json") is None


@pytest.mark.parametrize(
    "url",
    [
        "http://grid.example:8081",
        "http://10.0.0.1:8081",
        "ftp://grid.example",
        "https://user:password@grid.example",
        "https://grid.example/?token=x",
        "https://",
        "grid.example",
        "http://[::1",
        "",
    ],
)
def test_a_token_is_never_sent_where_others_could_read_it(url: str) -> None:
    with pytest.raises(InputError) as caught:
        LiveClient(Remote(url, "secret"))
    assert "https://HOST:PORT" in (caught.value.fix or "")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8081", "http://[::1]:8081", "http://localhost:1", "unix:/tmp/a.sock"]
)
def test_loopback_needs_no_tls(url: str) -> None:
    with LiveClient(Remote(url, "secret")) as client:
        assert client.remote.url == url


def test_tokens_come_from_variables_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "token"
    file.write_text(" from-file \n")
    monkeypatch.setenv("SOME_TOKEN", "from-variable")
    monkeypatch.setenv("GRIDCTL_TOKEN", "usual")
    assert token_from("") == "usual"
    assert token_from("env:SOME_TOKEN") == "from-variable"
    assert token_from(f"file:{file}") == "from-file"
    for reference in ("env:NOT_SET", f"file:{tmp_path}/none", f"file:{tmp_path}"):
        with pytest.raises(InputError):
            token_from(reference)
    file.write_text("\n")
    with pytest.raises(InputError, match="holds no token"):
        token_from(f"file:{file}")


def test_a_registry_elsewhere_answers_everything_a_registry_does() -> None:
    wanted = {name for name, _ in inspect.getmembers(Registry, inspect.isfunction) if not name.startswith("_")}
    own = {name for name in vars(RemoteRegistry) if not name.startswith("_")}
    # Only the orchestrator itself notes what it was told to do.
    assert wanted - own == {"note"}
