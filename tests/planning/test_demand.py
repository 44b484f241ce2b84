"""Demand by place and class: rates, merging, law."""

from __future__ import annotations

import numpy as np
import pytest
from smallgrids import gpu, model, site, trace, workload

from gridctl.errors import InputError
from gridctl.grid.view import GridView
from gridctl.planning.demand import Zone, lawful_sites, measure_demand, round_trips_ms
from gridctl.resources import Resource, Workload

CLOSE = {"lat": 48.9, "lon": 2.4}


def view_of(*more: Resource, chat: Workload | None = None) -> GridView:
    return GridView([gpu(), model(), chat or workload(), *more])


def test_a_rate_is_requests_over_the_trace_when_they_come_evenly() -> None:
    view = view_of(site("paris", **CLOSE), site("tokyo", "JP", lat=35.7, lon=139.7))
    requests = [{"at_ms": 1000 * number, "origin": number % 2} for number in range(101)]
    demand = measure_demand(view, trace(requests, origins=("paris", "tokyo")))
    assert demand.names == ("paris", "tokyo")
    # 51 and 50 in 100 s; the busiest 10 s hold 10 requests of 10.1 on average.
    assert demand.rate[:, 0].tolist() == pytest.approx([0.51, 0.50])


def test_the_busiest_window_scales_the_rate() -> None:
    view = view_of(site("paris", **CLOSE))
    # 100 requests in 100 s, 60 of them in the tenth that begins at 50 s.
    calm = [{"at_ms": 2500 * number} for number in range(20)] + [{"at_ms": 60_000 + 2000 * n} for n in range(20)]
    burst = [{"at_ms": 50_000 + 160 * number} for number in range(60)]
    ordered = sorted([*calm, *burst, {"at_ms": 100_000}], key=lambda one: one["at_ms"])
    demand = measure_demand(view, trace(ordered))
    assert demand.rate[0, 0] == pytest.approx(6.0, rel=0.05)


def test_origins_next_to_each_other_are_one_place_and_far_ones_are_not() -> None:
    sites = [site("a", **CLOSE), site("b", lat=48.95, lon=2.45), site("c", lat=45.8, lon=4.8)]
    requests = [{"at_ms": number, "origin": number % 3} for number in range(9)]
    demand = measure_demand(view_of(*sites), trace(requests, origins=("a", "b", "c")))
    assert demand.names == ("a", "c")
    assert demand.place_of_origin.tolist() == [0, 0, 1]
    rtt = round_trips_ms(view_of(*sites), demand, sites)
    assert rtt[0, 2] == max(
        round_trips_ms(view_of(*sites), measure_demand(view_of(*sites), one), sites)[0, 2]
        for one in (trace([{}], origins=("a",)), trace([{}], origins=("b",)))
    )


def test_a_border_that_binds_keeps_neighbours_apart() -> None:
    sites = [site("strasbourg", "FR", lat=48.58, lon=7.75), site("kehl", "DE", lat=48.57, lon=7.81)]
    requests = trace([{"origin": 0}, {"at_ms": 1, "origin": 1}], origins=("strasbourg", "kehl"))
    assert len(measure_demand(view_of(*sites), requests).names) == 1
    bound = view_of(*sites, chat=workload(rule="same-country"))
    assert len(measure_demand(bound, requests).names) == 2
    union = view_of(*sites, chat=workload(rule="same-jurisdiction"))
    assert len(measure_demand(union, requests).names) == 1


def test_a_model_that_its_workload_does_not_accept_is_refused() -> None:
    view = view_of(site("paris"), model("n"))
    with pytest.raises(InputError, match="does not accept model n"):
        measure_demand(view, trace([{"model": 0}], models=("n",)))


@pytest.mark.parametrize(
    ("rule", "allow", "lawful"),
    [
        ("any", (), [True, True, True, True]),
        ("same-country", (), [True, False, False, False]),
        ("same-jurisdiction", (), [True, True, False, False]),
        ("listed", ("US", "DE"), [False, True, True, False]),
    ],
)
def test_law_is_the_router_s(rule: str, allow: tuple[str, ...], lawful: list[bool]) -> None:
    sites = [site("a", "FR"), site("b", "DE"), site("c", "US"), site("d", "FR", jurisdiction="FR-GOV")]
    chat = workload(rule=rule, allow=allow)
    demand = measure_demand(view_of(*sites, chat=chat), trace([{}], origins=("a",)))
    found = lawful_sites(demand.classes[0], [Zone("FR", "EU")], sites)
    expected = [*lawful[:3], True] if rule == "same-country" else lawful
    assert found.tolist() == [expected]


def test_an_unknown_jurisdiction_is_served_by_nobody() -> None:
    chat = workload(rule="same-jurisdiction")
    demand = measure_demand(view_of(site("a"), chat=chat), trace([{}], origins=("a",)))
    assert not np.any(lawful_sites(demand.classes[0], [Zone("", "")], [site("a", "FR")]))
