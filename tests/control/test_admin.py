"""The admin API: every route × method × role, carriers of identity, bad input, and what its document promises."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest

from gridctl.control.admin import LONGEST_SMALL_BODY, admin_app
from gridctl.control.folder import LiveFolder
from gridctl.control.history import History
from gridctl.control.keeper import Keeper
from gridctl.control.listening import Address
from gridctl.control.live import Live
from gridctl.control.live_routes import ROUTES
from gridctl.control.observing import Observer
from gridctl.control.order import Order
from gridctl.control.plans import enrol, plan_of
from gridctl.control.questions import Questions
from gridctl.control.rollouts import Rollouts
from gridctl.control.supervisor import Facts, Supervisor
from gridctl.orchestrator.context import GridHome
from gridctl.orchestrator.live import LocalServices
from gridctl.registry import Registry, WantedKey
from gridctl.signals.board import Board

ROLES = ("nobody", "client", "viewer", "operator", "admin", "agent")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW")
RANK = {"nobody": 0, "client": 0, "viewer": 1, "operator": 2, "admin": 3}

Ask = Callable[..., httpx.Response]


class Api:
    """The application without a wire: as a TCP peer, or with `uid` as a peer of the Unix socket."""

    def __init__(self, home: GridHome, tmp_path: Path) -> None:
        self.tokens: dict[str, str] = {}
        with Registry.open(home.database) as registry:
            for role in ROLES[1:]:
                wanted = WantedKey(name=role, role=role, site="fr-paris-01" if role == "agent" else None)
                self.tokens[role] = registry.create_key(wanted, cause="test")[1]
        services = LocalServices(home, None, None)
        order = Order(database=home.database, grid="grid", listen=Address("127.0.0.1", 8080))
        declared = services.declared()
        plan = plan_of(declared, order, None)
        self.board = Board.create(str(tmp_path / "board"), 1, 8)
        enrol(self.board, plan)
        self.stopped: list[float | None] = []
        folder = LiveFolder(home.database)
        folder.make()

        async def make() -> Live:
            return Live(
                order=order,
                services=services,
                folder=folder,
                data_url="http://127.0.0.1:8080",
                admin="unix:/nowhere",
                declared=declared,
                plan=plan,
                board=self.board,
                supervisor=Supervisor(Facts((), "", 0), 1, self.board, print),
                observer=Observer(self.board),
                history=History(self.board, folder.history, print),
                questions=Questions(self.board),
                keeper=Keeper(folder.path, "board", print),
                rollouts=Rollouts(folder.path, print),
                stop=self.stopped.append,
            )

        self.live = asyncio.run(make())
        self.live.learn_keys(declared.keys)
        self.live.observer.follow(plan)
        self.app = admin_app(self.live, ROUTES)

    def ask(
        self,
        method: str,
        path: str,
        role: str = "admin",
        *,
        headers: dict[str, str] | None = None,
        uid: int | None = None,
        **what: Any,
    ) -> httpx.Response:
        """One call."""
        given = {} if role == "nobody" else {"authorization": f"Bearer {self.tokens[role]}"}

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await self.app({**scope, "state": {"peer_uid": uid}}, receive, send)

        async def call() -> httpx.Response:
            transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://orchestrator") as client:
                return await client.request(method, path, headers=headers if headers is not None else given, **what)

        return asyncio.run(call())


@pytest.fixture
def api(home: GridHome, tmp_path: Path) -> Iterator[Api]:
    api = Api(home, tmp_path)
    yield api
    api.board.close()


def _filled(path: str) -> str:
    return path.replace("{kind}", "Site").replace("{name}", "fr-paris-01").replace("{id}", "abc")


def test_every_route_and_method_is_open_to_its_role_and_the_higher_ones_only(api: Api) -> None:
    routes = {(route.method, route.path): route for route in ROUTES}
    assert len(routes) == len(ROUTES)
    for path in {route.path for route in ROUTES}:
        for method in METHODS:
            route = routes.get(("GET" if method == "HEAD" else method, path))
            for role in ROLES:
                # A body that no route takes: whoever may not come in must not get so far as to hear of it.
                status = api.ask(method, _filled(path), role, content=b"[]").status_code
                if role == "nobody":
                    assert status == 401, (method, path, role)
                elif role == "client":
                    assert status == 403, (method, path, role)
                elif route is None:
                    assert status == 405, (method, path, role)
                elif "agent" in (role, route.role):
                    # A role beside the others: it opens the one route that is for it, which no other role does.
                    assert (status == 422) is (role == route.role), (method, path, role, status)
                    assert status in (403, 422), (method, path, role, status)
                elif RANK[role] < RANK[route.role]:
                    assert status == 403, (method, path, role)
                else:
                    assert status in (200, 400, 404, 422), (method, path, role, status)
    assert api.stopped == []


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v1/", "/v1/status/", "/docs", "/v1/resources/", "//v1/status", "/v1/../v1/status"]
)
def test_strangers_learn_of_no_route_and_others_that_there_is_none(api: Api, path: str) -> None:
    assert api.ask("GET", path, "nobody").status_code == 401
    assert api.ask("GET", path, "viewer").status_code in (404, 200)


def test_both_headers_carry_a_token_alike(api: Api) -> None:
    token = api.tokens["viewer"]
    for headers in ({"authorization": f"Bearer {token}"}, {"authorization": f"bearer  {token} "}, {"x-api-key": token}):
        assert api.ask("GET", "/v1/status", headers=headers).status_code == 200
        assert api.ask("GET", "/v1/keys", headers=headers).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer gridctl_wrong"},
        {"authorization": "Bearer "},
        {"authorization": "Basic YWRtaW46YWRtaW4="},
        {"authorization": ""},
        {"x-api-key": ""},
        {"x-api-key": "gridctl_" + "a" * 10_000},
        {"x-api-key": "' OR 1=1 --"},
        {"cookie": "token=gridctl_x"},
        {"x-forwarded-for": "127.0.0.1"},
    ],
    ids=range(9),
)
def test_nothing_else_opens_the_door(api: Api, headers: dict[str, str]) -> None:
    assert api.ask("GET", "/v1/status", headers=headers).status_code == 401


def test_two_tokens_that_differ_are_refused_even_if_one_is_right(api: Api) -> None:
    headers = {"authorization": f"Bearer {api.tokens['admin']}", "x-api-key": api.tokens["viewer"]}
    assert api.ask("GET", "/v1/status", headers=headers).status_code == 401


def test_the_account_of_the_socket_is_admin_others_are_not_and_a_token_counts_more(api: Api) -> None:
    import os

    assert api.ask("GET", "/v1/keys", headers={}, uid=os.getuid()).status_code == 200
    assert api.ask("GET", "/v1/keys", headers={}, uid=54321).status_code == 403
    assert api.ask("GET", "/v1/keys", headers={"x-api-key": api.tokens["viewer"]}, uid=os.getuid()).status_code == 403
    assert api.ask("GET", "/v1/keys", headers={"x-api-key": "wrong"}, uid=os.getuid()).status_code == 401


def test_a_change_is_made_under_the_name_of_its_token(api: Api, home: GridHome) -> None:
    site = {
        "apiVersion": "gridctl/v1",
        "kind": "Site",
        "metadata": {"name": "de-berlin-01"},
        "spec": {"lat": 52.5, "lon": 13.4, "country": "DE", "tier": "edge"},
    }
    dry = api.ask("POST", "/v1/resources/plan", "viewer", json={"resources": [site]})
    assert [item["action"] for item in dry.json()["items"]] == ["create"]
    done = api.ask("POST", "/v1/resources/apply", "operator", json={"resources": [site], "cause": "new site"})
    assert done.status_code == 200
    with Registry.open(home.database) as registry:
        event = registry.events(limit=1)[0]
    assert (event.name, event.actor, event.cause) == ("de-berlin-01", "token operator", "new site")
    stale = {"resources": [site], "expected": [{"kind": "Site", "name": "de-berlin-01", "version": 1}]}
    assert api.ask("POST", "/v1/resources/apply", "operator", json=stale).status_code == 409
    gone = api.ask(
        "POST", "/v1/resources/delete", "operator", json={"keys": [{"kind": "Site", "name": "de-berlin-01"}]}
    )
    assert [item["resource"]["metadata"]["name"] for item in gone.json()["items"]] == ["de-berlin-01"]


def test_what_the_grid_cannot_be_is_refused_with_the_words_of_the_command_line(api: Api, home: GridHome) -> None:
    before = Registry.open(home.database)
    version = before.version()
    before.close()
    gone = api.ask("POST", "/v1/resources/delete", "operator", json={"keys": [{"kind": "Site", "name": "no-oslo-01"}]})
    assert gone.status_code == 422
    problem = gone.json()
    assert problem["kind"] == "input"
    assert problem["exit_code"] == 3
    assert "still in use" in problem["what"]
    with Registry.open(home.database) as registry:
        assert registry.version() == version


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b'{"resources": 1}',
        b'{"resources": [], "surprise": true}',
        b'{"resources": [{"kind": "Nonsense"}]}',
        b'{"resources": [{"kind": "Site", "metadata": {"name": "x"}, "spec": {"lat": 91}}]}',
        b'{"resources": [NaN]}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
    ids=range(12),
)
def test_a_body_that_is_wrong_is_a_problem_with_a_place(api: Api, body: bytes) -> None:
    answer = api.ask("POST", "/v1/resources/apply", "operator", content=body)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["where"] == "body"


def test_bodies_are_limited_in_length_and_kind(api: Api) -> None:
    long = b'{"name": "' + b"a" * LONGEST_SMALL_BODY + b'"}'
    assert api.ask("POST", "/v1/keys", content=long).status_code == 413
    headers = {"x-api-key": api.tokens["admin"], "content-type": "text/plain"}
    assert api.ask("POST", "/v1/keys", headers=headers, content=b"{}").status_code == 415


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/events?limit=-1", 400),
        ("/v1/events?limit=0", 400),
        ("/v1/events?limit=1&limit=2", 400),
        ("/v1/events?limit=1e3", 400),
        ("/v1/events?limit=99999999999999999999999", 400),
        ("/v1/events?colour=red", 400),
        ("/v1/events?name=x", 400),
        ("/v1/events?kind=Nonsense", 400),
        ("/v1/resources?kind=site%00", 400),
        ("/v1/resources/Site/none", 404),
        ("/v1/resources/Site/..%2f..%2fetc", 404),
        ("/v1/requests/" + "a" * 200, 400),
        ("/v1/requests/a%0ab", 400),
    ],
)
def test_parameters_that_are_wrong_are_said_to_be(api: Api, path: str, status: int) -> None:
    answer = api.ask("GET", path, "viewer")
    assert answer.status_code == status
    assert answer.json()["status"] == status


def test_keys_are_made_shown_without_tokens_and_revoked_at_once(api: Api) -> None:
    made = api.ask("POST", "/v1/keys", json={"name": "new", "role": "viewer"})
    assert made.status_code == 201
    token = made.json()["token"]
    api.live.learn_keys(api.live.services.declared().keys)
    assert api.ask("GET", "/v1/status", headers={"x-api-key": token}).status_code == 200
    listed = api.ask("GET", "/v1/keys", "operator")
    assert token not in listed.text
    assert "digest" not in listed.text
    assert api.ask("DELETE", "/v1/keys/new").json()["state"] == "revoked"
    assert api.ask("GET", "/v1/status", headers={"x-api-key": token}).status_code == 401


def test_a_key_that_has_expired_opens_nothing(api: Api, home: GridHome) -> None:
    with Registry.open(home.database) as registry:
        soon = time.time_ns() + 10**9
        _, token = registry.create_key(WantedKey(name="brief", role="admin", expires_ns=soon), cause="test")
        api.live.learn_keys(tuple(registry.access_keys()))
    from gridctl.control.principal import principal_of
    from gridctl.control.problems import DeniedError

    assert principal_of({"x-api-key": token}, None, api.live.keys.get, soon - 1).role == "admin"
    with pytest.raises(DeniedError, match="has expired"):
        principal_of({"x-api-key": token}, None, api.live.keys.get, soon)


def test_stopping_passes_the_grace_on(api: Api) -> None:
    answer = api.ask("POST", "/v1/stop", json={"grace_s": 3.5})
    assert answer.json()["grace_s"] == 3.5
    assert api.stopped == [3.5]
    assert api.ask("POST", "/v1/stop", json={"grace_s": -1}).status_code == 400


def test_metrics_are_text_for_prometheus(api: Api) -> None:
    answer = api.ask("GET", "/metrics", "viewer")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "gridctl_build_info" in answer.text
    openmetrics = {"x-api-key": api.tokens["viewer"], "accept": "application/openmetrics-text"}
    assert api.ask("GET", "/metrics", headers=openmetrics).text.endswith("# EOF\n")


def test_a_failure_of_ours_tells_the_caller_nothing_of_itself(
    api: Api, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(actor: str | None) -> Registry:
        raise ZeroDivisionError("the secret is 42")

    monkeypatch.setattr(api.live.services, "open_registry", broken)
    answer = api.ask("GET", "/v1/version", "viewer")
    assert answer.status_code == 500
    assert "42" not in answer.text
    assert "the secret is 42" in capfd.readouterr().err


# ── its document ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_document_names_every_route_once_and_no_other(api: Api) -> None:
    document = api.ask("GET", "/openapi.json", "viewer").json()
    told = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert told == {(route.method, route.path) for route in ROUTES}
    names = [operation["operationId"] for methods in document["paths"].values() for operation in methods.values()]
    assert len(set(names)) == len(names)
    roles = {(m.upper(), p): o["x-role"] for p, ms in document["paths"].items() for m, o in ms.items()}
    assert roles == {(route.method, route.path): route.role for route in ROUTES}


def test_every_reference_of_the_document_leads_somewhere(api: Api) -> None:
    document = api.ask("GET", "/openapi.json", "viewer").json()
    found: list[str] = []

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            found.extend([value["$ref"]] if isinstance(value.get("$ref"), str) else [])
            for item in value.values():
                walk(item)
        elif isinstance(value, list):
            for item in value:
                walk(item)

    walk(document)
    assert found
    for reference in set(found):
        here: Any = document
        for step in reference.removeprefix("#/").split("/"):
            here = here[step]


@pytest.mark.parametrize(
    "path",
    [
        "/v1/health",
        "/v1/sites",
        "/v1/sites/fr-paris-01",
        "/v1/top",
        "/v1/status",
        "/v1/version",
        "/v1/resources",
        "/v1/resources/Cluster/paris-gpu",
        "/v1/events",
        "/v1/keys",
    ],
)
def test_answers_are_what_the_document_says(api: Api, path: str) -> None:
    document = api.ask("GET", "/openapi.json").json()
    template = path.replace("Cluster/paris-gpu", "{kind}/{name}").replace("fr-paris-01", "{name}")
    content = document["paths"][template]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    schema = {**content, "components": document["components"]}
    answer = api.ask("GET", path)
    assert answer.status_code == 200
    jsonschema.Draft202012Validator(schema).validate(json.loads(answer.text))


def test_problems_are_what_the_document_says(api: Api) -> None:
    document = api.ask("GET", "/openapi.json").json()
    content = document["components"]["responses"]["Problem"]["content"]["application/problem+json"]["schema"]
    validator = jsonschema.Draft202012Validator({**content, "components": document["components"]})
    for role, method, path in (
        ("nobody", "GET", "/v1/status"),
        ("viewer", "GET", "/v1/keys"),
        ("viewer", "PUT", "/v1/status"),
        ("viewer", "GET", "/nowhere"),
        ("operator", "POST", "/v1/resources/apply"),
    ):
        wrong = [error.message for error in validator.iter_errors(json.loads(api.ask(method, path, role).text))]
        assert wrong == []
