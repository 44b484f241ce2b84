"""Waves: who comes when."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridctl.errors import UsageError
from gridctl.rollout.waves import Placed, parse_waves, plan_waves


def test_a_grid_of_4400_sites_gets_one_then_220_then_1100_then_all() -> None:
    sites = [Placed(f"s{number:04d}", f"city-{number % 300}") for number in range(4400)]
    assert [len(wave) for wave in plan_waves(sites, parse_waves("1,5%,25%,100%"))] == [1, 219, 880, 3300]


def test_sites_of_one_uplink_are_spread_over_the_waves() -> None:
    # Eight behind one metro's link, eight alone: every quarter has two of the eight.
    sites = [Placed(f"m{n}", "metro") for n in range(8)] + [Placed(f"x{n}", f"own-{n}") for n in range(8)]
    waves = plan_waves(sites, parse_waves("25%,50%,75%,100%"))
    assert [sum(site.startswith("m") for site in wave) for wave in (waves[0] + waves[1], waves[2] + waves[3])] == [4, 4]


def test_few_sites_leave_waves_out_that_would_be_empty() -> None:
    assert plan_waves([Placed("a", "x")], parse_waves("1,5%,25%,100%")) == (("a",),)
    assert [
        len(wave) for wave in plan_waves([Placed(f"s{n}", "") for n in range(4)], parse_waves("1,5%,25%,100%"))
    ] == [
        1,
        3,
    ]


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 9)), unique_by=lambda pair: pair[0]))
def test_every_site_is_in_exactly_one_wave_whatever_their_order(pairs: list[tuple[int, int]]) -> None:
    sites = [Placed(f"s{name}", f"u{uplink}") for name, uplink in pairs]
    waves = plan_waves(sites, parse_waves("1,10%,50%,100%"))
    assert sorted(name for wave in waves for name in wave) == sorted(site.site for site in sites)
    assert all(waves)
    assert plan_waves(sites[::-1], parse_waves("1,10%,50%,100%")) == waves


@pytest.mark.parametrize(
    "text",
    ["", "0,100%", "5%", "50%,10%,100%", "1,101%", "a,100%", "1.5,100%", "-1,100%", "1,,100%", "10,5,100%", "nan%"],
)
def test_what_are_no_waves_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_waves(text)
