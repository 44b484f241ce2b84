"""Step-time tables by hand: weights over bandwidth, experts touched, GPUs shared, tables padded."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from handmade import BF16, LLAMA_8B, ONE_GB_PER_SECOND, TINY_EXPERTS, deployment

from gridctl.engine.profile import FAR, StepProfile, profile_from, stack_profiles
from gridctl.engine.roofline import cpu_roofline, rank_tokens, roofline
from gridctl.resources import (
    BUILTIN_GPUS,
    ChunkKnot,
    DecodeRow,
    ModelSpec,
    ProfileRange,
    ProfileSpec,
    Serverless,
    Variant,
)

RTX_PRO_6000 = BUILTIN_GPUS["rtx-pro-6000"].spec
PS_PER_NS = 1000


def test_a_decode_step_of_llama_8b_takes_its_weights_over_the_bandwidth() -> None:
    """13,958,643,712 bytes at 0.82 · 1,792 GB/s are 9.4992947735 ms, beside a quarter of one
    for the step and 2.5 µs for each of 320 kernels; the LM head's
    1,050,673,152 bytes take 0.715016028 ms; 131,072 bytes of KV 89,199 ps; 4·32·32·128 FLOPs of a token pair at
    0.86 · 467.8 TFLOPS 1303.2 ps."""
    profile = roofline(LLAMA_8B, BF16, RTX_PRO_6000, deployment())
    assert profile.dense_ps[1] == 9_499_294_774 + 250_000_000 + 800_000_000
    assert profile.sample_ps[0] == 0
    assert profile.sample_ps[1] == 715_016_028
    assert profile.decode == profile.mixed == (((0, 0, 89_199),),)
    assert (profile.chunk_ps[2], profile.chunk_kv_ps[2]) == (3_910, 2_606)
    assert profile.source == "roofline"


def test_a_full_prefill_step_is_bound_by_arithmetic() -> None:
    """2048 · 13,958,643,712 FLOPs at 402.308 TFLOPS are 71.0582 ms."""
    profile = roofline(LLAMA_8B, BF16, RTX_PRO_6000, deployment())
    assert len(profile.dense_ps) == 2049
    assert profile.dense_ps[2048] == pytest.approx(71.0582e9 + 0.25e9 + 0.8e9, rel=1e-5)


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
    """Of eight experts with two per token, one token touches 1/4, two touch 1 − (3/4)² = 7/16, thousands all. Experts
    are read at 0.95 of the bandwidth."""
    profile = roofline(TINY_EXPERTS, BF16, ONE_GB_PER_SECOND, deployment())
    assert profile.dense_ps[tokens] == pytest.approx(2 * (24_576 + expert_weights / 0.95) * PS_PER_NS, rel=1e-3)


def test_two_gpus_halve_the_step_and_add_two_all_reduces_a_layer() -> None:
    """Ten tokens: each of four all-reduces moves 2·(1/2)·10·64·2 = 1,280 bytes at 1 GB/s and takes 8 µs to start."""
    alone = roofline(TINY_EXPERTS, BF16, ONE_GB_PER_SECOND, deployment())
    both = roofline(TINY_EXPERTS, BF16, ONE_GB_PER_SECOND, deployment(tensor_parallel=2))
    assert both.dense_ps[10] == pytest.approx(alone.dense_ps[10] / 2 + 4 * (1_280 + 8_000) * PS_PER_NS, abs=2)
    assert both.sample_ps[1] * 2 == alone.sample_ps[1] == 2 * 100 * 64 * PS_PER_NS
    assert both.decode[0][0][2] * 2 == alone.decode[0][0][2] == 2 * 2 * 2 * 16 * 2 * PS_PER_NS


def test_fp8_arithmetic_is_faster_only_where_the_gpu_has_it() -> None:
    """935.6 against 467.8 TFLOPS: half the time of a full step. A GPU without fp8 computes in bf16."""
    fp8 = Variant(name="fp8", dtype="fp8")
    slow = msgspec.structs.replace(RTX_PRO_6000, step_overhead_us=0.0, kernel_us=0.0)
    with_fp8 = roofline(LLAMA_8B, fp8, slow, deployment()).dense_ps[2048]
    without = roofline(LLAMA_8B, fp8, msgspec.structs.replace(slow, fp8_tflops=0.0), deployment()).dense_ps[2048]
    assert without == pytest.approx(2 * with_fp8, rel=1e-9)
    assert without == roofline(LLAMA_8B, BF16, slow, deployment()).dense_ps[2048]


def test_four_bit_weights_are_read_in_a_quarter_of_the_time_and_a_bit() -> None:
    """4.125 of 16 bits; embeddings are not read by a decode step."""
    slow = msgspec.structs.replace(RTX_PRO_6000, step_overhead_us=0.0, kernel_us=0.0)
    full = roofline(LLAMA_8B, BF16, slow, deployment()).dense_ps[1]
    small = roofline(LLAMA_8B, Variant(name="awq", dtype="w4a16"), slow, deployment()).dense_ps[1]
    assert small == pytest.approx(full * 4.125 / 16, rel=1e-9)


def test_an_fp8_cache_is_read_in_half_the_time() -> None:
    full = roofline(TINY_EXPERTS, BF16, ONE_GB_PER_SECOND, deployment()).decode[0][0][2]
    assert roofline(TINY_EXPERTS, BF16, ONE_GB_PER_SECOND, deployment(kv_cache_dtype="fp8")).decode[0][0][2] * 2 == full


def test_a_function_instance_reads_its_weights_from_main_memory() -> None:
    """0.7 · 60 GB/s = 42 GB/s and 0.7 · 1.5 TFLOPS: attention's 49,152 bytes take 1.170286 µs, the touched experts'
    196,608 bytes 4.681143 and their as many FLOPs 0.187246, beside 300 µs of overhead; a KV token's 256 bytes 6,095
    ps. 512 tokens: 23.967 µs of attention's FLOPs, 18.725 of all experts' bytes, 95.870 of the FLOPs of two each."""
    profile = cpu_roofline(TINY_EXPERTS, BF16, Serverless(variants=("model/bf16",)))
    assert profile.dense_ps[1] == 300_000_000 + 6_038_674
    assert profile.decode == (((0, 0, 6_095),),)
    assert len(profile.dense_ps) == 513
    assert profile.dense_ps[512] == pytest.approx(300e6 + 138.562e6, rel=1e-5)
    assert len(profile.sample_ps) == 2


def test_ranks_that_share_experts_split_tokens_and_wait_for_the_fullest() -> None:
    """Two ranks, 128 sequences each: 256 decodes are 128 a rank; 1,256 tokens are a prefill of 1,000 on one rank whose
    own 128 decode on, while the other has 128. Never more than a rank's budget of 2,048."""
    two = msgspec.structs.replace(deployment(), data_parallel=2)
    fullest = rank_tokens(np.array([0.0, 1.0, 256.0, 1256.0, 2500.0, 4096.0]), two)
    assert fullest.tolist() == [0.0, 0.5, 128.0, 1128.0, 2048.0, 2048.0]


