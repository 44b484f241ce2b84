"""Fit: profiles of tables with a known law, summed by hand; refusals; and the measured tables' own numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from operators import DECODES, LinearLaw, linear, measured_folder, tables_of

from gridctl.engine.profile import profile_from
from gridctl.errors import InputError
from gridctl.profiling.fit import FitRequest, fit_profile
from gridctl.profiling.tables import OperatorTables, read_tables
from gridctl.resources import (
    BUILTIN_GPUS,
    Architecture,
    Deployment,
    EngineLimits,
    GpuSpec,
    ModelSpec,
    ProfileSpec,
    Variant,
)
from gridctl.resources.architectures import ARCHITECTURES

SHAPE = Architecture(
    layers=4, hidden_size=256, heads=8, kv_heads=8, head_dim=64, intermediate_size=512, vocab_size=1000
)
"""3,670,016 weights in matrices: at 1 TFLOPS 15,032 µs for 2,048 tokens. A layer's KV: 2,048 bytes a token."""
GPU = GpuSpec(memory_gib=10, bandwidth_gbs=1000, bf16_tflops=1.0, link_gbs=10, link_efficiency=0.5, link_latency_us=20)
DENSE = {
    "qkv_proj": (30.0, 0.3),
    "o_proj": (10.0, 0.1),
    "gate_up_proj": (40.0, 0.7),
    "down_proj": (20.0, 0.4),
    "act_fn": (3.0, 0.02),
    "rotary_emb": (1.0, 0.005),
    "layernorm": (2.0, 0.01),
    "embedding": (4.0, 0.03),
    "final_layernorm": (2.0, 0.01),
}
HEAD = {"lm_head": (5.0, 0.25), "sampler": (10.0, 1.0)}
LAW = LinearLaw()
EXPERTS = Architecture(
    layers=4, hidden_size=256, heads=8, kv_heads=8, head_dim=64, intermediate_size=128, vocab_size=1000,
    experts=16, experts_per_token=2,
)  # fmt: skip
MIXTURE = {name: line for name, line in DENSE.items() if name not in ("gate_up_proj", "down_proj", "act_fn")}
MIXTURE |= {"qkv_proj": (30.0, 1.0), "o_proj": (10.0, 0.4)}


def request(
    shape: Architecture = SHAPE, tensor: int = 1, data: int = 1, dtype: str = "bf16", **limits: object
) -> FitRequest:
    variant = Variant(name=dtype, dtype=dtype)  # type: ignore[arg-type]
    deployment = Deployment(
        variant=f"m/{dtype}", tensor_parallel=tensor, data_parallel=data, engine=EngineLimits(**limits)  # type: ignore[arg-type]
    )  # fmt: skip
    return FitRequest("toy", GPU, ModelSpec(architecture=shape, variants=(variant,)), variant, deployment)


def tables() -> OperatorTables:
    return tables_of(LAW, DENSE, HEAD)


@pytest.fixture(scope="module")
def profile() -> ProfileSpec:
    return fit_profile(tables(), request())


def test_dense_layers_add_up_to_what_a_step_takes(profile: ProfileSpec) -> None:
    """Each of 4 layers: matrices 100 + 1.5·t, activation and rotary 4 + 0.025·t, two norms 4 + 0.02·t and one more for
    the KV write 2 + 0.01·t. Once: 6 + 0.04·t. 40 kernels of 1 µs, 250 µs of the host: 736 + 6.26·t, a line."""
    assert profile.dense == ((1, 742.26), (2048, 13_556.48))


def test_sampling_is_the_sum_of_the_per_sequence_layers(profile: ProfileSpec) -> None:
    assert profile.sample == ((1, 16.25), (128, 175.0))


def test_attention_is_that_of_all_layers_and_longer_where_lengths_differ(profile: ProfileSpec) -> None:
    """4 layers; several sequences take 1 + 0.05·(2.5 − 1) = 1.075 of what equal ones do."""
    assert [row.sequences for row in profile.decode] == list(DECODES)
    for rows, law in ((profile.decode, lambda n, k: LAW(0, 0, n, k)), (profile.mixed, _beside)):
        for row in rows:
            skew = 1.075 if row.sequences > 1 else 1.0
            for kv, time in row.kv:
                assert time == pytest.approx(4 * skew * law(row.sequences, kv), abs=0.001)
    assert profile.cross_ns == pytest.approx(0.0004 * 4 * 1000)


