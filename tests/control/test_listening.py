"""Addresses: how they are read, what each demands, and what may not be taken from others."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from gridctl.broker.plan import Settings
from gridctl.control.listening import Address, open_listener, parse_address
from gridctl.control.order import Order, Tls, check_order
from gridctl.errors import InputError, UsageError


@pytest.mark.parametrize(
    ("text", "address", "url"),
    [
        ("127.0.0.1:8080", Address("127.0.0.1", 8080), "http://127.0.0.1:8080"),
        ("8080", Address("127.0.0.1", 8080), "http://127.0.0.1:8080"),
        (":0", Address("127.0.0.1", 0), "http://127.0.0.1:0"),
        ("[::1]:8080", Address("::1", 8080), "http://[::1]:8080"),
        ("grid.example:65535", Address("grid.example", 65535), "http://grid.example:65535"),
        ("unix:/run/grid.sock", Address(path="/run/grid.sock"), "unix:/run/grid.sock"),
    ],
)
def test_addresses_are_read_as_people_write_them(text: str, address: Address, url: str) -> None:
    assert parse_address(text, "--listen") == address
    assert address.url() == url


@pytest.mark.parametrize(
    "text",
    ["", "localhost", "::1:8080", "1.2.3.4:65536", "1.2.3.4:-1", "http://x:1", "a b:1", "unix:", "x:1/y", "x:1\n"],
)
def test_what_is_no_address_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_address(text, "--listen")
    assert caught.value.where == "--listen"


def test_a_path_too_long_for_a_socket_is_refused() -> None:
    with pytest.raises(UsageError, match="no path for a Unix socket"):
        parse_address("unix:/" + "a" * 110, "--listen")


@pytest.mark.parametrize(
    ("host", "is_private"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.example", False),
        ("127.0.0.1.example", False),
    ],
)
def test_only_loopback_is_private(host: str, is_private: bool) -> None:
    assert Address(host, 1).is_private is is_private


def test_port_0_is_any_that_is_free_and_is_told() -> None:
    listener, address = open_listener(Address("127.0.0.1", 0), "--listen")
    with listener:
        assert address.port == listener.getsockname()[1] != 0


def test_a_socket_is_its_owners_alone_and_a_stale_one_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    first, _ = open_listener(Address(path=str(path)), "--admin")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(InputError, match="another process listens"):
        open_listener(Address(path=str(path)), "--admin")
    first.close()  # its file stays, as after kill -9
    second, _ = open_listener(Address(path=str(path)), "--admin")
    second.close()


def test_a_file_in_the_place_of_a_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("precious")
    with pytest.raises(InputError, match="no socket"):
        open_listener(Address(path=str(path)), "--admin")
    assert path.read_text() == "precious"


def test_a_foreign_address_is_said_to_be_none_of_this_machines() -> None:
    with pytest.raises(InputError, match="no address of this machine"):
        open_listener(Address("192.0.2.1", 0), "--listen")  # TEST-NET-1, RFC 5737


OPEN = Address("0.0.0.0", 8443)
LOOPBACK = Address("127.0.0.1", 8080)


def order(**fields: object) -> Order:
    settings = Settings(anonymous=bool(fields.pop("anonymous", False)))
    return Order(database=Path("/x"), grid="g", settings=settings, **{"listen": LOOPBACK, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "keys", "words"),
    [
        ({"listen": OPEN}, 1, "unencrypted"),
        ({"listen": OPEN, "anonymous": True}, 1, "unencrypted"),
        ({"anonymous": False}, 0, "every caller needs a key"),
        ({"anonymous": True, "admin": OPEN}, 0, "admin API would be open"),
        ({"anonymous": True, "workers": 0}, 0, "0 workers"),
        ({"anonymous": True, "workers": 1000}, 0, "1000 workers"),
        ({"anonymous": True, "backends": 0}, 0, "room for 0"),
        ({"anonymous": True, "grace_s": float("inf")}, 0, "grace"),
        ({"anonymous": True, "tls": Tls(Path("/no/cert"), Path("/no/key"))}, 0, "cannot be read"),
    ],
    ids=range(9),
)
def test_what_is_not_safe_or_makes_no_sense_does_not_start(fields: dict[str, object], keys: int, words: str) -> None:
    with pytest.raises((InputError, UsageError), match=words):
        check_order(order(**fields), keys)


def test_insecure_is_taken_at_its_word() -> None:
    check_order(order(listen=OPEN, insecure=True, anonymous=True), 0)
    check_order(order(anonymous=True), 0)
    check_order(order(anonymous=False), 1)


def test_files_that_are_no_certificate_are_refused(tmp_path: Path) -> None:
    for name in ("cert", "key"):
        (tmp_path / name).write_text("-----BEGIN NONSENSE-----")
    with pytest.raises(InputError, match="cannot be used"):
        check_order(order(tls=Tls(tmp_path / "cert", tmp_path / "key"), anonymous=True), 0)


def test_the_umask_is_what_it_was(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        listener, _ = open_listener(Address(path=str(tmp_path / "s")), "--admin")
        listener.close()
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)


def test_listeners_are_not_inherited_unless_handed_over() -> None:
    listener, _ = open_listener(Address("127.0.0.1", 0), "--listen")
    with listener:
        assert not listener.get_inheritable()
        assert listener.type == socket.SOCK_STREAM
