"""Step profiles of a grid: what engines share, and what a run must say its step times rest on."""

from __future__ import annotations

import msgspec
import pytest
from smallgrids import cluster, deployment, gpu, model, named, site

from gridctl.engine.profile import StepProfile
from gridctl.grid.image import build_image
from gridctl.grid.stepprofiles import StepProfiles, context_notes
from gridctl.grid.view import GridView
from gridctl.resources import ChunkKnot, DecodeRow, FitError, Model, Profile, ProfileRange, ProfileSpec, Serverless


def profile(name: str = "p", **spec: object) -> Profile:
    given = {
        "gpu": "toy",
        "architecture": model().spec.architecture,
        "valid": ProfileRange(tokens=256, sequences=128, kv_tokens=4096),
        "error": FitError(step=7.0),
        "dense": ((1, 100.0), (256, 355.0)),
        "sample": ((1, 10.0), (128, 10.0)),
        "decode": (DecodeRow(sequences=1, kv=((0, 5.0), (4000, 45.0))),),
        "chunk": (ChunkKnot(tokens=1, us=1.0, us_per_kv_token=0.1),),
    } | spec
    return Profile(metadata=named(name), spec=ProfileSpec(**given))  # type: ignore[arg-type]


def profiles_of(*resources: object) -> tuple[StepProfiles, Model]:
    served = model()
    return StepProfiles(GridView([gpu(), served, *resources])), served  # type: ignore[list-item]


def one_of(profiles: StepProfiles, served: Model, **engine: object) -> StepProfile:
    return profiles.of_cluster("toy", served, served.spec.variants[0], deployment(**engine))


def test_a_measured_engine_takes_what_its_profile_says() -> None:
    """The line from (1, 100 µs) to (256, 355 µs): 100 tokens take 199 µs."""
    profiles, served = profiles_of(profile())
    steps = one_of(profiles, served)
    assert steps.dense_ps[100] == 199_000_000
    assert (steps.source, steps.sigma, steps.longest_kv) == ("p", 0.07, 4096)
    assert len(steps.dense_ps) == 257
    assert list(profiles.notes()) == []


def test_equal_engines_share_one_table_and_others_do_not() -> None:
    profiles, served = profiles_of(profile())
    assert one_of(profiles, served) is one_of(profiles, served, replicas=3)
    assert one_of(profiles, served) is not one_of(profiles, served, max_num_seqs=64)
    assert one_of(profiles, served).source == one_of(profiles, served, max_num_seqs=64).source


def test_clusters_of_one_engine_type_share_one_table() -> None:
    clusters = [cluster(f"{name}-gpu", name, deployment(replicas=2)) for name in ("paris", "lyon")]
    image = build_image([site("paris", tier="core"), site("lyon"), gpu(), model(), *clusters, profile()])
    tables = {id(engine.spec.profile) for engine in image.engines}
    assert (len(image.engines), len(tables)) == (4, 1)


def test_a_roofline_is_named_as_not_measured() -> None:
    profiles, served = profiles_of()
    assert one_of(profiles, served).source == "roofline"
    profiles.of_cluster("toy", served, served.spec.variants[0], deployment(tensor_parallel=2))
    assert list(profiles.notes()) == [
        "step times from rooflines, not measured: m/bf16 on 1 toy, m/bf16 on 2 toy; see: gridctl help accuracy"
    ]


def test_a_note_names_an_engine_type_once_and_counts_the_measured_ones() -> None:
    profiles, served = profiles_of(profile())
    for sequences in (8, 16):
        profiles.of_cluster(
            "toy", served, served.spec.variants[0], deployment(tensor_parallel=2, max_num_seqs=sequences)
        )
    one_of(profiles, served)
    assert list(profiles.notes()) == [
        "step times from rooflines, not measured: m/bf16 on 2 toy (1 other engine types are measured);"
        " see: gridctl help accuracy"
    ]


def test_limits_beyond_the_measured_range_are_told() -> None:
    profiles, served = profiles_of(profile())
    one_of(profiles, served, max_num_batched_tokens=512, max_num_seqs=200)
    assert list(profiles.notes()) == [
        "outside the measured range, extrapolated: m/bf16 on 1 toy: steps of 512 tokens, profile p covers 256",
        "outside the measured range, extrapolated: m/bf16 on 1 toy: steps of 200 sequences, profile p covers 128",
    ]


def test_beyond_the_range_the_last_slope_goes_on() -> None:
    """1 µs a token beyond 256 tokens: 512 take 355 + 256."""
    profiles, served = profiles_of(profile())
    assert one_of(profiles, served, max_num_batched_tokens=512).dense_ps[512] == 611_000_000


def test_the_named_profile_is_the_one_used() -> None:
    profiles, served = profiles_of(profile("a"), profile("b"))
    asked = msgspec.structs.replace(deployment(), profile="b")
    assert profiles.of_cluster("toy", served, served.spec.variants[0], asked).source == "b"
    assert one_of(profiles, served).source == "a"


def test_functions_are_rooflines_and_no_note() -> None:
    """A function's times are a declared bandwidth's, which the operator gave; equal functions share one table."""
    profiles, served = profiles_of()
    cpu = Serverless(variants=("m/bf16",))
    first = profiles.of_function(served, served.spec.variants[0], cpu, 512)
    assert first is profiles.of_function(served, served.spec.variants[0], cpu, 512)
    assert list(profiles.notes()) == []


@pytest.mark.parametrize(("longest", "told"), [(4096, False), (4097, True)])
def test_requests_longer_than_measured_are_told(longest: int, told: bool) -> None:
    profiles, served = profiles_of(profile())
    steps = [one_of(profiles, served), one_of(profiles, served, max_num_seqs=8), None]
    said = list(context_notes(steps, longest))
    expected = "outside the measured range, extrapolated: requests of up to 4,097 tokens, profile p covers 4,096"
    assert said == ([expected] if told else [])


def test_a_roofline_has_no_range_to_leave() -> None:
    profiles, served = profiles_of()
    assert list(context_notes([one_of(profiles, served)], 10**9)) == []
