"""Field paths: which resources and which field they mean, and what they are told when they mean none."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from smallgrids import cluster, deployment, gpu, model, price_book, site, workload

from gridctl.errors import InputError
from gridctl.resources import ResourceKey
from gridctl.sweeps.target import find_target, plain, put

PARTS = [
    gpu(),
    model(),
    site("paris"),
    site("lyon"),
    site("frankfurt", "DE", "core"),
    cluster("paris-a", "paris", deployment(replicas=2), deployment()),
    cluster("lyon-a", "lyon"),
    cluster("core", "frankfurt"),
    workload(),
    price_book(gpu_hour_usd={"toy": 1.0}),
]


@pytest.mark.parametrize(
    ("path", "names", "steps"),
    [
        ("cluster/core spec.gpus", ("core",), ("spec", "gpus")),
        ("clusters/core gpus", ("core",), ("spec", "gpus")),
        ("cluster/*-a spec.usd_per_gpu_hour", ("paris-a", "lyon-a"), ("spec", "usd_per_gpu_hour")),
        ("cluster[tier=edge] spec.state", ("paris-a", "lyon-a"), ("spec", "state")),
        ("site/[pl]* spec.population", ("paris", "lyon"), ("spec", "population")),
        ("cluster/paris-a spec.deployments[1].replicas", ("paris-a",), ("spec", "deployments", 1, "replicas")),
        ("cluster/paris-a spec.deployments[*].replicas", ("paris-a",), ("spec", "deployments", "*", "replicas")),
        ('price/default spec.gpu_hour_usd["toy"]', ("default",), ("spec", "gpu_hour_usd", "toy")),
        ("workload/chat  spec.objectives[0].threshold_ms", ("chat",), ("spec", "objectives", 0, "threshold_ms")),
        ("gpu/l40s spec.memory_gib", ("l40s",), ("spec", "memory_gib")),
    ],
)
def test_a_path_names_resources_and_a_field(path: str, names: tuple[str, ...], steps: tuple[object, ...]) -> None:
    found = find_target(path, PARTS)
    assert found.names == names
    assert found.steps == steps


@pytest.mark.parametrize(
    ("path", "what", "fix"),
    [
        ("cluster/core", "no field path", "write KIND/NAME FIELD"),
        ("spec.gpus", "no field path", "write KIND/NAME FIELD"),
        ("cluser/core spec.gpus", "there is no kind 'cluser'", "did you mean cluster?"),
        ("cluster/cor spec.gpus", "no cluster is called cor", "did you mean core?"),
        ("cluster/core spec.gpuss", "cluster has no field spec.gpuss", "did you mean gpus?"),
        ("cluster/core spec.deployments.replicas", "is a list", "spec.deployments[0]"),
        ("cluster/core spec.deployments[0].replica", "has no field spec.deployments[0].replica", "mean replicas?"),
        ("cluster/core spec.gpus[0]", "has nothing inside", None),
        ("cluster/core spec.gpus..x", "no field path", "write KIND/NAME FIELD"),
        ("cluster[tier=egde] spec.gpus", "no cluster matches", "gridctl cluster list"),
        ("cluster[a==b==c] spec.gpus", "not a selector term", "key=value"),
    ],
)
def test_a_path_that_names_nothing_is_told_what_is_near(path: str, what: str, fix: str | None) -> None:
    with pytest.raises(InputError) as raised:
        find_target(path, PARTS)
    assert what in raised.value.what
    assert (fix or "") in (raised.value.fix or "")


@given(st.text(max_size=60))
def test_no_text_is_more_than_an_input_error(text: str) -> None:
    for path in (text, f"cluster/core {text}", f"cluster[{text}] spec.gpus"):
        with contextlib.suppress(InputError):
            assert find_target(path, PARTS).names


@pytest.mark.parametrize(
    ("one", "two", "overlap"),
    [
        ("cluster/core spec.gpus", "cluster/* spec.gpus", True),
        ("cluster/core spec.gpus", "cluster/lyon-a spec.gpus", False),
        ("cluster/core spec.gpus", "cluster/core spec.gpu", False),
        ("cluster/core spec.deployments[*].replicas", "cluster/core spec.deployments[0].replicas", True),
        ("cluster/core spec.deployments[1].replicas", "cluster/core spec.deployments[0].replicas", False),
        ("cluster/core spec.deployments", "cluster/core spec.deployments[0].replicas", True),
        ("site/* spec.state", "cluster/* spec.state", False),
    ],
)
def test_two_paths_overlap_when_one_sets_a_part_of_the_other(one: str, two: str, overlap: bool) -> None:
    first, second = find_target(one, PARTS), find_target(two, PARTS)
    assert first.overlaps(second) is second.overlaps(first) is overlap


def test_a_field_is_set_where_the_path_leads() -> None:
    document = plain(PARTS[5])
    put(document, ("spec", "deployments", "*", "replicas"), 7, "cluster paris-a")
    put(document, ("spec", "deployments", 0, "engine", "max_waiting"), 3, "cluster paris-a")
    served = document["spec"]["deployments"]
    assert [one["replicas"] for one in served] == [7, 7]
    assert served[0]["engine"]["max_waiting"] == 3
    with pytest.raises(InputError, match="cluster paris-a has 2 entries there, so none is number 2"):
        put(document, ("spec", "deployments", 2, "replicas"), 7, "cluster paris-a")


def test_a_mapping_that_is_not_written_is_begun() -> None:
    document = plain(price_book())
    put(document, ("spec", "gpu_hour_usd", "toy"), 2.5, "price default")
    assert document["spec"] == {"gpu_hour_usd": {"toy": 2.5}}


def test_a_target_lists_the_resources_it_means() -> None:
    assert list(find_target("site/*o* spec.state", PARTS).meant()) == [ResourceKey("Site", "lyon")]
