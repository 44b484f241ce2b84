"""Which hosts are this machine: RFC 1122 (127.0.0.0/8), RFC 4291 (::1), RFC 6761 (localhost), and nothing like them."""

from __future__ import annotations

import pytest

from gridctl.resources.hosts import is_loopback


@pytest.mark.parametrize(
    "host", ["localhost", "LocalHost", "127.0.0.1", "127.255.255.254", "::1", "[::1]", "::1%lo", "0:0:0:0:0:0:0:1"]
)
def test_this_machine_by_any_of_its_names(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "localhost.example",
        "127.0.0.1.example",
        "notlocalhost",
        "0.0.0.0",  # every address of this machine, which others reach
        "::",
        "128.0.0.1",
        "10.0.0.1",
        "fe80::1%lo",
        "127.1",  # resolvers read it as 127.0.0.1, others as a name
        "2130706433",
        "0x7f000001",
        "[::1].example",
    ],
)
def test_anything_else_may_be_elsewhere(host: str) -> None:
    assert not is_loopback(host)
