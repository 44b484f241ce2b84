"""Endpoints: addresses, what a request says, and what refusals become."""

from __future__ import annotations

import pytest

from gridctl.errors import GridctlError, InputError, NotFoundError, UnreachableError
from gridctl.profiling.endpoint import DIALECTS, Dialect, Endpoint, RefusedError, refusal


@pytest.mark.parametrize(
    ("given", "base"),
    [
        ("http://10.0.0.7:8000", "http://10.0.0.7:8000/v1"),
        ("http://10.0.0.7:8000/", "http://10.0.0.7:8000/v1"),
        ("https://engine.example/v1", "https://engine.example/v1"),
        ("https://engine.example/v1/chat/completions", "https://engine.example/v1"),
        ("https://engine.example/v1/completions?x=1", "https://engine.example/v1"),
        ("https://proxy.example/team-a/v1/", "https://proxy.example/team-a/v1"),
    ],
)
def test_every_spelling_of_an_address_ends_in_v1(given: str, base: str) -> None:
    assert Endpoint(given, "m").base == base


@pytest.mark.parametrize(
    "given", ["", "http://x:99999", "engine:8000", "ftp://engine", "http://", "http://[::", "file:///etc/passwd"]
)
def test_what_is_no_http_address_is_refused(given: str) -> None:
    with pytest.raises(InputError):
        _ = Endpoint(given, "m").base


def test_credentials_in_the_address_are_refused_and_not_repeated() -> None:
    with pytest.raises(InputError) as caught:
        _ = Endpoint("https://user:hunter2@engine.example", "m").base
    assert "hunter2" not in f"{caught.value.what} {caught.value.where} {caught.value.fix}"


def test_the_api_key_is_not_in_what_an_endpoint_prints() -> None:
    assert "sk-secret" not in repr(Endpoint("http://x", "m", api_key="sk-secret"))


@pytest.mark.parametrize("key", ["", "sk-1\n", "sk 1\r\nhost: evil", "schlüssel", "\x00"])
def test_a_key_that_no_header_can_hold_is_refused_unseen(key: str) -> None:
    with pytest.raises(InputError) as caught:
        _ = Endpoint("http://x", "m", api_key=key).authorization
    assert key == "" or key not in f"{caught.value.what} {caught.value.where} {caught.value.fix}"


def test_a_key_over_http_is_in_the_clear_except_on_this_machine() -> None:
    assert Endpoint("http://10.0.0.7", "m", api_key="k").is_key_in_the_clear
    assert not Endpoint("http://10.0.0.7", "m").is_key_in_the_clear
    assert not Endpoint("https://10.0.0.7", "m", api_key="k").is_key_in_the_clear
    assert not Endpoint("http://127.0.0.1", "m", api_key="k").is_key_in_the_clear
    assert not Endpoint("http://localhost", "m", api_key="k").is_key_in_the_clear


def test_the_first_dialect_fixes_the_output_length_and_asks_for_usage() -> None:
    body = DIALECTS[0].body("m", "one two", 33)
    assert body["max_tokens"] == body["min_tokens"] == 33
    assert body["ignore_eos"] is True
    assert body["stream"] is True
    assert body["stream_options"] == {"include_usage": True}


def test_the_last_dialect_says_only_what_every_engine_knows() -> None:
    assert DIALECTS[-1] == Dialect("/chat/completions", ())
    assert set(DIALECTS[-1].body("m", "x", 9)) == {"model", "messages", "max_tokens", "temperature", "stream"}


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (401, InputError, 3),
        (403, InputError, 3),
        (404, NotFoundError, 4),
        (422, InputError, 3),
        (307, InputError, 3),
        (429, UnreachableError, 5),
        (500, UnreachableError, 5),
        (503, UnreachableError, 5),
    ],
)
def test_a_refusal_becomes_the_error_of_its_status_in_the_engines_words(
    status: int, kind: type[GridctlError], code: int
) -> None:
    error = refusal(RefusedError(status, "the reason"), Endpoint("http://x:1", "m"), ("m",))
    assert type(error) is kind
    assert error.exit_code == code
    assert f"{status}: the reason" in error.what
    assert error.fix


def test_an_unknown_model_is_answered_with_those_the_endpoint_has() -> None:
    error = refusal(RefusedError(404, "no"), Endpoint("http://x:1", "lama-8b"), ("qwen-30b", "llama-8b"))
    assert error.fix == "--model llama-8b; it has qwen-30b, llama-8b"
    # engines that call a foreign model a bad request
    assert isinstance(refusal(RefusedError(400, "no"), Endpoint("http://x:1", "q"), ("llama-8b",)), NotFoundError)
