"""Profiles of a grid: declared ones first, only those of this very engine, and what is wrong with a declared one."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from smallgrids import SHAPE, cluster, deployment, gpu, limits, model, named, site

from gridctl.errors import InputError
from gridctl.grid.check import check_grid
from gridctl.grid.profiles import find_profile, mismatch, profile_named
from gridctl.grid.view import GridView
from gridctl.manifest.shipped import shipped_profiles
from gridctl.resources import (
    BUILTIN_GPUS,
    Architecture,
    ChunkKnot,
    DecodeRow,
    Deployment,
    Model,
    Profile,
    ProfileRange,
    ProfileSpec,
    Resource,
    Variant,
)
from gridctl.resources.architectures import ARCHITECTURES

LLAMA = "rtx-pro-6000.llama-3.1-8b.bf16.tp1"


def profile(name: str = "p", **spec: object) -> Profile:
    given = {
        "gpu": "toy",
        "architecture": SHAPE,
        "valid": ProfileRange(tokens=256, sequences=128, kv_tokens=4096),
        "dense": ((1, 100.0), (256, 400.0)),
        "sample": ((1, 10.0), (128, 20.0)),
        "decode": (DecodeRow(sequences=1, kv=((0, 5.0), (4096, 50.0))),),
        "chunk": (ChunkKnot(tokens=1, us=1.0, us_per_kv_token=0.1),),
    } | spec
    return Profile(metadata=named(name), spec=ProfileSpec(**given))  # type: ignore[arg-type]


def found(*profiles: Profile, asked: Deployment | None = None, of: Model | None = None, on: str = "toy") -> str:
    """The name of the profile an engine gets; empty for a roofline."""
    served = of or model()
    view = GridView([gpu(), served, *profiles])
    chosen = find_profile(view, on, served, served.spec.variants[0], asked or deployment())
    return chosen.name if chosen else ""


def real_model(name: str, **changes: object) -> Model:
    shape = msgspec.structs.replace(ARCHITECTURES[name], **changes)
    spec = msgspec.structs.replace(model().spec, architecture=shape, variants=(Variant(name="bf16"),))
    return Model(metadata=named("whatever-it-is-called"), spec=spec)


def test_without_a_profile_there_is_a_roofline() -> None:
    assert found() == ""


def test_the_first_declared_profile_that_fits_is_used() -> None:
    other = profile("a", gpu="l4")
    assert found(profile("c"), profile("b"), other) == "b"


def test_the_one_a_deployment_names_goes_before_the_first() -> None:
    asked = msgspec.structs.replace(deployment(), profile="c")
    assert found(profile("b"), profile("c"), asked=asked) == "c"


def test_a_shipped_profile_is_found_by_the_numbers_of_the_model_not_by_its_name() -> None:
    assert found(of=real_model("llama-3.1-8b"), on="rtx-pro-6000") == LLAMA


def test_a_declared_profile_goes_before_a_shipped_one() -> None:
    own = profile("own", gpu="rtx-pro-6000", architecture=ARCHITECTURES["llama-3.1-8b"])
    assert found(own, of=real_model("llama-3.1-8b"), on="rtx-pro-6000") == "own"


def test_a_declared_profile_of_a_shipped_name_stands_for_it() -> None:
    own = profile(LLAMA)
    assert profile_named(GridView([own]), LLAMA) is own
    assert profile_named(GridView([]), LLAMA) is shipped_profiles()[LLAMA]
    assert profile_named(GridView([]), "none") is None


@pytest.mark.parametrize(
    ("field", "value"),
    [(name, 1 if name != "tied_embeddings" else True) for name in Architecture.__struct_fields__],
)
def test_every_number_of_the_architecture_counts(field: str, value: object) -> None:
    assert found(of=real_model("llama-3.1-8b", **{field: value}), on="rtx-pro-6000") == ""


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"gpu": "l4"}, "its gpu is l4, the deployment's toy"),
        ({"dtype": "fp8"}, "its dtype is fp8, the deployment's bf16"),
        ({"kv_cache_dtype": "fp8"}, "its kv_cache_dtype is fp8, the deployment's auto"),
        ({"tensor_parallel": 2}, "its tensor_parallel is 2, the deployment's 1"),
        ({"data_parallel": 2}, "its data_parallel is 2, the deployment's 1"),
        (
            {"architecture": msgspec.structs.replace(SHAPE, layers=5)},
            "it is of another model: layers is 5, that of m 4",
        ),
    ],
)
def test_what_does_not_fit_is_said(spec: dict[str, object], reason: str) -> None:
    one = profile(**spec)
    served = model()
    assert mismatch(one, "toy", served, served.spec.variants[0], deployment()) == reason
    assert found(one) == ""


def test_what_fits_has_nothing_to_say() -> None:
    served = model()
    assert mismatch(profile(), "toy", served, served.spec.variants[0], deployment()) == ""


def test_every_shipped_profile_is_sound_and_of_a_known_gpu_and_model() -> None:
    shipped = shipped_profiles()
    assert list(shipped) == sorted(shipped)
    check_grid(list(shipped.values()))
    for one in shipped.values():
        assert one.spec.gpu in BUILTIN_GPUS
        assert one.spec.architecture in ARCHITECTURES.values()
        assert "MIT" in one.spec.source


def grid_of(*extra: Resource, named_profile: str | None = None, on: str = "toy") -> Sequence[Resource]:
    asked = msgspec.structs.replace(deployment(), profile=named_profile)
    return [site("paris", tier="core"), gpu(), model(), cluster("paris-gpu", "paris", asked, gpu=on), *extra]


def refused(resources: Sequence[Resource]) -> InputError:
    with pytest.raises(InputError) as caught:
        check_grid(resources)
    assert caught.value.where
    assert caught.value.fix
    return caught.value


def test_a_deployment_may_name_the_profile_of_its_engine() -> None:
    check_grid(grid_of(profile("p"), named_profile="p"))


def test_a_deployment_that_names_a_missing_profile_is_refused_with_the_nearest() -> None:
    error = refused(grid_of(profile("toy-profile"), named_profile="toy-profil"))
    assert (error.what, error.fix) == ("profile toy-profil does not exist", "did you mean toy-profile?")
    assert error.where == "cluster paris-gpu, spec.deployments[0].profile"
    shipped = refused(grid_of(named_profile=LLAMA + "1"))
    assert f"did you mean {LLAMA}" in shipped.fix


def test_a_deployment_that_names_another_engine_s_profile_is_refused_with_the_reason() -> None:
    error = refused(grid_of(named_profile=LLAMA))
    assert error.what == (
        f"profile {LLAMA} was not measured on this engine: its gpu is rtx-pro-6000, the deployment's toy"
    )


@pytest.mark.parametrize(
    ("spec", "where"),
    [
        ({"dense": ((1, 100.0), (1, 200.0))}, "spec.dense"),
        ({"dense": ((256, 100.0), (1, 200.0))}, "spec.dense"),
        ({"dense": ((1, 200.0), (256, 100.0))}, "spec.dense"),
        ({"sample": ((1, 20.0), (8, 10.0))}, "spec.sample"),
        ({"decode": (DecodeRow(sequences=1, kv=((0, 9.0), (16, 8.0))),)}, "spec.decode[0].kv"),
        ({"decode": tuple(DecodeRow(sequences=n, kv=((0, 9.0),)) for n in (2, 1))}, "spec.decode"),
        ({"mixed": (DecodeRow(sequences=1, kv=((16, 9.0), (16, 10.0))),)}, "spec.mixed[0].kv"),
        ({"chunk": tuple(ChunkKnot(tokens=n, us=1.0 / n, us_per_kv_token=0.0) for n in (1, 2))}, "spec.chunk"),
    ],
)
def test_knots_that_fall_are_refused_where_they_are(spec: dict[str, object], where: str) -> None:
    error = refused([profile("p", **spec)])
    assert error.what.startswith("the curve falls or repeats a count")
    assert error.where == f"profile p, {where}"


def test_a_step_that_takes_no_time_is_refused() -> None:
    assert "would never end" in refused([profile("p", dense=((1, 0.0), (256, 1.0)))]).what


def test_a_slope_that_no_clock_could_count_is_refused() -> None:
    """From 1 µs at 1 token to 1,000 s at 2: the next 65,534 tokens take as long each."""
    error = refused([profile("p", dense=((1, 1.0), (2, 1e9)))])
    assert error.what.startswith("a step of 65,536 tokens would take 65,53")


def test_ranks_of_a_dense_model_are_refused() -> None:
    asked = msgspec.structs.replace(deployment(), data_parallel=2)
    error = refused([site("paris", tier="core"), gpu(), model(), cluster("c", "paris", asked)])
    assert error.what == "data_parallel is 2, but m has no experts to share"
    assert "replicas" in error.fix


def test_ranks_that_cannot_hold_the_model_are_refused_with_the_sum_over_all_of_them() -> None:
    """Qwen3-30B-A3B on two 24 GiB GPUs at 0.9: 43.2 GiB usable. Experts 48·128·3·2048·768 weights, 54.0 GiB, are
    shared; attention 48·2048·(128·40 + 4096) and two vocabularies 2·151,936·2048, in all 2.84 GiB, on both ranks."""
    mixture = real_model("qwen3-30b-a3b")
    asked = Deployment(variant="whatever-it-is-called/bf16", data_parallel=2, engine=limits(gpu_memory_utilization=0.9))
    error = refused([site("paris", tier="core"), mixture, cluster("c", "paris", asked, gpu="l4")])
    assert "does not fit 2 × l4: 43.2 GiB usable − 59.7 weights − 4.0 working = -20.5 GiB for KV cache" in error.what
