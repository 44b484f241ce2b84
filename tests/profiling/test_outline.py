"""Outline: a roofline written down gives the roofline's step times back, and says what it was made of."""

from __future__ import annotations

import numpy as np
import pytest

from gridctl.engine.profile import profile_from
from gridctl.engine.roofline import roofline
from gridctl.profiling.outline import TOLERANCE, outline
from gridctl.resources import BUILTIN_GPUS, Architecture, Deployment, EngineLimits, GpuSpec, ModelSpec, Variant
from gridctl.resources.architectures import ARCHITECTURES

CASES = [
    ("rtx-pro-6000", "llama-3.1-8b", "bf16", 1, 1),
    ("h100-sxm", "llama-3.1-70b", "fp8", 4, 1),
    ("l4", "qwen3-4b", "w4a16", 1, 1),
    ("h200-sxm", "qwen3-30b-a3b", "bf16", 1, 4),
]


def engine(name: str, dtype: str, tensor: int, data: int) -> tuple[ModelSpec, Variant, Deployment]:
    variant = Variant(name=dtype, dtype=dtype)  # type: ignore[arg-type]
    deployment = Deployment(variant=f"m/{dtype}", tensor_parallel=tensor, data_parallel=data, engine=EngineLimits())
    return ModelSpec(architecture=ARCHITECTURES[name], variants=(variant,)), variant, deployment


@pytest.mark.parametrize(("gpu", "name", "dtype", "tensor", "data"), CASES)
def test_an_outline_replays_as_its_roofline(gpu: str, name: str, dtype: str, tensor: int, data: int) -> None:
    """Every step's time within the tolerance, plus what rounding to a nanosecond loses of the smallest."""
    model, variant, deployment = engine(name, dtype, tensor, data)
    spec = outline(gpu, BUILTIN_GPUS[gpu].spec, model, variant, deployment)
    direct = roofline(model, variant, BUILTIN_GPUS[gpu].spec, deployment)
    limits = deployment.engine
    read = profile_from(
        spec, tokens=limits.max_num_batched_tokens * data, sequences=limits.max_num_seqs * data, source="outline"
    )
    for table in ("dense_ps", "sample_ps", "chunk_ps", "chunk_kv_ps"):
        exact, again = (getattr(one, table)[1:].astype(float) for one in (direct, read))
        assert np.all(np.abs(again - exact) <= (TOLERANCE + 1e-5) * exact + 1000)
    for decodes in (1, 3, limits.max_num_seqs * data):
        for tokens in (100, 50_000, 3_000_000):
            _, base, slope = [part for part in read.decode[decodes] if part[0] <= tokens][-1]
            assert base + slope * tokens == pytest.approx(direct.decode[0][0][2] * tokens, rel=0.01, abs=1e6)
    assert (read.sigma, read.source) == (0.15, "outline")


def test_an_outline_by_hand() -> None:
    """4 layers of 524,288 + 393,216 weights, bf16, on 1 TB/s and 1 TFLOPS at half of either; 40 kernels of 2 µs and
    100 µs. Weights 7,340,032 B take 14.68 µs, 7,340,032 FLOPs a token 14.68 µs: each token after the first adds that.
    LM head 512,000 B: 1.024 µs, and as much per sequence. KV 8,192 B a token: 0.016384 µs. A pair 4·4·8·64 FLOPs."""
    shape = Architecture(
        layers=4, hidden_size=256, heads=8, kv_heads=8, head_dim=64, intermediate_size=512, vocab_size=1000
    )
    gpu = GpuSpec(
        memory_gib=10, bandwidth_gbs=1000, bf16_tflops=1, bandwidth_efficiency=0.5, compute_efficiency=0.5,
        step_overhead_us=100, kernel_us=2,
    )  # fmt: skip
    variant = Variant(name="bf16")
    limits = EngineLimits(max_num_seqs=16, max_num_batched_tokens=256)
    spec = outline(
        "toy",
        gpu,
        ModelSpec(architecture=shape, variants=(variant,)),
        variant,
        Deployment(variant="m/bf16", engine=limits),
    )
    assert spec.dense == ((1, 194.68), (256, pytest.approx(180 + 14.680064 * 256, abs=0.001)))
    assert spec.sample == ((1, 1.024), (16, 16.384))
    kv = ((0, 0.0), (131_072, pytest.approx(131_072 * 0.016384, rel=1e-4)))
    assert [row.kv[1] for row in spec.decode] == [kv[1], (131_072, pytest.approx(16 * 131_072 * 0.016384, rel=1e-4))]
    last = spec.chunk[-1]
    pair_us = 4 * 4 * 8 * 64 / 0.5e12 * 1e6
    assert (last.tokens, last.us) == (256, pytest.approx(pair_us * 256 * 257 / 2, abs=0.001))
    assert last.us_per_kv_token == pytest.approx(pair_us * 256, abs=1e-6)
    assert (spec.valid.tokens, spec.valid.sequences) == (256, 16)
    assert spec.error.step == 15.0


def test_an_outline_names_the_numbers_it_rests_on() -> None:
    model, variant, deployment = engine("llama-3.1-8b", "bf16", 1, 1)
    spec = outline("rtx-pro-6000", BUILTIN_GPUS["rtx-pro-6000"].spec, model, variant, deployment)
    assert spec.method == "roofline"
    assert spec.source == (
        "roofline of rtx-pro-6000: 1792 GB/s at 0.82, 467.8 bf16 TFLOPS at 0.86, link 64 GB/s at 0.55"
    )
