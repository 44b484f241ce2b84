"""Step-time tables by hand: weights over bandwidth, experts touched, GPUs shared, tables padded."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from handmade import BF16, LLAMA_8B, ONE_GB_PER_SECOND, TINY_EXPERTS, deployment

from gridctl.engine.profile import FAR, StepProfile, cpu_roofline, roofline, stack_profiles
from gridctl.resources import BUILTIN_GPUS, ModelSpec, Serverless, Variant

RTX_PRO_6000 = BUILTIN_GPUS["rtx-pro-6000"].spec
PS_PER_NS = 1000


def test_a_decode_step_of_llama_8b_takes_its_weights_over_the_bandwidth() -> None:
    """13,958,643,712 bytes at 0.82 · 1,792 GB/s are 9.4992947735 ms, and a quarter of one for the step; the LM head's
    1,050,673,152 bytes take 0.715016028 ms; 131,072 bytes of KV 89,199 ps; 4·32·32·128 FLOPs of a token pair at
    0.86 · 467.8 TFLOPS 1303.2 ps."""
    profile = roofline(LLAMA_8B, BF16, RTX_PRO_6000, deployment())
    assert profile.dense_ps[1] == 9_499_294_774 + 250_000_000
    assert profile.sample_ps[0] == 0
    assert profile.sample_ps[1] == 715_016_028
    assert profile.kv == ((0, 0, 89_199),)
    assert profile.pair_fs == 1_303_201
    assert profile.source == "roofline"


def test_a_full_prefill_step_is_bound_by_arithmetic() -> None:
    """2048 · 13,958,643,712 FLOPs at 402.308 TFLOPS are 71.0582 ms."""
    profile = roofline(LLAMA_8B, BF16, RTX_PRO_6000, deployment())
    assert len(profile.dense_ps) == 2049
    assert profile.dense_ps[2048] == pytest.approx(71.0582e9 + 0.25e9, rel=1e-5)


def test_the_ridge_is_where_bytes_and_flops_take_equally_long() -> None:
    """In bf16 the FLOPs of a token equal the bytes of the weights, so the ridge is rate over bandwidth:
    402,308 / 1,469.44 = 273.8 tokens."""
    dense = roofline(LLAMA_8B, BF16, RTX_PRO_6000, deployment()).dense_ps
    assert dense[273] == dense[1]
    assert dense[274] > dense[1]


@pytest.mark.parametrize("model", [LLAMA_8B, TINY_EXPERTS])
@pytest.mark.parametrize("parallel", [1, 2])
def test_more_tokens_never_take_less_time(model: ModelSpec, parallel: int) -> None:
    profile = roofline(model, BF16, RTX_PRO_6000, deployment(tensor_parallel=parallel))
    assert (np.diff(profile.dense_ps) >= 0).all()
    assert (np.diff(profile.sample_ps) >= 0).all()


@pytest.mark.parametrize(("tokens", "expert_weights"), [(1, 98_304), (2, 172_032), (2048, 393_216)])
def test_a_step_reads_the_experts_its_tokens_touch(tokens: int, expert_weights: int) -> None:
    """Of eight experts with two per token, one token touches 1/4, two touch 1 − (3/4)² = 7/16, thousands all."""
    profile = roofline(TINY_EXPERTS, BF16, ONE_GB_PER_SECOND, deployment())
    assert profile.dense_ps[tokens] == 2 * (24_576 + expert_weights) * PS_PER_NS


def test_two_gpus_halve_the_step_and_add_two_all_reduces_a_layer() -> None:
    """Ten tokens: each of four all-reduces moves 2·(1/2)·10·64·2 = 1,280 bytes at 1 GB/s and takes 8 µs to start."""
    alone = roofline(TINY_EXPERTS, BF16, ONE_GB_PER_SECOND, deployment())
    both = roofline(TINY_EXPERTS, BF16, ONE_GB_PER_SECOND, deployment(tensor_parallel=2))
    assert both.dense_ps[10] == pytest.approx(alone.dense_ps[10] / 2 + 4 * (1_280 + 8_000) * PS_PER_NS, abs=2)
    assert both.sample_ps[1] * 2 == alone.sample_ps[1] == 2 * 100 * 64 * PS_PER_NS
    assert both.kv[0][2] * 2 == alone.kv[0][2] == 2 * 2 * 2 * 16 * 2 * PS_PER_NS


def test_fp8_arithmetic_is_faster_only_where_the_gpu_has_it() -> None:
    """935.6 against 467.8 TFLOPS: half the time of a full step. A GPU without fp8 computes in bf16."""
    fp8 = Variant(name="fp8", dtype="fp8")
    slow = msgspec.structs.replace(RTX_PRO_6000, step_overhead_us=0.0)
    with_fp8 = roofline(LLAMA_8B, fp8, slow, deployment()).dense_ps[2048]
    without = roofline(LLAMA_8B, fp8, msgspec.structs.replace(slow, fp8_tflops=0.0), deployment()).dense_ps[2048]
    assert without == pytest.approx(2 * with_fp8, rel=1e-9)
    assert without == roofline(LLAMA_8B, BF16, slow, deployment()).dense_ps[2048]


def test_four_bit_weights_are_read_in_a_quarter_of_the_time_and_a_bit() -> None:
    """4.125 of 16 bits; embeddings are not read by a decode step."""
    slow = msgspec.structs.replace(RTX_PRO_6000, step_overhead_us=0.0)
    full = roofline(LLAMA_8B, BF16, slow, deployment()).dense_ps[1]
    small = roofline(LLAMA_8B, Variant(name="awq", dtype="w4a16"), slow, deployment()).dense_ps[1]
    assert small == pytest.approx(full * 4.125 / 16, rel=1e-9)


def test_an_fp8_cache_is_read_in_half_the_time() -> None:
    full = roofline(TINY_EXPERTS, BF16, ONE_GB_PER_SECOND, deployment()).kv[0][2]
    assert roofline(TINY_EXPERTS, BF16, ONE_GB_PER_SECOND, deployment(kv_cache_dtype="fp8")).kv[0][2] * 2 == full


def test_a_function_instance_reads_its_weights_from_main_memory() -> None:
    """0.7 · 60 GB/s = 42 GB/s: 245,760 bytes of the touched experts are 5.851429 µs beside 300 µs of overhead; a KV
    token's 256 bytes 6,095 ps; 512 tokens cost 245,760 FLOPs each at 0.7 · 1.5 TFLOPS, 119.8 µs."""
    profile = cpu_roofline(TINY_EXPERTS, BF16, Serverless(variants=("model/bf16",)))
    assert profile.dense_ps[1] == 300_000_000 + 5_851_429
    assert profile.kv == ((0, 0, 6_095),)
    assert len(profile.dense_ps) == 513
    assert profile.dense_ps[512] == pytest.approx(300e6 + 119.837e6, rel=1e-5)
    assert len(profile.sample_ps) == 2


def test_stacked_profiles_are_padded_with_their_last_entry_and_a_far_knot() -> None:
    short = StepProfile(np.array([1, 2]), np.array([3]), ((0, 4, 5),), 6, "test")
    long = StepProfile(np.array([10, 20, 30]), np.array([40, 50]), ((0, 60, 70), (100, 80, 90)), 11, "test")
    tables = stack_profiles([short, long])
    assert tables.dense_ps.tolist() == [[1, 2, 2], [10, 20, 30]]
    assert tables.sample_ps.tolist() == [[3, 3], [40, 50]]
    assert tables.kv.knot.tolist() == [[0, FAR, FAR], [0, 100, FAR]]
    assert tables.kv.base_ps[1, :2].tolist() == [60, 80]
    assert tables.kv.slope_ps[1, :2].tolist() == [70, 90]
    assert (tables.kv.base_ps[0, 0], tables.kv.slope_ps[0, 0]) == (4, 5)
    assert tables.pair_fs.tolist() == [6, 11]