def _beside(decodes: int, kv: int) -> float:
    return LAW.mixed_us + LAW.mixed_per_sequence * decodes + LAW.mixed_per_kv * decodes * kv


def test_prefills_keep_every_measured_chunk(profile: ProfileSpec) -> None:
    expected = [(c, 4 * (5 + 0.2 * c), 4 * (0.001 + 1e-5 * c)) for c in (16, 64, 256, 1024, 2048)]
    for knot, numbers in zip(profile.chunk, expected, strict=True):
        assert (knot.tokens, knot.us, knot.us_per_kv_token) == pytest.approx(numbers)


def test_a_profile_says_its_range_its_error_and_its_source(profile: ProfileSpec) -> None:
    assert (profile.valid.tokens, profile.valid.sequences, profile.valid.kv_tokens) == (2048, 128, 16_384)
    assert profile.error.step == 3.0
    assert max(profile.error.dense_p95, profile.error.attention_p95) < 0.01
    assert (profile.method, profile.source) == ("operators", "fitted from a law")
    told = fit_profile(tables(), replace(request(), source="a laboratory"))
    assert told.source == "a laboratory"


def test_fewer_decodes_than_sequences_bound_the_range() -> None:
    few = {batch: time for batch, time in tables().attention.items() if batch[2] <= 32}
    assert fit_profile(replace(tables(), attention=few), request()).valid.sequences == 32


def test_the_twin_s_tables_are_the_law_at_counts_nobody_measured(profile: ProfileSpec) -> None:
    steps = profile_from(profile, tokens=2048, sequences=128, source="p")
    assert steps.dense_ps[777] / 1e6 == pytest.approx(736 + 6.26 * 777, rel=1e-6)
    assert steps.sample_ps[77] / 1e6 == pytest.approx(15 + 1.25 * 77, rel=1e-6)
    assert steps.chunk_ps[700] / 1e6 == pytest.approx(4 * (5 + 0.2 * 700), rel=1e-6)
    decodes, kv = 48, 3000
    knot, base, slope = [part for part in steps.decode[decodes] if part[0] <= decodes * kv][-1]
    expected = 4 * 1.075 * LAW(0, 0, decodes, kv)
    assert (base + slope * (decodes * kv - knot)) / 1e6 == pytest.approx(expected, rel=1e-4)


def test_tensor_parallelism_adds_two_all_reduces_a_layer() -> None:
    """The tables are of one GPU of the two: 8 × (2·½·t·256·2 bytes over 10 GB/s at 0.5, and 20 µs) on top."""
    halved = {name: (first / 2, each / 2) for name, (first, each) in DENSE.items()}
    two = fit_profile(tables_of(LinearLaw(decode_per_kv=0.001), halved, {"lm_head": (3.0, 0.1)}), request(tensor=2))
    for count, time in two.dense:
        layers = 446 / 2 + 6.26 / 2 * count
        assert time == pytest.approx(layers + 40 + 250 + 8 * (count * 512 / 5e3 + 20), abs=0.01)


def test_experts_come_from_the_specification_and_small_kernels_take_a_norm_each() -> None:
    """Of 16 experts 16·(1 − (7/8)^t) are read, 98,304 weights each in 4 layers, at 0.95·0.8 of 1 TB/s; their FLOPs at
    0.75 TFLOPS, of which 0.7 are not hidden; 14 kernels a layer, and a norm's time for each of 5 small ones."""
    fitted = fit_profile(tables_of(LAW, MIXTURE, HEAD), request(EXPERTS))
    for count, time in fitted.dense:
        layers = 4 * ((30 + 10 + 1 + 4 + 5 * 2) + (1.0 + 0.4 + 0.005 + 0.02 + 5 * 0.01) * count) + 6 + 0.04 * count
        read = 16 * (1 - (7 / 8) ** count) * 4 * 98_304 * 2 / (0.95 * 0.8e12) * 1e6
        multiplied = 2 * 4 * 98_304 * 2 * count * 0.7 / 0.75e12 * 1e6
        assert time == pytest.approx(layers + read + multiplied + 14 * 4 + 250, abs=0.01)


