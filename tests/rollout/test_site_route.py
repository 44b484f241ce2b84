"""The route that agents speak to: who may, what is answered, and that the orchestrator's word is signed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from gridctl.control.admin import admin_app
from gridctl.control.live_routes import ROUTES
from gridctl.control.rollouts import Rollouts
from gridctl.registry import AccessKey
from gridctl.registry.keys import digest_of
from gridctl.resources import Cluster, Model, Site
from gridctl.rollout.protocol import Desired
from gridctl.rollout.releasekey import is_signed_by

DIGEST = "sha256:" + "a" * 64
OLD = {"digest": "sha256:" + "b" * 64, "variant": "bf16", "counter": 1}


def _resources() -> tuple[Any, ...]:
    shape = {
        "layers": 2, "hidden_size": 64, "heads": 4, "kv_heads": 2, "head_dim": 16, "intermediate_size": 128,
        "vocab_size": 1000,
    }  # fmt: skip
    variants = [{"name": "bf16", "quality": 0.6}, {"name": "fp8", "quality": 0.6}]
    found: list[Any] = [
        msgspec.convert({"metadata": {"name": "tiny"}, "spec": {"architecture": shape, "variants": variants}}, Model)
    ]
    for name, country in (("fr-paris-01", "FR"), ("no-oslo-01", "NO")):
        place = {"lat": 48.0, "lon": 2.0, "country": country, "tier": "edge"}
        found.append(msgspec.convert({"metadata": {"name": name}, "spec": place}, Site))
        spec = {"site": name, "gpu": "l4", "gpus": 1, "deployments": [{"variant": "tiny/bf16"}]}
        found.append(msgspec.convert({"metadata": {"name": f"{name}-gpu"}, "spec": spec}, Cluster))
    return tuple(found)


class _Plan:
    resources = _resources()


class _Live:
    """As much of a running orchestrator as these routes look at."""

    plan = _Plan()
    data_url = "http://127.0.0.1:1"
    renew_keys = None

    def __init__(self, rollouts: Rollouts) -> None:
        self.rollouts = rollouts
        self.keys: dict[str, AccessKey] = {}


def _key(name: str, role: str, token: str, site: str | None = None) -> AccessKey:
    return AccessKey(
        name=name, digest=digest_of(token), role=role, tenant="default", workload=None, created_ns=0, created_by="test",
        expires_ns=None, revoked_ns=None, site=site,
    )  # type: ignore[arg-type]  # fmt: skip


TOKENS = {"paris": "gridctl_paris", "oslo": "gridctl_oslo", "operator": "gridctl_operator", "admin": "gridctl_admin"}
Ask = Callable[..., httpx.Response]


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """One call after the other, all over one store."""

    def asked(*calls: tuple[str, str, str, Any], headers: dict[str, str] | None = None) -> httpx.Response:
        async def run() -> httpx.Response:
            live = _Live(Rollouts(tmp_path, print))
            keys = [
                _key("paris", "agent", TOKENS["paris"], "fr-paris-01"),
                _key("oslo", "agent", TOKENS["oslo"], "no-oslo-01"),
                _key("operator", "operator", TOKENS["operator"]),
                _key("admin", "admin", TOKENS["admin"]),
            ]
            live.keys = {key.digest: key for key in keys}
            app = admin_app(live, ROUTES)  # type: ignore[arg-type]
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://orchestrator") as client:
                for who, method, path, body in calls:
                    given = {"x-api-key": TOKENS[who], **(headers or {})}
                    answer = await client.request(method, path, json=body, headers=given)
            await live.rollouts.close()
            return answer

        return asyncio.run(run())

    return asked


def _report(seq: int = 1, generation: int = 0, **actual: Any) -> dict[str, Any]:
    return {"boot_id": "boot", "seq": seq, "generation": generation, "actual": [{"model": "tiny", **actual}]}


START = {
    "name": "r",
    "model": "tiny",
    "variant": "fp8",
    "reference": "registry.example.com/tiny:v2",
    "digest": DIGEST,
    "waves": [["fr-paris-01"]],
}


def test_an_agent_is_told_the_whole_desired_state_of_its_site_signed(ask: Ask) -> None:
    answer = ask(
        ("operator", "POST", "/v1/rollouts", START),
        ("paris", "POST", "/v1/sites/fr-paris-01/sync", _report(committed=OLD)),
    )
    desired = msgspec.json.decode(answer.content, type=Desired)
    (wanted,) = desired.wanted
    assert (desired.site, wanted.model, wanted.mode) == ("fr-paris-01", "tiny", "stage")
    assert wanted.reference == f"registry.example.com/tiny@{DIGEST}"
    assert (wanted.version.digest, wanted.version.variant) == (DIGEST, "fp8")
    pem = ask(("operator", "GET", "/v1/release-key", None)).json()["pem"]
    assert is_signed_by(desired, pem)
    assert not is_signed_by(msgspec.structs.replace(desired, counter=desired.counter + 1), pem)


def test_a_site_speaks_for_itself_only_and_no_other_role_for_any(ask: Ask) -> None:
    path = "/v1/sites/fr-paris-01/sync"
    assert ask(("paris", "POST", path, _report())).status_code == 200
    for who in ("oslo", "operator", "admin"):
        assert ask((who, "POST", path, _report())).status_code == 403
    assert ask(("paris", "GET", "/v1/status", None)).status_code == 403
    assert ask(("paris", "GET", "/v1/rollouts", None)).status_code == 403


def test_what_an_agent_has_already_is_not_sent_again(ask: Ask) -> None:
    path = "/v1/sites/fr-paris-01/sync"
    first = ask(("paris", "POST", path, _report()))
    again = ask(("paris", "POST", path, _report(seq=2)), headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "tinny"}, "no model tinny"),
        ({"variant": "int4"}, "no variant int4"),
        ({"waves": [["fr-pari-01"]]}, "no site fr-pari-01"),
        ({"waves": [["fr-paris-01"], ["fr-paris-01"]]}, "two waves"),
        ({"waves": [["fr-paris-01"], []]}, "no sites"),
        ({"settings": {"max_unavailable": 2}}, "between 0 and 1"),
        ({"settings": {"limits": {"min_samples": 0}}}, "pass by being idle"),
        ({"digest": "sha256:12"}, "body"),
    ],
)
def test_a_rollout_that_cannot_be_is_refused_before_it_begins(ask: Ask, change: dict[str, Any], words: str) -> None:
    answer = ask(("operator", "POST", "/v1/rollouts", {**START, **change}))
    assert answer.status_code == 422
    assert words in answer.text
    assert ask(("operator", "GET", "/v1/rollouts", None)).json() == {"items": []}


def test_a_second_rollout_of_the_model_at_a_site_waits_for_the_first(ask: Ask) -> None:
    calls = [("operator", "POST", "/v1/rollouts", {**START, "name": name}) for name in ("one", "two")]
    answer = ask(*calls)
    assert answer.status_code == 409
    assert "rollout one of tiny is planned at fr-paris-01" in answer.json()["what"]


def test_hostile_reports_are_refused_whole(ask: Ask) -> None:
    path = "/v1/sites/fr-paris-01/sync"
    for body in (
        {"boot_id": "", "seq": 1},
        {"boot_id": "b", "seq": -1},
        {"boot_id": "b", "seq": 1, "actual": [{"model": "tiny", "committed": {**OLD, "digest": "sha256:../../x"}}]},
        {"boot_id": "b", "seq": 1, "disk_free_bytes": 2**70},
        {"boot_id": "b", "seq": 1, "errors": ["x" * 3000]},
    ):
        assert ask(("paris", "POST", path, body)).status_code == 422, body
    assert ask(("paris", "POST", "/v1/sites/nowhere/sync", _report())).status_code == 403


def test_the_word_of_a_site_reaches_the_registry_once_and_only_its_last(tmp_path: Path) -> None:
    from gridctl.rollout.protocol import Actual, Report, Version
    from gridctl.rollout.store import RolloutStore

    store = RolloutStore.open(tmp_path)

    def says(seq: int, variant: str) -> None:
        version = Version(DIGEST if variant == "fp8" else OLD["digest"], variant, seq)  # type: ignore[arg-type]
        store.report("a", Report(boot_id="b", seq=seq, actual=(Actual(model="m", committed=version),)), 1000.0 + seq)

    says(1, "bf16")
    says(2, "bf16")
    assert [told.variant for told in store.declarations()] == ["bf16"]
    says(3, "fp8")
    assert [told.variant for told in store.declarations()] == ["fp8"]
    says(4, "bf16")
    assert [told.variant for told in store.declarations()] == ["bf16"]
    store.close()
    again = RolloutStore.open(tmp_path)
    (told,) = again.declarations()
    again.declared(told.number)
    assert again.declarations() == []
    again.close()
