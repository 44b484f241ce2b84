"""Where a load goes: addresses read, endpoints asked once, and every refusal with what to do about it."""

from __future__ import annotations

import pytest

from gridctl.errors import InputError, NotFoundError, UnreachableError
from gridctl.liveload.target import Target, model_for, models_at, target_of


@pytest.mark.parametrize(
    ("url", "host", "port", "path", "authority"),
    [
        ("http://h:8000", "h", 8000, "", "h:8000"),
        ("http://h", "h", 80, "", "h"),
        ("https://h/", "h", 443, "", "h"),
        ("http://h:8000/v1", "h", 8000, "", "h:8000"),
        ("http://h:8000/v1/chat/completions", "h", 8000, "", "h:8000"),
        ("http://h:8000/grid/v1/", "h", 8000, "/grid", "h:8000"),
        ("http://[::1]:8000", "::1", 8000, "", "[::1]:8000"),
    ],
)
def test_addresses_are_read(url: str, host: str, port: int, path: str, authority: str) -> None:
    target = target_of(url)
    assert (target.host, target.port, target.path, target.authority) == (host, port, path, authority)
    assert target.is_tls == url.startswith("https")


def test_a_unix_socket_is_an_address() -> None:
    target = target_of("unix:/run/grid.sock")
    assert (target.socket_path, target.authority, target.base) == ("/run/grid.sock", "localhost", "http://localhost")


@pytest.mark.parametrize("url", ["", "h:8000", "ftp://h", "http://", "http://h:99999", "http://h:0", "unix:", "//h",
                                 "http://user:secret@h", "http://\x00"])  # fmt: skip
def test_what_is_no_address_is_refused_without_its_secrets(url: str) -> None:
    with pytest.raises(InputError) as caught:
        target_of(url)
    assert caught.value.fix
    assert "secret" not in f"{caught.value.what} {caught.value.where}"


@pytest.mark.parametrize("key", ["", " k", "k\n", "ké", "a\x00"])
def test_a_key_no_header_can_hold_is_refused(key: str) -> None:
    with pytest.raises(InputError, match="API key"):
        target_of("http://h", key)


def test_the_key_is_in_no_text() -> None:
    assert "hush" not in repr(target_of("http://h", "hush"))


def test_nobody_listening_is_said_before_any_load() -> None:
    with pytest.raises(UnreachableError) as caught:
        models_at(Target("http://127.0.0.1:1", "127.0.0.1", 1))
    assert caught.value.exit_code == 5
    assert "gridctl up" in str(caught.value.fix)


@pytest.mark.parametrize(
    ("asked", "said", "workload", "served", "name"),
    [
        ("x", "y", "w", ("x", "y"), "x"),
        (None, "y", "w", ("x", "y"), "y"),
        (None, None, "w", ("x", "workload:w"), "workload:w"),
        (None, None, "w", ("x",), "x"),
        ("x", None, None, (), "x"),
        (None, "y", None, (), "y"),
    ],
)
def test_which_model_is_asked_for(
    asked: str | None, said: str | None, workload: str | None, served: tuple[str, ...], name: str
) -> None:
    assert model_for(asked, said, workload, served, "here") == name


@pytest.mark.parametrize(
    ("asked", "said", "served", "hint"),
    [
        (None, None, ("x", "y"), "it has x, y"),
        (None, None, (), "--model NAME"),
        ("lama", None, ("llama", "b"), "did you mean --model llama?"),
        (None, "other", ("x",), "it has x"),
    ],
)
def test_a_model_that_is_not_served_is_told_with_those_that_are(
    asked: str | None, said: str | None, served: tuple[str, ...], hint: str
) -> None:
    with pytest.raises(NotFoundError) as caught:
        model_for(asked, said, None, served, "here")
    assert hint in str(caught.value.fix)