def test_two_ranks_add_three_collectives_a_layer_and_halve_the_experts() -> None:
    """Two decodes, one a rank: attention's 49,152 bytes stay on every GPU; of the experts' 786,432 · 7/16 bytes each
    reads half, at 0.95 of the bandwidth; each of two layers moves 2 · 1 · 64 · 2 bytes at 1 GB/s and starts three
    collectives of 8 µs."""
    two = msgspec.structs.replace(deployment(), data_parallel=2)
    profile = roofline(TINY_EXPERTS, BF16, ONE_GB_PER_SECOND, two)
    assert len(profile.dense_ps) == 2 * 2048 + 1
    assert profile.dense_ps[2] == pytest.approx(
        (49_152 + 172_032 / 0.95 + 2 * (128 * 2 + 24_000)) * PS_PER_NS, rel=1e-4
    )


MEASURED = ProfileSpec(
    gpu="card",
    architecture=TINY_EXPERTS.architecture,
    valid=ProfileRange(tokens=4, sequences=2, kv_tokens=100),
    dense=((1, 10.0), (3, 20.0), (4, 26.0)),
    sample=((1, 2.0), (2, 3.0)),
    decode=(
        DecodeRow(sequences=1, kv=((10, 1.0), (20, 2.0), (100, 10.0))),
        DecodeRow(sequences=3, kv=((10, 2.0), (20, 4.0), (100, 28.0))),
    ),
    chunk=(ChunkKnot(tokens=1, us=1.0, us_per_kv_token=0.5), ChunkKnot(tokens=3, us=3.0, us_per_kv_token=1.5)),
    cross_ns=0.25,
)


