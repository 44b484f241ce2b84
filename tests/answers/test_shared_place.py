"""Where the shared tier may be, and what will do as its key."""

from __future__ import annotations

from pathlib import Path

import pytest

from gridctl.answers.shared_place import PASSWORD_VARIABLE, derived, keys_of, place_of
from gridctl.errors import InputError, UsageError

PASSWORD = {PASSWORD_VARIABLE: "hunter2"}


@pytest.mark.parametrize(
    ("url", "name", "is_tls"),
    [
        ("redis://127.0.0.1", "redis://127.0.0.1:6379/0", False),
        ("valkey://cache.example:7000/3", "redis://cache.example:7000/3", False),
        ("rediss://me@cache.example", "rediss://cache.example:6379/0", True),
        ("valkeys://[::1]:6380", "rediss://[::1]:6380/0", True),
        ("unix:///run/valkey.sock?db=2", "unix:///run/valkey.sock", False),
    ],
)
def test_servers_are_named_by_url_and_told_of_without_their_user(url: str, name: str, is_tls: bool) -> None:
    place = place_of(url, {})
    assert (place.name, place.is_tls, place.budget_ms) == (name, is_tls, 5.0)


@pytest.mark.parametrize(
    "url",
    [
        "", "cache.example", "http://cache.example", "redis://", "redis://h:0x1", "redis://h:99999", "redis://h/one",
        "redis://h/-1", "redis://h/99999", "redis://h?ssl_cert_reqs=none", "redis://h?db=1", "redis://h#x", "redis://h?x",
        "unix://run/valkey.sock", "unix:relative", "unix:///s?ca=/etc/hosts", "redis://h?ca=/etc/hosts",
        "rediss://h?ca=/no/such/file", "redis://h?budget_ms=0", "redis://h?budget_ms=1001", "redis://h?budget_ms=nan",
        "redis://h?budget_ms=5&budget_ms=6", "redis://:secret@h", "redis://me:secret@127.0.0.1", "redis://[::1", "\0",
    ],
)  # fmt: skip
def test_what_names_no_server_or_not_safely_is_refused_without_repeating_a_password(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        place_of(url, {})
    assert "secret" not in f"{caught.value.what}{caught.value.fix}"


def test_a_password_comes_from_the_environment_and_never_crosses_a_network_in_the_clear() -> None:
    assert place_of("rediss://me@cache.example", PASSWORD).password == "hunter2"
    assert place_of("redis://localhost", PASSWORD).password == "hunter2"
    assert place_of("redis://127.0.0.9", PASSWORD).password == "hunter2"
    assert place_of("unix:///run/s", PASSWORD).password == "hunter2"
    assert "hunter2" not in place_of("rediss://me@cache.example", PASSWORD).name
    for url in ("redis://cache.example", "valkey://10.0.0.1", "redis://localhost.example"):
        with pytest.raises(UsageError, match="in the clear"):
            place_of(url, PASSWORD)


def test_a_key_file_is_its_owners_alone_long_enough_and_drawn(tmp_path: Path) -> None:
    path = tmp_path / "key"

    def write(data: bytes, mode: int = 0o600) -> None:
        path.unlink(missing_ok=True)
        path.write_bytes(data)
        path.chmod(mode)

    with pytest.raises(InputError, match="cannot be read"):
        keys_of(path)
    good = b"0123456789abcdef" * 4 + b"\n"
    for mode in (0o640, 0o604, 0o660, 0o620):
        write(good, mode)
        with pytest.raises(InputError, match="others can read it"):
            keys_of(path)
    for data in (b"", b"short", b"\n" * 64, b"a" * 64, b"abcdefg" * 9, good * 100):
        write(data)
        with pytest.raises(InputError, match="no key"):
            keys_of(path)
    write(good)
    assert keys_of(path) == derived(good.strip())
    write(good.strip(), 0o400)
    assert keys_of(path) == derived(good.strip()), "an editor's line end makes no other key"


def test_keys_of_different_purposes_and_files_have_nothing_in_common() -> None:
    one, other = derived(bytes(range(32))), derived(bytes(range(1, 33)))
    found = [one.questions, one.names, one.sealing, other.questions, other.names, other.sealing]
    assert len(set(found)) == 6
    assert {len(key) for key in found} == {32}
    assert one.prefix != other.prefix
    assert one.prefix.startswith("gridctl:")
