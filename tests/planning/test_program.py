"""The program on cases small enough to solve by hand."""

from __future__ import annotations

import numpy as np
import pytest
from smallgrids import gpu, limits, model, site, trace, workload

from gridctl.grid.view import GridView
from gridctl.planning.candidates import Candidates, choose_candidates
from gridctl.planning.capacity import BINS_MS, Capacity
from gridctl.planning.demand import Demand, measure_demand
from gridctl.planning.offers import Offer
from gridctl.planning.program import Kind, Limits, Plan, late_shares, place_engines
from gridctl.resources import Objective, Workload

REACH = 30.0
"""Milliseconds beyond which the engine of these tests keeps no promise."""


def flat(rps: float, reach: float = REACH) -> Capacity:
    return Capacity(tuple(rps if end <= reach else 0.0 for end in BINS_MS))


def kind(capacity: Capacity, gpus: int = 1, name: str = "bf16") -> Kind:
    return Kind(Offer("toy", "m", name, gpus, limits(), 0.8), f"m/{name} on {gpus} toy", gpus, 0, (capacity,))


def case(
    rates: list[float], rtt: list[list[float]], usd: list[float], chat: Workload | None = None
) -> tuple[Demand, Candidates]:
    """Places far apart, whose rates are set by hand, and sites at these round trips and prices."""
    spots = [site(f"p{number}", lat=-60.0 + 20.0 * number, lon=0.0) for number in range(len(rates))]
    view = GridView([gpu(), model(), chat or workload(), *spots])
    requests = [{"at_ms": number, "origin": number} for number in range(len(rates))]
    measured = measure_demand(view, trace(requests, origins=[one.name for one in spots]))
    order = [int(name[1:]) for name in measured.names]
    demand = Demand(
        measured.classes,
        measured.names,
        measured.zones,
        np.array([[rates[number]] for number in order]),
        measured.members,
        measured.place_of_origin,
        measured.class_of_request,
    )
    sites = [site(f"s{number}") for number in range(len(usd))]
    table = np.array([rtt[number] for number in order])
    return demand, choose_candidates(demand, sites, table, np.array(usd)[:, None])


def solved(
    demand: Demand,
    candidates: Candidates,
    *kinds: Kind,
    late: float = 0.0,
    before: Plan | None = None,
    **fields: object,
) -> Plan:
    plan = place_engines(
        demand,
        candidates,
        kinds,
        fields.pop("factors", np.ones(demand.rate.shape)),  # type: ignore[arg-type]
        np.array([late]),
        Limits(**({"gap": 0.0} | fields)),  # type: ignore[arg-type]
        before,
    )
    assert plan is not None
    return plan


def where(plan: Plan, candidates: Candidates) -> dict[str, int]:
    return {candidates.sites[one.site].name: one.count for one in plan.placed}


def test_one_site_that_reaches_both_places_is_cheaper_than_one_at_each() -> None:
    demand, candidates = case([0.4, 0.4], [[1.0, 90.0, 20.0], [90.0, 1.0, 20.0]], [1.0, 1.0, 1.5])
    plan = solved(demand, candidates, kind(flat(1.0)))
    assert where(plan, candidates) == {"s2": 1}
    assert plan.usd_per_hour == pytest.approx(1.5)
    assert plan.is_feasible


def test_two_cheap_sites_beat_one_that_costs_more_than_both() -> None:
    demand, candidates = case([0.4, 0.4], [[1.0, 90.0, 20.0], [90.0, 1.0, 20.0]], [1.0, 1.0, 2.5])
    assert where(solved(demand, candidates, kind(flat(1.0))), candidates) == {"s0": 1, "s1": 1}


def test_engines_are_whole_and_enough_for_the_load_times_its_factor() -> None:
    demand, candidates = case([2.3], [[1.0]], [1.0])
    assert where(solved(demand, candidates, kind(flat(1.0))), candidates) == {"s0": 3}
    doubled = solved(demand, candidates, kind(flat(1.0)), factors=np.full((1, 1), 2.0))
    assert where(doubled, candidates) == {"s0": 5}


def test_a_wider_engine_is_chosen_where_it_serves_more_per_dollar() -> None:
    demand, candidates = case([3.0], [[1.0]], [1.0])
    plan = solved(demand, candidates, kind(flat(1.0)), kind(flat(3.0), gpus=2, name="fp8"))
    assert [(one.kind, one.count) for one in plan.placed] == [(1, 1)]
    assert plan.usd_per_hour == pytest.approx(2.0)


def test_serving_from_afar_takes_more_engines() -> None:
    demand, candidates = case([2.0], [[25.0]], [1.0])
    falling = Capacity(tuple(2.0 if end < 20 else 1.0 if end <= REACH else 0.0 for end in BINS_MS))
    assert where(solved(demand, candidates, kind(falling)), candidates) == {"s0": 2}


def test_demand_out_of_reach_is_late_as_far_as_promises_leave_and_no_farther() -> None:
    demand, candidates = case([9.0, 0.5], [[1.0], [200.0]], [1.0])
    plan = solved(demand, candidates, kind(flat(10.0)), late=0.1)
    assert plan.is_feasible
    assert plan.late[0] == pytest.approx(0.5 / 9.5)
    strict = solved(demand, candidates, kind(flat(10.0)), late=0.01)
    assert not strict.is_feasible
    assert strict.over[0] == pytest.approx(0.5 - 0.095)


def test_a_law_without_a_site_leaves_its_demand_unserved() -> None:
    demand, candidates = case([1.0], [[1.0]], [1.0], workload(rule="listed", allow=("US",)))
    plan = solved(demand, candidates, kind(flat(10.0)))
    assert not plan.is_feasible
    assert plan.unserved[0, 0] == pytest.approx(1.0)
    assert plan.placed == ()


def test_a_bound_on_sites_is_kept_and_what_it_costs_is_told() -> None:
    demand, candidates = case([0.4, 0.4], [[1.0, 90.0], [90.0, 1.0]], [1.0, 1.0])
    assert solved(demand, candidates, kind(flat(1.0)), most_sites=2).is_feasible
    one = solved(demand, candidates, kind(flat(1.0)), most_sites=1)
    assert len({placed.site for placed in one.placed}) == 1
    assert not one.is_feasible


def test_a_later_round_adds_and_takes_nothing_away() -> None:
    demand, candidates = case([0.4, 0.4], [[1.0, 90.0, 20.0], [90.0, 1.0, 20.0]], [1.0, 1.0, 1.5])
    first = solved(demand, candidates, kind(flat(1.0)))
    more = solved(demand, candidates, kind(flat(1.0)), factors=np.full((2, 1), 2.0), before=first)
    assert where(more, candidates)["s2"] >= 1
    assert more.usd_per_hour == pytest.approx(2.5)  # 1.6 engines: the one there, and one at a place


def test_half_of_what_the_strictest_promise_leaves_may_be_late_by_distance() -> None:
    lenient = workload(
        attainment=0.95,
        objectives=(
            Objective(metric="ttft_ms", threshold_ms=100.0, percentile=90.0),
            Objective(metric="tpot_ms", threshold_ms=9.0, percentile=99.0),
        ),
    )
    demand, _ = case([1.0], [[1.0]], [1.0], lenient)
    assert late_shares(demand).tolist() == pytest.approx([0.025])


def test_the_same_program_has_the_same_answer() -> None:
    demand, candidates = case([0.4, 0.4], [[1.0, 90.0], [90.0, 1.0]], [1.0, 1.0])
    one, two = (solved(demand, candidates, kind(flat(1.0))) for _ in range(2))
    assert one.placed == two.placed
