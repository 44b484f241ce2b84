"""Flows, places and the cost stack: who served whom, by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gridctl.accounts.by_place import by_origin, by_site
from gridctl.accounts.flows import flows
from gridctl.accounts.stack import cost_stack
from gridctl.accounts.tokenomics import tokenomics


@pytest.fixture
def run(make_run: Callable, make_engine: Callable) -> object:
    """Users in EU and NA; an edge site, a core site and the API. Two of EU's five requests went past the edge."""
    engines = [
        make_engine(site="fr-paris-01", tier="edge", region="EU", gpus=1, usd_per_gpu_hour=36.0),
        make_engine(site="us-nyc-01", tier="core", region="NA", gpus=1, usd_per_gpu_hour=72.0),
        make_engine(kind="api", site="", tier="api", region="", usd_per_mtok_output=1e6),
    ]
    done = {"compute_ms": 10, "output_tokens": 1, "input_tokens": 1}
    requests = [
        {"origin": 0, "engine": 0, "rtt_ms": 10, "gpu_ms": 500, **done},
        {"origin": 0, "engine": 0, "rtt_ms": 12, **done},
        {"origin": 0, "engine": 1, "rtt_ms": 90, **done},
        {"origin": 0, "engine": 2, "rtt_ms": 600, **done},  # late: the objective is 500 ms
        {"origin": 0, "engine": -1, "outcome": "rejected"},
        {"origin": 1, "engine": 1, "rtt_ms": 11, "gpu_ms": 250, **done},
    ]
    return make_run(requests, engines=engines, regions=("EU", "NA"), window_s=10.0)


def test_flows_add_up_to_all_requests(run: object) -> None:
    found = flows(run)
    told = [(flow.origin, flow.tier, flow.region, flow.requests, flow.good) for flow in found.items]
    assert told == [
        ("EU", "-", "-", 1, 0),
        ("EU", "api", "", 1, 0),
        ("EU", "core", "NA", 1, 1),
        ("EU", "edge", "EU", 2, 2),
        ("NA", "core", "NA", 1, 1),
    ]
    assert found.told_apart_by == "region"


def test_what_was_served_past_the_nearest_site_spilled_over(run: object) -> None:
    found = flows(run)
    assert (found.served, found.spilled) == (5, 2)
    told = [(spill.home, spill.site, spill.requests, spill.good, spill.extra_rtt_ms) for spill in found.spills]
    # The mean round trip home is 11 ms.
    assert told == [("fr-paris-01", "(api)", 1, 0, 589.0), ("fr-paris-01", "us-nyc-01", 1, 1, 79.0)]


def test_a_workload_that_only_the_core_serves_has_its_home_there(
    make_run: Callable, make_engine: Callable, make_workload: Callable
) -> None:
    engines = [make_engine(site="near", tier="edge"), make_engine(site="far")]
    workloads = {name: make_workload(("ttft_ms", 500)) for name in ("chat", "batch")}
    requests = [{"workload": 0, "engine": 0, "rtt_ms": 5}, {"workload": 1, "engine": 1, "rtt_ms": 50}]
    found = flows(make_run(requests, engines=engines, workloads=workloads))
    assert (found.spilled, found.told_apart_by) == (0, "country")
    assert [flow.origin for flow in found.items] == ["FR", "FR"]


def test_places_answer_for_their_users_and_sites_for_what_was_sent_to_them(run: object) -> None:
    origins = [(share.name, share.requests, share.good, share.main_cause) for share in by_origin(run)]
    assert origins == [("eu", 5, 3, "network"), ("na", 1, 1, "")]
    sites = [(share.name, share.tier, share.requests, share.good) for share in by_site(run)]
    assert sites == [("(api)", "api", 1, 0), ("fr-paris-01", "edge", 2, 2), ("us-nyc-01", "core", 2, 2)]


def test_the_stack_is_the_bill_from_the_edge_inwards(run: object) -> None:
    table = tokenomics(run)
    found = cost_stack(table)
    # 36 and 72 $/h for 10 s are 0.10 $ and 0.20 $; the API's one output token is a dollar.
    assert [(tier.tier, round(tier.usd, 9)) for tier in found.tiers] == [("edge", 0.1), ("core", 0.2), ("api", 1.0)]
    edge = found.tiers[0]
    assert edge.parts_usd["gpu_busy_usd"] == pytest.approx(0.005)
    assert edge.parts_usd["gpu_idle_usd"] == pytest.approx(0.095)
    assert sum(edge.parts_usd.values()) == pytest.approx(edge.usd)
    assert found.usd == pytest.approx(table.total.usd)


def test_a_run_without_requests_has_no_flows(make_run: Callable) -> None:
    run = make_run([])
    assert (flows(run).items, flows(run).spills, by_origin(run), by_site(run)) == ((), (), (), ())
