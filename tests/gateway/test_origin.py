"""Where the gateway will not connect to, however it is spelt."""

from __future__ import annotations

import pytest

from gridctl.errors import InputError
from gridctl.gateway.origin import check_address, parse_origin


@pytest.mark.parametrize(
    ("url", "name", "prefix", "port"),
    [
        ("http://10.0.0.7:8000", "10.0.0.7:8000", "", 8000),
        ("http://10.0.0.7:8000/v1", "10.0.0.7:8000", "", 8000),
        ("http://engine.example/a/b/v1/", "engine.example", "/a/b", 80),
        ("https://engine.example", "engine.example", "", 443),
        ("http://[2001:db8::1]:8000", "[2001:db8::1]:8000", "", 8000),
        ("http://vllm-0.vllm.svc.cluster.local:8000", "vllm-0.vllm.svc.cluster.local:8000", "", 8000),
    ],
)
def test_an_engines_url_is_parsed_once(url: str, name: str, prefix: str, port: int) -> None:
    origin = parse_origin(url, "cluster a")
    assert (origin.name, origin.prefix, origin.port) == (name, prefix, port)


@pytest.mark.parametrize(
    "url",
    [
        "http://user@10.0.0.7:8000",
        "http://user:word@10.0.0.7:8000",
        "http://10.0.0.7:8000@169.254.169.254/",
        "http://169.254.169.254\\@10.0.0.7/",
        "http://10.0.0.7:8000/?x=http://other",
        "http://10.0.0.7:8000/#x",
        "ftp://10.0.0.7",
        "file:///etc/passwd",
        "gopher://10.0.0.7",
        "//10.0.0.7",
        "10.0.0.7:8000",
        "http://",
        "http://:8000",
        "http://0x7f.0.0.1/",
        "http://0x7f000001/",
        "http://2130706433/",
        "http://127.1/",
        "http://0177.0.0.1/",
        "http://1.2.3.4.5/",
        "http://[::1%25eth0]/",
        "http://[::1",
        "http://a b/",
        "http://a\r\nHost: b/",
        "http://a\tb/",
        "http://ä.example/",
        "http://-a.example/",
        "http://a..b/",
        "http://10.0.0.7:99999/",
        "http://10.0.0.7:0/",
        "http://10.0.0.7:port/",
        "http://10.0.0.7/../admin",
        "http://10.0.0.7/%2e%2e/",
    ],
)
def test_a_url_that_two_parsers_could_read_differently_is_refused(url: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_origin(url, "cluster a")
    assert caught.value.where == "cluster a"
    assert caught.value.fix


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254", "169.254.0.1", "fe80::1", "fe80::1%eth0", "::ffff:169.254.169.254", "fd00:ec2::254",
        "100.100.100.200", "168.63.129.16", "0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255",
    ],
)  # fmt: skip
def test_metadata_link_local_and_many_machine_addresses_are_refused(host: str) -> None:
    assert check_address((host, 80), allows_link_local=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "10.0.0.7", "192.168.1.1", "203.0.113.9", "::1", "2001:db8::1"])
def test_ordinary_addresses_pass(host: str) -> None:
    assert check_address((host, 80), allows_link_local=False) is None


def test_an_operator_may_allow_link_local_but_never_the_gateway_itself() -> None:
    assert check_address(("169.254.1.1", 80), allows_link_local=True) is None
    own = {("127.0.0.1", 8080)}
    assert check_address(("127.0.0.1", 8080), allows_link_local=True, own=own)
    assert check_address(("::ffff:127.0.0.1", 8080), allows_link_local=True, own=own)
    assert check_address(("127.0.0.1", 8081), allows_link_local=True, own=own) is None
