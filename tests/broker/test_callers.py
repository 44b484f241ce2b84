"""Who asks, for which workload and model: keys, roles, tenants; refused unless it is allowed."""

from __future__ import annotations

import time

import pytest
from livegrids import Request, broker_of, chat, grid, model, workload

from gridctl.broker.ask import Principal
from gridctl.broker.keys import Keyring, digest_of
from gridctl.broker.plan import Key, Settings
from gridctl.broker.refusal import Refusal
from gridctl.resources import Resource

TOKEN = "gk-" + "7" * 43
CLOCK_S = 1_000_000.0


def _ring(*keys: Key, anonymous: bool = False) -> Keyring:
    return Keyring(keys, Settings(anonymous=anonymous), lambda: CLOCK_S)


def _key(**given: object) -> Key:
    known = {"digest": digest_of(TOKEN), "name": "ci", "tenant": "acme", **given}
    return Key(**known)  # type: ignore[arg-type]


def test_a_digest_is_sha256_as_the_standard_says() -> None:
    # FIPS 180-2, appendix B.1
    assert digest_of("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize(
    "headers",
    [
        {b"authorization": b"Bearer " + TOKEN.encode()},
        {b"authorization": b"bearer  " + TOKEN.encode() + b" "},
        {b"x-api-key": TOKEN.encode()},
        {b"authorization": b"Bearer " + TOKEN.encode(), b"x-api-key": TOKEN.encode()},
    ],
)
def test_one_key_is_one_caller_whatever_header_carries_it(headers: dict[bytes, bytes]) -> None:
    assert _ring(_key()).principal(headers) == Principal("ci", "client", "acme", None)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {b"authorization": b""},
        {b"authorization": b"Basic " + TOKEN.encode()},
        {b"authorization": TOKEN.encode()},
        {b"authorization": b"Bearer "},
        {b"authorization": b"Bearer " + TOKEN.encode() + b"x"},
        {b"authorization": b"Bearer " + b"x" * 100_000},
        {b"authorization": b"Bearer \xff\xfe\x00"},
        {b"x-api-key": b"' OR 1=1 --"},
        {b"authorization": b"Bearer " + TOKEN.encode(), b"x-api-key": b"another"},
        {b"authorization": b"Bearer another", b"x-api-key": TOKEN.encode()},
    ],
    ids=lambda headers: repr(headers)[:50],
)
def test_anything_else_is_nobody(headers: dict[bytes, bytes]) -> None:
    for ring in (_ring(_key()), _ring()):
        with pytest.raises(Refusal) as caught:
            ring.principal(headers)
        assert (caught.value.status, caught.value.reason) == (401, "unauthorized")


def test_a_key_ends_at_its_second() -> None:
    headers = {b"x-api-key": TOKEN.encode()}
    assert _ring(_key(expires_unix_s=int(CLOCK_S) + 1)).principal(headers).name == "ci"
    with pytest.raises(Refusal, match="expired"):
        _ring(_key(expires_unix_s=int(CLOCK_S))).principal(headers)


@pytest.mark.parametrize(("role", "may"), [("client", True), ("operator", True), ("admin", True), ("viewer", False)])
def test_a_viewer_may_look_and_not_ask(role: str, may: bool) -> None:
    ring = _ring(_key(role=role))
    if may:
        assert ring.principal({b"x-api-key": TOKEN.encode()}).role == role
        return
    with pytest.raises(Refusal) as caught:
        ring.principal({b"x-api-key": TOKEN.encode()})
    assert caught.value.status == 403


def test_any_token_will_do_where_nobody_needs_one_and_none_exists() -> None:
    ring = _ring(anonymous=True)
    assert ring.principal({b"authorization": b"Bearer EMPTY"}).name == "anonymous"
    assert ring.principal({}).name == "anonymous"


def test_a_wrong_key_is_refused_even_where_none_is_needed() -> None:
    ring = _ring(_key(), anonymous=True)
    assert ring.principal({}).name == "anonymous"
    with pytest.raises(Refusal):
        ring.principal({b"authorization": b"Bearer EMPTY"})


def _grid() -> list[Resource]:
    return grid(
        model(variants=("bf16", "fp8")),
        workload("chat"),
        workload("secret", tenants=("spies",)),
        workload("batch", tenants=("acme", "spies")),
    )