def test_a_measured_profile_is_interpolated_between_its_knots_and_goes_on_beyond_them() -> None:
    profile = profile_from(MEASURED, tokens=6, sequences=4, source="here")
    assert profile.dense_ps.tolist() == [
        10_000_000,
        10_000_000,
        15_000_000,
        20_000_000,
        26_000_000,
        32_000_000,
        38_000_000,
    ]
    assert profile.sample_ps.tolist() == [0, 2_000_000, 3_000_000, 4_000_000, 5_000_000]
    assert profile.chunk_ps.tolist() == [0, *(1_000_000 * tokens for tokens in range(1, 7))]
    assert profile.chunk_kv_ps.tolist() == [0, *(500_000 * tokens for tokens in range(1, 7))]
    assert (profile.cross_ps, profile.source, profile.mixed) == (250, "here", profile.decode)


def test_two_decodes_lie_half_way_between_one_and_three_at_the_same_tokens_each() -> None:
    """At 10 tokens each, 20 in all: (1 + 2) / 2 = 1.5 µs; at 20 each, 40 in all, 3 µs; at 100 each, 200 in all, 19 µs:
    0.1 µs a token between 40 and 200. Below the first knot times are flat."""
    row = profile_from(MEASURED, tokens=4, sequences=4, source="here").decode[2]
    assert row == ((0, 1_500_000, 0), (20, 1_500_000, 75_000), (40, 3_000_000, 100_000))
    assert profile_from(MEASURED, tokens=4, sequences=4, source="here").decode[4][1] == (40, 2_500_000, 62_500)


def test_stacked_profiles_are_padded_with_their_last_entry_and_a_far_knot() -> None:
    nothing = np.zeros(2, np.int64)
    short = StepProfile(
        np.array([1, 2]), np.array([3]), (((0, 4, 5),),), (((0, 8, 9),),), 7, nothing, np.array([0, 6]), "test"
    )
    rows = (((0, 0, 0),), ((0, 60, 70), (100, 80, 90)))
    long = StepProfile(
        np.array([10, 20, 30]), np.array([40, 50]), rows, rows, 1, np.zeros(3, np.int64), np.array([0, 1, 4]), "test"
    )
    tables = stack_profiles([short, long])
    assert tables.dense_ps.tolist() == [[1, 2, 2], [10, 20, 30]]
    assert tables.sample_ps.tolist() == [[3, 3], [40, 50]]
    assert tables.decode.knot.tolist() == [[[0, FAR, FAR], [0, FAR, FAR]], [[0, FAR, FAR], [0, 100, FAR]]]
    assert tables.decode.base_ps[1, 1, :2].tolist() == [60, 80]
    assert tables.decode.slope_ps[1, 1, :2].tolist() == [70, 90]
    assert (tables.decode.base_ps[0, 1, 0], tables.mixed.slope_ps[0, 1, 0]) == (4, 9)
    assert (tables.cross_ps.tolist(), tables.chunk_kv_ps.tolist()) == ([7, 1], [[0, 6, 6], [0, 1, 4]])
    assert tables.pair_fs.tolist() == [3000, 2000]
