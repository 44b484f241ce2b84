"""What makes resources no grid: every inconsistency is an InputError that says where it is and what to do."""

from __future__ import annotations

import pytest
from smallgrids import (
    KV_BYTES_PER_TOKEN,
    SHAPE,
    api,
    as_policy,
    cluster,
    deployment,
    gpu,
    model,
    named,
    price_book,
    site,
    workload,
)

from gridctl.errors import InputError
from gridctl.grid.check import check_grid
from gridctl.resources import (
    Gate,
    GateSpec,
    Gpu,
    GpuSpec,
    Link,
    LinkSpec,
    PolicySpec,
    Resource,
    Serverless,
    Telemetry,
    Variant,
)


def sound() -> list[Resource]:
    return [gpu(), model(), site("paris"), cluster("paris-gpu", "paris"), workload()]


def complaint(*changed: Resource) -> InputError:
    """The one error of the sound grid with these resources in place of, or beside, its own."""
    names = {(type(one), one.name) for one in changed}
    kept = [one for one in sound() if (type(one), one.name) not in names]
    with pytest.raises(InputError) as raised:
        check_grid([*kept, *changed])
    assert raised.value.related == (), [error.what for error in raised.value.related]
    return raised.value


def test_a_sound_grid_passes() -> None:
    check_grid(sound())
    check_grid([])
    check_grid([site("paris"), workload(models=("m",)), model()])  # no clusters yet


def test_a_cluster_at_a_site_that_does_not_exist() -> None:
    error = complaint(cluster("paris-gpu", "pariss"))
    assert error.what == "site pariss does not exist"
    assert error.where == "cluster paris-gpu, spec.site"
    assert error.fix == "did you mean paris?"


def test_a_gpu_nobody_declared() -> None:
    error = complaint(cluster("paris-gpu", "paris", gpu="h1000-sxm"))
    assert error.what == "gpu h1000-sxm does not exist"
    assert error.fix == "did you mean h100-sxm?"


def test_built_in_gpus_need_no_declaration() -> None:
    check_grid([model(), site("paris"), cluster("paris-gpu", "paris", gpu="l4"), workload()])


def test_a_deployment_of_a_variant_that_does_not_exist() -> None:
    error = complaint(cluster("paris-gpu", "paris", deployment("m/bf61")))
    assert error.what == "model variant m/bf61 does not exist"
    assert error.where == "cluster paris-gpu, spec.deployments[0].variant"
    assert error.fix == "did you mean m/bf16?"


def test_deployments_that_need_more_gpus_than_there_are() -> None:
    wide = deployment(replicas=2, tensor_parallel=2)
    error = complaint(cluster("paris-gpu", "paris", wide, deployment(), gpus=4))
    assert error.what == "its deployments need 5 GPUs, it has 4"


def test_a_batch_budget_below_the_sequences() -> None:
    error = complaint(cluster("paris-gpu", "paris", deployment(max_num_seqs=64, max_num_batched_tokens=63)))
    assert "max_num_batched_tokens 63 is below max_num_seqs 64" in error.what
    enough = cluster("paris-gpu", "paris", deployment(max_num_seqs=64, max_num_batched_tokens=64))
    check_grid([*sound()[:3], enough, workload()])


def test_a_model_without_a_variant_for_its_gpu_memory() -> None:
    huge = Variant(name="bf16", weight_gib=700.0, quality=0.8)
    error = complaint(model("m", huge))
    assert error.what.startswith("m/bf16 does not fit 1 × toy: ")
    assert "700.0 weights" in error.what
    assert error.where == "cluster paris-gpu, spec.deployments[0]"
    assert error.fix == "no variant of this model fits up to 8 of these GPUs: add a smaller variant"


def test_a_variant_that_fits_more_gpus_or_a_smaller_variant_is_named_as_the_way_out() -> None:
    """8 GiB a GPU less 2 of workspace: 20 GiB of weights fit four of them, and not two."""
    eight = Gpu(metadata=named("toy"), spec=GpuSpec(memory_gib=8.0, bandwidth_gbs=100.0, bf16_tflops=10.0))
    large, small = Variant(name="bf16", weight_gib=20.0, quality=0.8), Variant(name="int8", weight_gib=3.0)
    assert complaint(eight, model("m", large)).fix == "deploy m/bf16 with tensor_parallel: 4, on at least 4 GPUs"
    assert complaint(eight, model("m", large, small)).fix == "deploy m/int8 with tensor_parallel: 1"


def test_kv_memory_must_hold_2048_tokens_to_the_block() -> None:
    """Memory = 2 GiB of workspace + weights + activations (256 batched tokens · 256 wide · 2 bytes · 8) + KV."""
    activations = 256 * SHAPE.hidden_size * 2 * 8
    for tokens, fits in ((2048, True), (2047, False)):
        needed = 2 * 2**30 + 2**27 + activations + tokens * KV_BYTES_PER_TOKEN
        # a quarter byte more than needed survives the way through GiB
        tight = Gpu(
            metadata=named("toy"),
            spec=GpuSpec(memory_gib=(needed + 0.25) / 2**30, bandwidth_gbs=100.0, bf16_tflops=10.0),
        )
        resources = [tight, *sound()[1:]]
        if fits:
            check_grid(resources)
        else:
            with pytest.raises(InputError, match="does not fit"):
                check_grid(resources)


