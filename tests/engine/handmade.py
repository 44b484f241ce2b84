"""Models and GPUs whose numbers are worked out by hand in the tests of this room."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gridctl.engine.profile import StepProfile
from gridctl.resources import Architecture, Deployment, EngineLimits, GpuSpec, ModelSpec, Variant

BF16 = Variant(name="bf16")

LLAMA_8B = ModelSpec(
    architecture=Architecture(
        layers=32,
        hidden_size=4096,
        heads=32,
        kv_heads=8,
        head_dim=128,
        intermediate_size=14336,
        vocab_size=128256,
    ),
    variants=(BF16,),
)
"""config.json of Llama-3.1-8B. Per layer 4096·128·48 + 4096·4096 = 41,943,040 attention and 3·4096·14336 = 176,160,768
MLP weights; 32 layers are 6,979,321,856; two vocabulary matrices of 525,336,576. KV: 2·32·8·128·2 = 131,072 bytes."""

TINY_EXPERTS = ModelSpec(
    architecture=Architecture(
        layers=2,
        hidden_size=64,
        heads=4,
        kv_heads=2,
        head_dim=16,
        intermediate_size=128,
        vocab_size=100,
        experts=8,
        experts_per_token=2,
    ),
    variants=(BF16,),
)
"""24,576 attention weights; 49,152 in the MLPs of one expert, 393,216 in all eight."""

ONE_GB_PER_SECOND = GpuSpec(
    memory_gib=16.0,
    bandwidth_gbs=1.0,
    bf16_tflops=1000.0,
    link_gbs=1.0,
    bandwidth_efficiency=1.0,
    compute_efficiency=1.0,
    step_overhead_us=0.0,
    kernel_us=0.0,
    link_efficiency=1.0,
)
"""A byte takes a nanosecond, arithmetic next to nothing."""


def deployment(tensor_parallel: int = 1, **limits: object) -> Deployment:
    """One engine with these limits, the others as in vLLM."""
    return Deployment(variant="model/bf16", tensor_parallel=tensor_parallel, engine=EngineLimits(**limits))  # type: ignore[arg-type]


def step_profile(
    dense: NDArray[np.int64], sample: NDArray[np.int64], slope_ps: int = 0, pair_ps: int = 0
) -> StepProfile:
    """A profile whose attention is linear in KV tokens and in token pairs."""
    tokens = np.arange(len(dense))
    row = ((0, 0, slope_ps),)
    pairs = pair_ps * tokens * (tokens + 1) // 2
    return StepProfile(dense, sample, (row,), (row,), 0, pairs, pair_ps * tokens, "test")
