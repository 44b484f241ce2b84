"""The centralised alternative: the same GPUs and deployments, in core sites."""

from __future__ import annotations

import random

import pytest
from smallgrids import cluster, deployment, gpu, make_grid, model, price_book, site, workload

from gridctl.grid.centralized import centralize
from gridctl.grid.image import build_image
from gridctl.grid.view import GridView, jurisdiction_at
from gridctl.resources import Cluster, Resource, Serverless, Site

EDGE = site("nice", "FR", lat=43.7, lon=7.3, serverless=Serverless(variants=("m/bf16",)))
CORE_DE = site("frankfurt", "DE", "core", lat=50.1, lon=8.7)
CORE_CH = site("geneva", "CH", "core", lat=46.2, lon=6.1)  # nearer to Nice than Frankfurt is
CORE_US = site("ashburn", "US", "core", lat=39.0, lon=-77.5)


def homes(resources: list[Resource]) -> dict[str, str]:
    return {one.name: one.spec.site for one in resources if isinstance(one, Cluster)}


def test_clusters_move_to_the_nearest_core_of_their_own_jurisdiction() -> None:
    cores = [CORE_DE, CORE_CH, CORE_US]
    clusters = [cluster("nice-gpu", "nice"), *(cluster(f"{one.name}-gpu", one.name) for one in cores)]
    moved = centralize([EDGE, *cores, *clusters])
    assert homes(moved)["nice-gpu"] == "frankfurt"


def test_without_a_core_of_its_jurisdiction_a_cluster_moves_to_the_nearest_core() -> None:
    clusters = [cluster("nice-gpu", "nice"), cluster("g", "geneva"), cluster("a", "ashburn")]
    assert homes(centralize([EDGE, CORE_CH, CORE_US, *clusters]))["nice-gpu"] == "geneva"


def test_clusters_in_the_core_stay_and_there_are_no_functions_at_the_edge() -> None:
    moved = centralize([EDGE, CORE_DE, CORE_US, cluster("a", "ashburn"), cluster("f", "frankfurt")])
    assert homes(moved) == {"a": "ashburn", "f": "frankfurt"}
    assert all(one.spec.serverless is None for one in moved if isinstance(one, Site))


def test_moved_gpus_cost_what_the_core_pays_for_them() -> None:
    edge, core = cluster("e", "nice", usd_per_gpu_hour=9.0), cluster("c", "frankfurt", usd_per_gpu_hour=2.0)
    parts = [gpu(), model(), EDGE, CORE_DE, price_book(gpu_hour_usd={"toy": 5.0})]
    prices = [one.facts.usd_per_gpu_hour for one in build_image(centralize([*parts, edge, core])).engines]
    assert prices == [2.0, 2.0]
    prices = [one.facts.usd_per_gpu_hour for one in build_image(centralize([*parts, edge])).engines]
    assert prices == [5.0]  # the core has no such GPUs: the book's price
    prices = [one.facts.usd_per_gpu_hour for one in build_image(centralize([*parts[:-1], edge])).engines]
    assert prices == [9.0]  # and nor has a book: its own


def test_a_core_that_is_down_takes_nobody_in() -> None:
    down = site("frankfurt", "DE", "core", lat=50.1, lon=8.7, state="down")
    assert homes(centralize([EDGE, down, CORE_US, cluster("e", "nice")]))["e"] == "ashburn"


def test_a_grid_without_a_core_stays_as_it_is() -> None:
    parts = [EDGE, cluster("e", "nice"), workload()]
    assert centralize(parts) == parts


@pytest.mark.parametrize("seed", range(40))
def test_random_grids_keep_their_gpus_deployments_and_names(seed: int) -> None:
    resources = make_grid(random.Random(seed).randint)
    moved = centralize(resources)
    before, after = GridView(resources), GridView(moved)
    assert before.clusters.keys() == after.clusters.keys()
    has_core = any(one.spec.tier == "core" and one.spec.state == "active" for one in before.sites.values())
    for name, one in after.clusters.items():
        old = before.clusters[name]
        assert (one.spec.gpus, one.spec.gpu, one.spec.deployments) == (
            old.spec.gpus,
            old.spec.gpu,
            old.spec.deployments,
        )
        # hardware that takes no traffic where it stands gains the alternative nothing
        stood, stands = before.sites[old.spec.site], after.sites[one.spec.site]
        took = old.spec.state == stood.spec.state == "active"
        assert (one.spec.state == stands.spec.state == "active") == took
        assert not has_core or after.sites[one.spec.site].spec.tier == "core"
        law = jurisdiction_at(before.sites[old.spec.site])
        hosts = {cluster.spec.site for cluster in before.clusters.values()}
        cores = [s for s in before.sites.values() if s.spec.tier == "core" and s.spec.state == "active"]
        cores = [core for core in cores if core.name in hosts] or cores
        if law in {jurisdiction_at(core) for core in cores}:
            assert jurisdiction_at(after.sites[one.spec.site]) == law


def test_deployment_order_and_other_kinds_are_untouched() -> None:
    parts = [workload(), gpu(), EDGE, CORE_DE, cluster("e", "nice", deployment(replicas=2)), model()]
    assert [type(one) for one in centralize(parts)] == [type(one) for one in parts]