def functions(*variants: str, memory_gib: float = 16.0) -> Serverless:
    return Serverless(variants=variants, memory_gib=memory_gib)


def test_functions_of_a_variant_that_does_not_exist_or_is_too_large() -> None:
    error = complaint(site("paris", serverless=functions("m/bf17")))
    assert error.where == "site paris, spec.serverless.variants[0]"
    assert error.fix == "did you mean m/bf16?"
    roomy = Variant(name="bf16", weight_gib=4.0, quality=0.8)
    check_grid([*sound()[:1], model("m", roomy), site("paris", serverless=functions("m/bf16", memory_gib=5.0))])
    with pytest.raises(InputError, match=r"m/bf16 takes 4\.0 GiB, an instance has 4\.9 GiB"):
        check_grid([model("m", roomy), site("paris", serverless=functions("m/bf16", memory_gib=4.9))])


def test_links_to_sites_that_do_not_exist() -> None:
    error = complaint(Link(metadata=named("l"), spec=LinkSpec(source="paris", target="rome", rtt_ms=3.0)))
    assert (error.what, error.where) == ("site rome does not exist", "link l, spec.target")


def test_links_that_contradict_each_other_or_lead_nowhere() -> None:
    there = Link(metadata=named("there"), spec=LinkSpec(source="paris", target="lyon", rtt_ms=3.0))
    back = Link(metadata=named("back"), spec=LinkSpec(source="lyon", target="paris", rtt_ms=4.0))
    loop = Link(metadata=named("loop"), spec=LinkSpec(source="paris", target="paris", rtt_ms=4.0))
    assert "already measures" in complaint(site("lyon"), there, back).what
    assert "itself" in complaint(loop).what


def test_a_fallback_gate_or_workload_that_names_what_does_not_exist() -> None:
    assert complaint(price_book(api(model="mm"))).what == "model mm does not exist"
    gate = Gate(metadata=named("g"), spec=GateSpec(metric="attainment", op=">", value=0.9, workload="chatt"))
    assert complaint(gate).fix == "did you mean chat?"
    assert complaint(workload(models=("m", "n"))).what == "model n does not exist"


def test_a_country_that_does_not_exist() -> None:
    assert "ZZ" in complaint(site("paris", "ZZ")).what


def test_a_price_for_a_gpu_that_does_not_exist() -> None:
    """A mistyped name would silently leave the built-in price in force."""
    assert "l40" in complaint(price_book(gpu_hour_usd={"l40": 3.0})).what


def test_a_model_whose_variants_share_a_name() -> None:
    twice = model("m", Variant(name="bf16", weight_gib=0.1), Variant(name="bf16", weight_gib=0.2))
    assert "bf16" in complaint(twice).what


def test_telemetry_that_arrives_after_the_next_scrape() -> None:
    stale = as_policy(PolicySpec(telemetry=Telemetry(period_ms=100.0, delay_ms=101.0)))
    assert "delay_ms 101 is above period_ms 100" in complaint(stale).what
    check_grid([*sound(), as_policy(PolicySpec(telemetry=Telemetry(period_ms=100.0, delay_ms=100.0)))])


@pytest.mark.parametrize(
    ("strict", "why"),
    [
        ({"models": ("n",)}, "no deployment of n"),
        ({"quality_floor": 0.81}, "no deployed variant reaches quality 0.81"),
        ({"rule": "listed", "allow": ("US", "CH")}, "no deployment inside US, CH"),
    ],
)
def test_a_workload_that_no_site_may_serve(strict: dict, why: str) -> None:
    with pytest.raises(InputError) as raised:
        check_grid([*sound()[:-1], model("n"), workload(**strict)])
    assert raised.value.what == f"no site may serve it: {why}"
    assert raised.value.where == "workload chat"


def test_an_unmeasured_variant_reaches_no_quality_floor() -> None:
    unmeasured = model("m", Variant(name="bf16", weight_gib=0.1))
    check_grid([*sound(), unmeasured])
    assert "quality" in complaint(unmeasured, workload(quality_floor=0.01)).what


def test_a_rule_that_lists_nowhere() -> None:
    assert "allows nowhere" in complaint(workload(rule="listed")).what


@pytest.mark.parametrize("allow", ["FR", "EU"])
def test_a_list_may_name_the_country_or_its_jurisdiction(allow: str) -> None:
    check_grid([*sound()[:-1], workload(rule="listed", allow=(allow,))])


def test_a_site_with_its_own_jurisdiction_is_not_in_that_of_its_country() -> None:
    sovereign = site("paris", jurisdiction="FR-GOV")
    check_grid([*sound(), sovereign, workload(rule="listed", allow=("FR-GOV",))])
    assert "no deployment inside EU" in complaint(sovereign, workload(rule="listed", allow=("EU",))).what


def test_functions_may_serve_a_workload_too() -> None:
    tiny = model("n")
    check_grid([*sound()[:-1], tiny, site("lyon", serverless=functions("n/bf16")), workload(models=("n",))])


def test_every_error_of_a_grid_is_reported_at_once() -> None:
    with pytest.raises(InputError) as raised:
        check_grid(
            [
                *sound(),
                cluster("c1", "nowhere"),
                cluster("c2", "paris", deployment("no/ne")),
                Link(metadata=named("l"), spec=LinkSpec(source="x", target="y", rtt_ms=1.0)),
            ]
        )
    assert len([raised.value, *raised.value.related]) == 4
