"""Changes: complete, minimal, and in the operator's words."""

from __future__ import annotations

import itertools
import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridctl.registry import Change
from gridctl.registry.changes import changes_between
from gridctl.resources import Cluster, ClusterSpec, Deployment, EngineLimits, Metadata, PriceBook, PriceBookSpec

STEP = re.compile(r'\["([^"]*)"\]|\[(\d+)\]|\.?([^.\[]+)')


def cluster(*deployments: Deployment, gpus: int = 8, labels: dict[str, str] | None = None) -> Cluster:
    spec = ClusterSpec(site="s", gpu="l4", gpus=gpus, deployments=deployments)
    return Cluster(metadata=Metadata(name="c", labels=labels or {}), spec=spec)


def book(**prices: float) -> PriceBook:
    return PriceBook(metadata=Metadata(name="p"), spec=PriceBookSpec(gpu_hour_usd=prices))


def test_equal_resources_have_no_changes() -> None:
    assert changes_between(cluster(Deployment(variant="m/fp8")), cluster(Deployment(variant="m/fp8"))) == ()
    assert changes_between(None, None) == ()


def test_a_nested_number_is_one_change() -> None:
    before = cluster(Deployment(variant="m/fp8"), Deployment(variant="m/bf16"))
    after = cluster(
        Deployment(variant="m/fp8"), Deployment(variant="m/bf16", replicas=2, engine=EngineLimits(block_size=32))
    )
    assert changes_between(before, after) == (
        Change("spec.deployments[1].replicas", 1, 2),
        Change("spec.deployments[1].engine.block_size", 16, 32),
    )


def test_an_added_and_a_removed_element_are_whole_values() -> None:
    one = cluster(Deployment(variant="m/fp8"))
    two = cluster(Deployment(variant="m/fp8"), Deployment(variant="m/bf16", replicas=2))
    declared = {"variant": "m/bf16", "replicas": 2}
    assert changes_between(one, two) == (Change("spec.deployments[1]", None, declared),)
    assert changes_between(two, one) == (Change("spec.deployments[1]", declared, None),)


def test_labels_come_first_and_keys_with_dots_are_quoted() -> None:
    before = cluster(labels={"a": "1", "team.name": "x"})
    after = cluster(labels={"a": "2", "b": "3", "team.name": "y"}, gpus=4)
    assert changes_between(before, after) == (
        Change("metadata.labels.a", "1", "2"),
        Change("metadata.labels.b", None, "3"),
        Change('metadata.labels["team.name"]', "x", "y"),
        Change("spec.gpus", 8, 4),
    )


def test_map_entries_are_compared_one_by_one() -> None:
    assert changes_between(book(l4=0.5, l40s=1.0), book(l4=0.6, h100=2.0)) == (
        Change("spec.gpu_hour_usd.h100", None, 2.0),
        Change("spec.gpu_hour_usd.l4", 0.5, 0.6),
        Change("spec.gpu_hour_usd.l40s", 1.0, None),
    )


deployments = st.builds(
    Deployment,
    variant=st.sampled_from(["m/fp8", "m/bf16"]),
    replicas=st.integers(1, 3),
    engine=st.builds(EngineLimits, block_size=st.sampled_from([16, 32]), max_waiting=st.none() | st.integers(1, 2)),
)
clusters = st.builds(
    cluster,
    gpus=st.integers(1, 3),
    labels=st.dictionaries(st.sampled_from(["a", "b", "x.y", ""]), st.sampled_from(["1", "2"])),
)


@given(clusters, st.lists(deployments, max_size=3), clusters, st.lists(deployments, max_size=3))
def test_setting_every_path_to_its_after_gives_the_other(
    first: Cluster, first_deployments: list[Deployment], second: Cluster, second_deployments: list[Deployment]
) -> None:
    before = cluster(*first_deployments, gpus=first.spec.gpus, labels=first.metadata.labels)
    after = cluster(*second_deployments, gpus=second.spec.gpus, labels=second.metadata.labels)
    document = msgspec.json.decode(msgspec.json.encode(before))
    for change in changes_between(before, after):
        assert change.before != change.after
        put(document, change.path, change.after)
    assert msgspec.convert(prune(document), Cluster) == after


def put(document: dict[str, object], path: str, value: object) -> None:
    """An independent reading of the path syntax: follow it, making what is missing."""
    steps: list[str | int] = [
        int(index) if index else quoted if plain == "" else plain for quoted, index, plain in STEP.findall(path)
    ]
    place: object = document
    for step, following in itertools.pairwise(steps):
        if isinstance(place, dict):
            place = place.setdefault(step, [] if isinstance(following, int) else {})
        else:
            assert isinstance(place, list)
            assert isinstance(step, int)
            place = place[step]
    last = steps[-1]
    if isinstance(place, list):
        assert isinstance(last, int)
        place.extend([None] * (last + 1 - len(place)))
        place[last] = value
    else:
        assert isinstance(place, dict)
        place[last] = value


def prune(value: object) -> object:
    """Drop what is set to None, which is how a change says that nothing is declared."""
    if isinstance(value, dict):
        return {key: prune(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [prune(item) for item in value if item is not None]
    return value


@pytest.mark.parametrize(
    ("path", "steps"),
    [("spec.a[2].b", ["spec", "a", 2, "b"]), ('metadata.labels["x.y"]', ["metadata", "labels", "x.y"])],
)
def test_the_path_reader_of_these_tests_reads_paths(path: str, steps: list[str | int]) -> None:
    assert [int(i) if i else q if p == "" else p for q, i, p in STEP.findall(path)] == steps
