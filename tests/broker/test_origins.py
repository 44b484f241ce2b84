"""Where a request comes from: header, address map, default; and what becomes of requests from nowhere."""

from __future__ import annotations

import pytest
from livegrids import Request, broker_of, chat, grid, same_country, workload

from gridctl.broker.refusal import Refusal
from gridctl.errors import InputError

MAP = (("10.0.0.0/8", "berlin"), ("10.1.0.0/16", "zurich"), ("2001:db8::/32", "ashburn"))


def _origin(peer: str = "192.0.2.1", header: bytes | None = None, **settings: object) -> str:
    broker, _ = broker_of(**{"address_map": MAP, **settings})  # type: ignore[arg-type]
    headers = {} if header is None else {b"x-gridctl-origin": header}
    return broker.ask(Request(headers, peer=peer), chat(), 0).origin


@pytest.mark.parametrize(
    ("peer", "origin"),
    [
        ("10.2.3.4", "berlin"),
        ("10.1.3.4", "zurich"),  # the longer prefix
        ("::ffff:10.1.3.4", "zurich"),
        ("2001:db8::9", "ashburn"),
        ("fe80::1%eth0", "paris"),
        ("192.0.2.1", "paris"),
        ("", "paris"),
        ("not an address", "paris"),
    ],
)
def test_an_address_comes_from_its_longest_network_else_from_the_default(peer: str, origin: str) -> None:
    assert _origin(peer) == origin


@pytest.mark.parametrize(
    ("header", "origin"),
    [
        (b"lyon", "lyon"),
        (b" lyon ", "lyon"),
        (b"Lyon", "lyon"),  # by its city
        (b"48.8566, 2.3522", "48.9,2.4"),
        (b"-0,180", "0,180"),
    ],
)
def test_a_header_names_a_site_its_city_or_a_point(header: bytes, origin: str) -> None:
    assert _origin("10.2.3.4", header) == origin


@pytest.mark.parametrize("header", [b"zzyzzx", b"", b"91,0", b"0,181", b"1e3,0", b"nan,0", b"x" * 5000, b"\xff\xfe"])
def test_a_header_that_names_no_place_is_refused(header: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        _origin(header=header)
    assert caught.value.status == 400


def test_the_header_is_not_believed_where_it_should_not_be() -> None:
    assert _origin("10.2.3.4", b"lyon", trust_origin_header=False) == "berlin"


def test_the_header_has_the_name_that_the_settings_give() -> None:
    broker, _ = broker_of(origin_header="X-Edge-Site")
    assert broker.ask(Request({b"x-edge-site": b"lyon"}), chat(), 0).origin == "lyon"
    assert broker.ask(Request({b"x-gridctl-origin": b"lyon"}), chat(), 0).origin == "paris"


def test_a_point_is_in_the_country_of_the_nearest_site() -> None:
    broker, _ = broker_of(grid(workload(jurisdiction=same_country())))
    near_lyon = broker.ask(Request({b"x-gridctl-origin": b"45.7,4.8"}), chat(), 0)
    assert broker.decide(near_lyon, 0).backend.site in ("paris", "lyon")


def test_from_nowhere_round_trips_are_unknown_and_hard_rules_fail_closed() -> None:
    broker, _ = broker_of(default_origin=None)
    ask = broker.ask(Request(), chat(), 0)
    assert ask.origin == ""
    assert ask.group is not None
    assert set(ask.group.rtt_us.tolist()) == {0}
    bound, _ = broker_of(grid(workload(jurisdiction=same_country())), default_origin=None)
    with pytest.raises(Refusal) as caught:
        bound.decide(bound.ask(Request(), chat(), 0), 0)
    assert (caught.value.status, caught.value.reason) == (403, "jurisdiction")


@pytest.mark.parametrize(
    "settings",
    [
        {"default_workload": "zzyzzx"},
        {"default_origin": "zzyzzx"},
        {"address_map": (("10/8", "paris"),)},
        {"address_map": (("x", "y"),)},
    ],
)
def test_settings_that_name_nothing_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r"zzyzzx|not a network|no site"):
        broker_of(**settings)  # type: ignore[arg-type]
