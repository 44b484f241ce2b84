"""A scenario's own grid: fields set, clusters scaled, everything else untouched."""

from __future__ import annotations

import pytest
from smallgrids import cluster, deployment, gpu, model, price_book, site, workload

from gridctl.errors import InputError
from gridctl.resources import Cluster
from gridctl.sweeps.arrangement import arrange, fleet_names, scaled_cluster, with_settings
from gridctl.sweeps.axes import Scenario
from gridctl.sweeps.target import find_target

PARTS = (
    gpu(),
    model(),
    site("paris"),
    site("frankfurt", "DE", "core"),
    cluster("edge", "paris", deployment(replicas=3)),
    cluster("core", "frankfurt", gpus=4),
    workload(),
    price_book(),
)


def targets(*paths: str) -> dict:
    return {path: find_target(path, PARTS) for path in paths}


def changed(*settings: tuple[str, object]) -> tuple:
    return with_settings(PARTS, targets(*(path for path, _ in settings)), settings)


def test_only_what_is_named_changes() -> None:
    found = changed(("cluster/edge spec.gpus", 9), ("cluster/edge spec.usd_per_gpu_hour", 2.5))
    assert (found[4].spec.gpus, found[4].spec.usd_per_gpu_hour) == (9, 2.5)
    assert all(one is two for one, two in zip(found[:4], PARTS[:4], strict=True))
    assert found[5:] == PARTS[5:]


def test_what_ships_with_gridctl_is_declared_when_it_is_changed() -> None:
    found = changed(("gpu/l40s spec.memory_gib", 24.0))
    assert found[:-1] == PARTS
    assert (found[-1].name, found[-1].spec.memory_gib) == ("l40s", 24.0)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        (("workload/chat spec.overhead_ms", -1), "spec.overhead_ms is -1; it must be 0 to 3600000"),
        (("cluster/edge spec.state", "actve"), "it must be one of"),
        (("cluster/edge spec.gpus", 1.5), "not a whole number"),
        (("site/paris spec.serverless.concurrency", 3), "spec.serverless.variants is missing"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_in_words(setting: tuple[str, object], words: str) -> None:
    with pytest.raises(InputError) as raised:
        changed(setting)
    assert words in raised.value.what


@pytest.mark.parametrize(
    ("factor", "replicas", "gpus"),
    [(1, [3], 3), (2, [6], 6), (0.5, [2], 2), (0.1, [1], 1), (1.5, [5], 5)],
)
def test_a_fleet_is_scaled_by_replicas_half_up_and_at_least_one(factor: float, replicas: list[int], gpus: int) -> None:
    """3 × 0.5 = 1.5 → 2; 3 × 1.5 = 4.5 → 5."""
    found = scaled_cluster(PARTS[4].spec, factor)
    assert ([one.replicas for one in found.deployments], found.gpus) == (replicas, gpus)


def test_gpus_that_nothing_uses_are_scaled_alike() -> None:
    """One of four is used: twice that is 2 used and 6 spare."""
    assert scaled_cluster(PARTS[5].spec, 2).gpus == 8


def test_a_factor_of_nought_takes_the_clusters_away_and_factors_multiply() -> None:
    gone = arrange(PARTS, {}, Scenario(number=1, values={}, fleets=(("tier=edge", 0.0),)))
    assert [one.name for one in gone if isinstance(one, Cluster)] == ["core"]
    both = arrange(PARTS, {}, Scenario(number=1, values={}, fleets=(("tier=edge", 2.0), ("name=edge", 2.0))))
    assert next(one for one in both if one.name == "edge").spec.deployments[0].replicas == 12


def test_selectors_choose_clusters_by_their_sites() -> None:
    assert fleet_names(PARTS, "tier=core") == {"core"}
    assert fleet_names(PARTS, "tier=metro") == set()


def test_scaling_does_not_hide_that_a_cluster_is_short_of_gpus() -> None:
    short = cluster("short", "paris", deployment(replicas=3), gpus=2).spec
    for factor in (1, 2):
        found = scaled_cluster(short, factor)
        assert found.gpus < sum(one.gpus for one in found.deployments)