def test_data_parallel_ranks_step_together() -> None:
    """Two ranks of 8 sequences and 64 tokens: a step of t ≤ 16 tokens is decodes, half on each rank; above, one rank
    holds a prefill while the other decodes 8, up to its 64. Rows count sequences over both ranks."""
    limits = {"max_num_seqs": 8, "max_num_batched_tokens": 64}
    fitted = fit_profile(tables_of(LAW, MIXTURE, HEAD), request(EXPERTS, data=2, **limits))
    assert [row.sequences for row in fitted.decode] == [2 * count for count in DECODES]
    assert (fitted.valid.tokens, fitted.valid.sequences) == (4096, 256)
    assert fitted.cross_ns == pytest.approx(0.0004 * 4 * 1000 / 2)
    at, times = zip(*fitted.dense, strict=True)
    for tokens, fullest in ((2, 1), (10, 5), (16, 8), (40, 32), (72, 64), (128, 64), (1000, 500)):
        rank = 4 * (55 + 1.475 * fullest) + 6 + 0.04 * fullest
        read = 16 * (1 - (7 / 8) ** tokens) * 4 * 98_304 * 2 / (0.95 * 0.8e12) / 2 * 1e6
        multiplied = 2 * 4 * 98_304 * 2 * tokens * 0.7 / 0.75e12 / 2 * 1e6
        gathered = 4 * (2 * fullest * 512 / 5e3 + 3 * 20)
        expected = rank + read + multiplied + gathered + 56 + 250 + 500
        assert np.interp(tokens, at, times) == pytest.approx(expected, rel=0.005)


@pytest.mark.parametrize(("ranks", "largest"), [(2, 0.5642), (3, 0.8463), (4, 1.0294), (8, 1.4236), (16, 1.7660)])
def test_the_rank_with_most_kv_sets_the_pace(ranks: int, largest: float) -> None:
    """Expected largest of so many normal draws (Harter 1961, table 1), times 0.7/√n, within 5 %."""
    fitted = fit_profile(tables_of(LAW, MIXTURE, HEAD), request(EXPERTS, data=ranks))
    row = next(row for row in fitted.decode if row.sequences == 64 * ranks)
    excess = row.kv[-1][1] / (4 * 1.075 * LAW(0, 0, 64, 16_384)) - 1
    assert excess == pytest.approx(largest * 0.7 / math.sqrt(64), rel=0.05)


def scaled(found: OperatorTables, factor: float, *parts: str) -> OperatorTables:
    """The tables with some of their times in another unit."""

    def curves(layers: dict[str, dict[int, float]]) -> dict[str, dict[int, float]]:
        return {name: {count: time * factor for count, time in curve.items()} for name, curve in layers.items()}

    attention = {batch: time * factor for batch, time in found.attention.items()}
    return replace(
        found,
        attention=attention if "attention" in parts else found.attention,
        dense=curves(found.dense) if "dense" in parts else found.dense,
        per_sequence=curves(found.per_sequence) if "per_sequence" in parts else found.per_sequence,
    )


@pytest.mark.parametrize("factor", [1000.0, 0.001])
@pytest.mark.parametrize(
    "parts", [("attention",), ("dense",), ("per_sequence",), ("attention", "dense", "per_sequence")], ids="+".join
)
def test_units_off_by_a_thousand_are_refused_wherever_they_are(factor: float, parts: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="by its specification toy needs") as caught:
        fit_profile(scaled(tables(), factor, *parts), request())
    assert caught.value.where == "a law"
    assert "microseconds of one layer" in str(caught.value.fix)


def test_the_range_of_what_is_possible_is_said_in_microseconds() -> None:
    """0.8 of 15,032 µs at the full rate; four times that and ten for each of 16 kernels."""
    with pytest.raises(InputError, match=r"needs 12,026 to 60,770 µs"):
        fit_profile(scaled(tables(), 1000.0, "dense"), request())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda found: found.dense.pop("down_proj"), "has no down_proj"),
        (lambda found: found.dense.pop("qkv_proj"), "has no qkv_proj"),
        (lambda found: found.per_sequence.pop("lm_head"), "has no lm_head"),
    ],
)
def test_a_layer_the_model_runs_must_be_there(change: Callable[[OperatorTables], object], says: str) -> None:
    found = tables()
    change(found)
    with pytest.raises(InputError, match=says):
        fit_profile(found, request())


