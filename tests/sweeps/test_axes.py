"""Axes and scenarios: the product in order, names, keys that tell what-ifs apart and nothing else."""

from __future__ import annotations

import msgspec

from gridctl.resources.sweep import Sweep
from gridctl.sweeps.axes import Case, axis_names, cases_of, count, scenarios


def cases(**spec: object) -> list[Case]:
    return cases_of(msgspec.convert({"metadata": {"name": "s"}, "spec": spec}, Sweep))


def test_scenarios_are_the_product_and_policies_vary_fastest() -> None:
    found = cases(policies=["a", "b"], speeds=[1, 2], prices=["p"])
    assert axis_names(found) == ["prices", "speed", "policy"]
    listed = list(scenarios(found))
    assert count(found) == len(listed) == 4
    assert [(one.number, one.speed, one.policy) for one in listed] == [
        (1, 1.0, "a"),
        (2, 1.0, "b"),
        (3, 2.0, "a"),
        (4, 2.0, "b"),
    ]
    assert listed[0].told() == "prices=p speed=1 policy=a"


def test_a_list_in_set_is_an_axis_and_anything_else_is_fixed() -> None:
    (case,) = cases(set={"site/a spec.lat": [1, 2], "site/a spec.lon": 5})
    assert case.fixed == (("site/a spec.lon", 5),)
    assert [one.settings for one in scenarios([case])] == [
        (("site/a spec.lon", 5), ("site/a spec.lat", 1)),
        (("site/a spec.lon", 5), ("site/a spec.lat", 2)),
    ]


def test_an_axis_of_a_field_is_called_by_the_field_unless_two_would_be() -> None:
    assert axis_names(cases(set={"site/a spec.lat": [1], "site/b spec.lon": [2]})) == ["lat", "lon"]
    twice = cases(set={"site/a spec.lat": [1], "site/b spec.lat": [2]})
    assert axis_names(twice) == ["site/a spec.lat", "site/b spec.lat"]


def test_cases_add_axes_of_their_own_beside_the_shared_ones() -> None:
    found = cases(speeds=[1, 2], cases={"grid": {}, "hub": {"set": {"link/a spec.rtt_ms": [40, 80, 120]}}})
    assert count(found) == 2 + 2 * 3
    assert axis_names(found) == ["case", "speed", "rtt_ms"]
    values = [one.values for one in scenarios(found)]
    assert values[0] == {"case": "grid", "speed": 1.0}
    assert values[2] == {"case": "hub", "rtt_ms": 40, "speed": 1.0}


def test_a_key_is_of_what_is_done_and_not_of_what_it_is_called() -> None:
    one = next(scenarios(cases(choices={"far": {"yes": {"link/a spec.rtt_ms": 40}}})))
    same = next(scenarios(cases(set={"link/a spec.rtt_ms": [40]})))
    fixed = next(scenarios(cases(set={"link/a spec.rtt_ms": 40}, policies=["default"])))
    assert one.key == same.key
    assert fixed.key != same.key
    keys = [one.key for one in scenarios(cases(speeds=[1, 2], samples=[0.5, 1], policies=["a", "b"]))]
    assert len(set(keys)) == len(keys) == 8


def test_counting_makes_nothing() -> None:
    huge = cases(
        speeds=[0.001 * number for number in range(1, 1001)],
        samples=[number / 1000 for number in range(1, 1001)],
        policies=[f"p{number}" for number in range(1000)],
    )
    assert count(huge) == 10**9
