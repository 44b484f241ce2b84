"""What a site says it serves, and what the grid then declares of it; and who a canary is compared with."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from gridctl.control.canary import Counts, Reading, control_sites, like_sites, sample_of
from gridctl.control.declaring import redeclared
from gridctl.resources import Cluster, Model, Site
from gridctl.rollout.outbox import Declaration
from gridctl.rollout.protocol import Version
from gridctl.rollout.state import Rollout, SiteProgress

SHAPE = {
    "layers": 2, "hidden_size": 64, "heads": 4, "kv_heads": 2, "head_dim": 16, "intermediate_size": 128,
    "vocab_size": 1000,
}  # fmt: skip


def model(name: str) -> Model:
    spec = {"architecture": SHAPE, "variants": [{"name": "bf16"}, {"name": "fp8"}]}
    return msgspec.convert({"metadata": {"name": name}, "spec": spec}, Model)


def cluster(name: str, site: str, *variants: str) -> Cluster:
    deployments = [{"variant": variant} for variant in variants]
    spec = {"site": site, "gpu": "l4", "gpus": 4, "deployments": deployments}
    return msgspec.convert({"metadata": {"name": name}, "spec": spec}, Cluster)


def site(name: str, tier: str = "edge", **spec: Any) -> Site:
    base = {"lat": 1.0, "lon": 1.0, "country": "FR", "tier": tier}
    return msgspec.convert({"metadata": {"name": name}, "spec": base | spec}, Site)


def told(variant: str = "fp8", at: str = "a") -> Declaration:
    return Declaration(1, at, "m", variant, "r")


def test_only_deployments_of_the_model_at_the_site_change() -> None:
    grid = [model("m"), model("n"), cluster("c", "a", "m/bf16", "n/bf16"), cluster("d", "b", "m/bf16")]
    (changed,) = redeclared(grid, told())
    assert isinstance(changed, Cluster)
    assert [one.variant for one in changed.spec.deployments] == ["m/fp8", "n/bf16"]
    assert redeclared([*grid[:2], changed, grid[3]], told()) == []


def test_functions_change_as_engines_do() -> None:
    functions = site("a", serverless={"variants": ["m/bf16", "n/bf16"]})
    (changed,) = redeclared([model("m"), functions], told())
    assert isinstance(changed, Site)
    assert changed.spec.serverless is not None
    assert changed.spec.serverless.variants == ("m/fp8", "n/bf16")


def test_a_variant_that_the_model_does_not_have_is_never_declared() -> None:
    assert redeclared([model("m"), cluster("c", "a", "m/bf16")], told("cheap")) == []
    assert redeclared([cluster("c", "a", "m/bf16")], told()) == []


def test_a_site_that_has_both_variants_declared_is_left_as_it_is() -> None:
    assert redeclared([model("m"), cluster("c", "a", "m/bf16", "m/fp8")], told()) == []


class _Plan:
    def __init__(self, *sites: Site) -> None:
        self.resources: tuple[Any, ...] = sites
        backend = msgspec.defstruct("Backend", [("site", str), ("model", str)])
        self.backends = tuple(backend(one.name, "m") for one in sites)


def rollout(*sites: SiteProgress) -> Rollout:
    version = Version("sha256:" + "1" * 64, "fp8", 1)
    return Rollout(name="r", model="m", reference="h/m", version=version, sites={one.site: one for one in sites})


def test_a_canary_is_compared_with_untouched_sites_of_its_tier_first() -> None:
    there = rollout(SiteProgress(site="a", wave=0, phase="committed", order="commit", was_tried=True))
    plan: Any = _Plan(site("a"), site("b"), site("c", "core"))
    assert control_sites(there, plan) == ["b"]
    assert control_sites(there, _Plan(site("a"), site("c", "core"))) == ["c"]  # type: ignore[arg-type]
    late = rollout(*there.sites.values(), SiteProgress(site="b", wave=0, phase="staged", order="stage"))
    assert control_sites(late, plan) == ["c"]


def test_a_sample_is_what_came_between_two_readings() -> None:
    now = Reading({"a": Counts(100, 20, 5), "b": Counts(7, 0, 0)}, {"a": np.array([3, 2]), "b": np.array([0, 4])})
    then = Reading({"a": Counts(90, 10, 5)}, {"a": np.array([1, 2])})
    sample = sample_of(["a", "b", "c"], now, then, {"a": {"match_share": 1.0}, "z": {}})
    assert (sample.valid, sample.bad, sample.failed, sample.sites) == (27, 10, 0, 3)
    assert sample.ttft == (2, 4)
    assert list(sample.probes) == ["a"]


def test_a_row_that_went_to_another_engine_counts_from_nought() -> None:
    now = Reading({"a": Counts(3, 1, 0)}, {"a": np.array([4, 0])})
    then = Reading({"a": Counts(90, 10, 5)}, {"a": np.array([50, 50])})
    sample = sample_of(["a"], now, then, {})
    assert (sample.valid, sample.bad, sample.ttft) == (4, 1, (4, 0))


def test_times_are_compared_with_sites_of_the_same_tier_and_gpus_only() -> None:
    there = rollout(SiteProgress(site="a", wave=0, phase="committed", order="commit", was_tried=True))
    plan: Any = _Plan(site("a"), site("b"), site("c", "core"), site("d"), site("e"))
    plan.resources += (
        cluster("a", "a", "m/fp8"),
        cluster("b", "b", "m/bf16"),
        cluster("c", "c", "m/bf16"),
        cluster("d", "d", "n/bf16"),
        with_gpu(cluster("e", "e", "m/bf16"), "h100-sxm"),
    )
    assert like_sites(there, plan, ["b", "c", "d", "e"]) == (["a"], ["b"])
    assert like_sites(there, plan, ["c", "d", "e"]) == ([], [])


def test_of_a_mixed_canary_the_kind_with_the_most_sites_is_compared() -> None:
    names = ("a", "b", "c")
    there = rollout(*(SiteProgress(site=name, wave=0, phase="committed", order="commit") for name in names))
    plan: Any = _Plan(*(site(name) for name in "abcdef"))
    slow, fast = [cluster(name, name, "m/fp8") for name in "abd"], [cluster(name, name, "m/fp8") for name in "cef"]
    plan.resources += (*slow, *(with_gpu(one, "h100-sxm") for one in fast))
    assert like_sites(there, plan, ["d", "e", "f"]) == (["a", "b"], ["d"])
    assert like_sites(there, plan, ["e", "f"]) == (["c"], ["e", "f"])


def with_gpu(one: Cluster, gpu: str) -> Cluster:
    return msgspec.structs.replace(one, spec=msgspec.structs.replace(one.spec, gpu=gpu))