def test_tables_of_a_dense_model_are_no_mixture_s() -> None:
    with pytest.raises(InputError, match="gate_up_proj, but this model's MLPs are experts"):
        fit_profile(tables(), request(EXPERTS))


def test_dense_knots_lose_less_than_their_tolerance() -> None:
    """Tile steps: a time that jumps by 10 µs every 128 tokens comes back within 0.4 % at every measured count."""
    counts = (1, *range(16, 2049, 16))
    jumping = {count: 700 + 6 * count + 10.0 * (count // 128) for count in counts}
    found = tables()
    dense = {name: linear(*line, counts) for name, line in DENSE.items()} | {"embedding": jumping}
    fitted = fit_profile(replace(found, dense=dense), request())
    at, times = zip(*fitted.dense, strict=True)
    rest = 736 + 6.26 * np.array(counts) - (4 + 0.03 * np.array(counts))
    measured = rest + np.array([jumping[count] for count in counts])
    assert np.max(np.abs(np.interp(counts, at, times) / measured - 1)) <= 0.004


def real_tables(model: str, parallel: int) -> OperatorTables:
    names = (f"op_rtxpro6000_{model}_tp{parallel}_{part}.csv.gz" for part in ("attention", "dense", "per_sequence"))
    return read_tables(*(Path(measured_folder() / name) for name in names))


def real_request(name: str, gpu: str, parallel: int) -> FitRequest:
    variant = Variant(name="bf16")
    model = ModelSpec(architecture=ARCHITECTURES[name], variants=(variant,))
    deployment = Deployment(variant="m/bf16", tensor_parallel=parallel)
    return FitRequest(gpu, BUILTIN_GPUS[gpu].spec, model, variant, deployment)


@pytest.mark.parametrize(
    ("name", "gpu", "parallel"),
    [
        ("qwen3-32b", "rtx-pro-6000", 1),
        ("llama-3.1-70b", "rtx-pro-6000", 1),
        ("llama-3.1-8b", "l4", 1),
        ("llama-3.1-8b", "rtx-4090", 1),
        ("qwen3-30b-a3b", "rtx-pro-6000", 1),
    ],
)
def test_measured_tables_are_not_a_larger_model_s_nor_a_slower_gpu_s(name: str, gpu: str, parallel: int) -> None:
    with pytest.raises(InputError):
        fit_profile(real_tables("Llama-3.1-8B", 1), real_request(name, gpu, parallel))


def test_tables_of_half_a_layer_are_not_those_of_a_whole_one() -> None:
    with pytest.raises(InputError, match="matrices of 2,048 tokens"):
        fit_profile(real_tables("Llama-3.1-8B", 2), real_request("llama-3.1-8b", "rtx-pro-6000", 1))


@pytest.mark.parametrize("hidden", [3, 4])
def test_dense_counts_left_out_of_a_measured_table_are_predicted(hidden: int) -> None:
    """Every n-th inner count left out. Between tile sizes the real curve jumps, so single counts may be off by more."""
    found = real_tables("Llama-3.1-8B", 1)
    gone = set(found.tokens[1:-1:hidden])
    dense = {name: {t: time for t, time in curve.items() if t not in gone} for name, curve in found.dense.items()}
    asked = real_request("llama-3.1-8b", "rtx-pro-6000", 1)
    at, times = zip(*fit_profile(replace(found, dense=dense), asked).dense, strict=True)
    layers = {"embedding": 1, "final_layernorm": 1, "layernorm": 64 + 32}  # 32 norms stand for the KV write
    errors = []
    for count in sorted(gone):
        kernels = sum(layers.get(name, 32) * curve[count] for name, curve in found.dense.items())
        errors.append(abs(np.interp(count, at, times) / (kernels + 320 + 250) - 1))
    assert np.median(errors) < 0.02
    assert np.percentile(errors, 90) < 0.08
