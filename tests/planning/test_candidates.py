"""Which sites are looked at: leaving out the dominated ones loses nothing."""

from __future__ import annotations

import numpy as np
from smallgrids import gpu, model, site, trace, workload

from gridctl.grid.view import GridView
from gridctl.planning.candidates import choose_candidates
from gridctl.planning.demand import Demand, measure_demand
from gridctl.resources import Serverless, Site


def demand_of(rule: str = "any") -> Demand:
    sites = [site("a"), site("b", "DE", lat=52.5, lon=13.4)]
    view = GridView([gpu(), model(), workload(rule=rule), *sites])
    return measure_demand(view, trace([{"origin": 0}, {"at_ms": 1, "origin": 1}], origins=("a", "b")))


def chosen(sites: list[Site], rtt: list[list[float]], usd: list[float], rule: str = "any", most: int = 9) -> set[str]:
    found = choose_candidates(demand_of(rule), sites, np.array(rtt), np.array(usd)[:, None], most)
    return {one.name for one in found.sites}


def test_a_site_that_is_nowhere_nearer_and_no_cheaper_is_left_out() -> None:
    sites = [site("near"), site("far")]
    assert chosen(sites, [[1.0, 9.0], [1.0, 9.0]], [1.0, 1.0]) == {"near"}
    assert chosen(sites, [[1.0, 9.0], [1.0, 9.0]], [1.0, 0.9]) == {"near", "far"}
    assert chosen(sites, [[1.0, 9.0], [9.0, 1.0]], [1.0, 1.0]) == {"near", "far"}


def test_round_trips_of_one_class_are_alike() -> None:
    assert chosen([site("x"), site("y")], [[1.0, 3.9], [1.0, 3.9]], [1.0, 1.0]) == {"x"}


def test_a_site_under_another_law_is_not_dominated_where_law_binds() -> None:
    sites = [site("fr"), site("de", "DE")]
    rtt = [[1.0, 9.0], [1.0, 9.0]]
    assert chosen(sites, rtt, [1.0, 1.0]) == {"fr"}
    assert chosen(sites, rtt, [1.0, 1.0], "same-country") == {"fr", "de"}


def test_a_site_with_functions_of_its_own_stays() -> None:
    sites = [site("near"), site("far", serverless=Serverless(variants=("m/bf16",)))]
    assert chosen(sites, [[1.0, 9.0], [1.0, 9.0]], [1.0, 1.0]) == {"near", "far"}


def test_a_cut_keeps_the_nearest_of_every_place_and_says_so() -> None:
    sites = [site(name) for name in "abc"]
    found = choose_candidates(
        demand_of(), sites, np.array([[1.0, 20.0, 30.0], [30.0, 20.0, 1.0]]), np.ones((3, 1)), most=1
    )
    assert {one.name for one in found.sites} == {"a", "c"} or {one.name for one in found.sites} == {"a", "b", "c"}
    assert "may exist" in found.notes[0]