def _meant(headers: dict[bytes, bytes], asked: str = "llama", **given: object) -> tuple[str, str | None, str | None]:
    broker, _ = broker_of(_grid(), **given)  # type: ignore[arg-type]
    ask = broker.ask(Request(headers), chat().replace(b'"llama"', f'"{asked}"'.encode()), 0)
    assert ask.group is not None
    return ask.group.meant


def test_a_workload_is_taken_from_the_header_the_alias_or_the_key() -> None:
    key = _key(workload="batch")
    assert _meant({b"x-gridctl-workload": b"batch"}) == ("batch", "llama", None)
    assert _meant({}, "workload:chat") == ("chat", None, None)
    assert _meant({b"x-api-key": TOKEN.encode()}, keys=[key]) == ("batch", "llama", None)
    assert _meant({}, default_workload="chat") == ("chat", "llama", None)


def test_a_variant_can_be_pinned() -> None:
    assert _meant({b"x-gridctl-workload": b"chat"}, "llama/bf16") == ("chat", "llama", "bf16")


@pytest.mark.parametrize(
    ("headers", "asked", "status", "code"),
    [
        ({}, "llama", 400, "ambiguous_workload"),
        ({b"x-gridctl-workload": b"secret"}, "llama", 403, "unknown_workload"),
        ({b"x-gridctl-workload": b"nothing"}, "llama", 403, "unknown_workload"),
        ({b"x-gridctl-workload": b"chat"}, "workload:batch", 403, "unknown-workload"),
        ({}, "workload:secret", 404, "model_not_found"),
        ({b"x-gridctl-workload": b"chat"}, "gpt-9", 404, "model_not_found"),
        ({b"x-gridctl-workload": b"chat"}, "llama/int3", 404, "model_not_found"),
        ({b"x-gridctl-workload": b"chat"}, "llama/", 404, "model_not_found"),
        ({b"x-gridctl-workload": b"chat"}, "../llama", 404, "model_not_found"),
        ({b"x-api-key": TOKEN.encode(), b"x-gridctl-workload": b"chat"}, "llama", 403, "unknown-workload"),
    ],
)
def test_what_a_caller_may_not_have_is_refused(headers: dict[bytes, bytes], asked: str, status: int, code: str) -> None:
    with pytest.raises(Refusal) as caught:
        _meant(headers, asked, keys=[_key(workload="batch")])
    assert (caught.value.status, caught.value.code) == (status, code)
    assert "spies" not in caught.value.message
    assert "secret" not in caught.value.message or "secret" in asked + str(headers)


def test_a_caller_is_offered_what_it_may_have_and_what_runs() -> None:
    broker, _ = broker_of(_grid())
    named = [entry["id"] for entry in broker.models(Principal("a", "client", "acme"))]
    assert named == ["llama", "llama/bf16", "workload:chat", "workload:batch"]
    assert broker.models(Principal("a", "client", "nobody")) == []
    bound = [entry["id"] for entry in broker.models(Principal("a", "client", "acme", "batch"))]
    assert bound == ["llama", "llama/bf16", "workload:batch"]


def test_heads_that_share_their_headers_are_still_of_different_callers() -> None:
    headers = {b"x-gridctl-workload": b"chat"}
    broker, _ = broker_of(grid(), address_map=(("10.0.0.0/8", "paris"), ("11.0.0.0/8", "zurich")))
    for peer, origin in (("10.1.1.1", "paris"), ("11.1.1.1", "zurich"), ("10.1.1.1", "paris")):
        assert broker.ask(Request(headers, peer=peer), chat(), 0).origin == origin


def test_a_key_that_expires_is_asked_for_again_whatever_is_remembered_of_its_head() -> None:
    headers = {b"authorization": b"Bearer " + TOKEN.encode()}
    ends = int(time.time()) + 3600
    broker, _ = broker_of(grid(), keys=(_key(expires_unix_s=ends),))
    assert broker.ask(Request(headers), chat(), 0).principal.name == "ci"
    broker._reception._keyring._unix_s = lambda: float(ends)
    with pytest.raises(Refusal, match="expired"):
        broker.ask(Request(headers), chat(), 0)
