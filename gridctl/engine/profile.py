"""Step-time profiles: how long one engine step takes, as integer tables the twin can add up in closed form.

A step that processes `T` tokens, samples `S` sequences, reads `K` KV tokens for its decodes and attends `P` prefill
token pairs takes

    dense[T] + sample[S] + (kv_base + kv_slope · (K − kv_knot)) + pair · P        picoseconds

`dense` and `sample` are tables over every count up to the engine's limits, so any measured shape fits; decode
attention is piecewise linear in `K`, which keeps the sum over a run of decode steps a polynomial.

Roofline (Williams, Waterman, Patterson 2009; for decoders: 2 FLOPs per weight and token, 4·heads·head_dim FLOPs per
layer and token pair): dense = max(bytes of the weights touched / bandwidth, FLOPs / rate) + collective + overhead.
Rates and bandwidths are multiplied by the GPU's achieved shares. A mixture-of-experts layer touches
E·(1 − (1 − k/E)^T) experts in expectation. Tensor parallelism divides weights, FLOPs and KV by the GPUs and adds two
ring all-reduces a layer: 2(p−1)/p of the activations over the link, and a fixed latency each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gridctl.resources import Deployment, GpuSpec, ModelSpec, Serverless, Variant
from gridctl.units import PS_PER_S, PS_PER_US

if TYPE_CHECKING:
    from gridctl.kernels import Records

ALLREDUCE_LATENCY_PS = 8 * PS_PER_US
"""One small all-reduce over PCIe or NVLink inside a CUDA graph; the magnitude NCCL's tests report."""

CPU_STEP_OVERHEAD_PS = 300 * PS_PER_US
CPU_EFFICIENCY = 0.7
FAR = np.int64(1) << 50
"""A KV-token count no engine reaches: the end of the last segment."""


@dataclass(frozen=True, slots=True)
class StepProfile:
    """One engine's step times. `dense_ps` has max_num_batched_tokens + 1 entries, `sample_ps` max_num_seqs + 1.

    `kv` holds `(knot_tokens, base_ps, slope_ps_per_token)` per segment, by rising knot, the first at 0.
    `pair_fs` is femtoseconds per prefill token pair. `source` says where the numbers come from.
    """

    dense_ps: NDArray[np.int64]
    sample_ps: NDArray[np.int64]
    kv: tuple[tuple[int, int, int], ...]
    pair_fs: int
    source: str


class ProfileTables(NamedTuple):
    """All profiles of a fleet, stacked: `(n_profiles, …)` int64, padded with their last entry; `kv` is a record per
    profile and segment, ended by one whose knot no engine reaches."""

    dense_ps: NDArray[np.int64]
    sample_ps: NDArray[np.int64]
    kv: Records
    pair_fs: NDArray[np.int64]


KV_SEGMENT = np.dtype([("knot", np.int64), ("base_ps", np.int64), ("slope_ps", np.int64)])


def _seconds_to_ps(seconds: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.rint(seconds * PS_PER_S).astype(np.int64)


def _touched_weight_bytes(model: ModelSpec, variant: Variant, tokens: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bytes of weights one step over `tokens` reads, embeddings (a gather) and LM head (per sequence) apart."""
    shape = model.architecture
    matrices = 1 if shape.tied_embeddings else 2
    body = float(model.weight_bytes(variant) - matrices * 2 * shape.embedding_parameters)
    if shape.experts <= 1:
        return np.full_like(tokens, body)
    expert_share = shape.mlp_parameters / (shape.mlp_parameters + shape.attention_parameters)
    touched = 1.0 - (1.0 - shape.experts_per_token / shape.experts) ** tokens
    return body * (1.0 - expert_share + expert_share * touched)


def _compute_rate(gpu: GpuSpec, variant: Variant) -> float:
    """Achieved FLOP/s for the variant's arithmetic: w4a16 multiplies in bf16; unsupported formats fall back to it."""
    rates = {"bf16": gpu.bf16_tflops, "fp8": gpu.fp8_tflops, "int8": gpu.int8_tops, "w4a16": gpu.bf16_tflops}
    rate = rates[variant.dtype] or gpu.bf16_tflops
    return rate * 1e12 * gpu.compute_efficiency


def roofline(model: ModelSpec, variant: Variant, gpu: GpuSpec, deployment: Deployment) -> StepProfile:
    """The roofline profile of one engine of `deployment` on `gpu`."""
    shape, limits, parallel = model.architecture, deployment.engine, deployment.tensor_parallel
    bandwidth = gpu.bandwidth_gbs * 1e9 * gpu.bandwidth_efficiency * parallel
    rate = _compute_rate(gpu, variant) * parallel
    tokens = np.arange(limits.max_num_batched_tokens + 1, dtype=np.float64)
    flops = 2.0 * (shape.attention_parameters + shape.active_mlp_parameters)
    seconds = np.maximum(_touched_weight_bytes(model, variant, tokens) / bandwidth, flops * tokens / rate)
    dense = _seconds_to_ps(seconds) + round(gpu.step_overhead_us * PS_PER_US)
    if parallel > 1:
        moved = 2.0 * (parallel - 1) / parallel * tokens * shape.hidden_size * 2.0
        collective = 2 * shape.layers * moved / (gpu.link_gbs * 1e9)
        dense += _seconds_to_ps(collective) + 2 * shape.layers * ALLREDUCE_LATENCY_PS
    sequences = np.arange(limits.max_num_seqs + 1, dtype=np.float64)
    head_bytes, head_flops = 2.0 * shape.embedding_parameters, 2.0 * shape.embedding_parameters
    bf16_rate = gpu.bf16_tflops * 1e12 * gpu.compute_efficiency * parallel
    sample = np.maximum(head_bytes / bandwidth, head_flops * sequences / bf16_rate)
    sample[0] = 0.0
    element_bytes = 1 if limits.kv_cache_dtype == "fp8" else 2
    kv_slope = shape.kv_bytes_per_token(element_bytes) / bandwidth
    pair_seconds = 4.0 * shape.layers * shape.heads * shape.head_dim / bf16_rate
    return StepProfile(
        dense_ps=dense,
        sample_ps=_seconds_to_ps(sample),
        kv=((0, 0, max(1, round(kv_slope * PS_PER_S))),),
        pair_fs=max(1, round(pair_seconds * PS_PER_S * 1000)),
        source="roofline",
    )


def cpu_roofline(model: ModelSpec, variant: Variant, cpu: Serverless, chunk_tokens: int = 512) -> StepProfile:
    """The roofline profile of one function instance: one sequence at a time, prefill in chunks of `chunk_tokens`."""
    shape = model.architecture
    bandwidth = cpu.memory_bandwidth_gbs * 1e9 * CPU_EFFICIENCY
    rate = cpu.tflops * 1e12 * CPU_EFFICIENCY
    tokens = np.arange(chunk_tokens + 1, dtype=np.float64)
    flops = 2.0 * (shape.attention_parameters + shape.active_mlp_parameters)
    seconds = np.maximum(_touched_weight_bytes(model, variant, tokens) / bandwidth, flops * tokens / rate)
    head = 2.0 * shape.embedding_parameters / bandwidth
    return StepProfile(
        dense_ps=_seconds_to_ps(seconds) + CPU_STEP_OVERHEAD_PS,
        sample_ps=_seconds_to_ps(np.array([0.0, head])),
        kv=((0, 0, max(1, round(shape.kv_bytes_per_token() / bandwidth * PS_PER_S))),),
        pair_fs=max(1, round(4.0 * shape.layers * shape.heads * shape.head_dim / rate * PS_PER_S * 1000)),
        source="roofline",
    )


def stack_profiles(profiles: list[StepProfile]) -> ProfileTables:
    """Pad and stack profiles into the arrays the kernels read."""
    count = max(1, len(profiles))
    width = max((len(p.dense_ps) for p in profiles), default=1)
    sequences = max((len(p.sample_ps) for p in profiles), default=1)
    segments = max((len(p.kv) for p in profiles), default=1)
    tables = ProfileTables(
        dense_ps=np.zeros((count, width), np.int64),
        sample_ps=np.zeros((count, sequences), np.int64),
        kv=np.zeros((count, segments + 1), KV_SEGMENT).view(np.recarray),
        pair_fs=np.zeros(count, np.int64),
    )
    tables.kv.knot = FAR
    for row, profile in enumerate(profiles):
        assert profile.dense_ps[1:].min(initial=1) > 0, "a step that takes no time would never end"
        tables.dense_ps[row, : len(profile.dense_ps)] = profile.dense_ps
        tables.dense_ps[row, len(profile.dense_ps) :] = profile.dense_ps[-1]
        tables.sample_ps[row, : len(profile.sample_ps)] = profile.sample_ps
        tables.sample_ps[row, len(profile.sample_ps) :] = profile.sample_ps[-1]
        for segment, values in enumerate(profile.kv):
            tables.kv[row, segment] = values
        tables.pair_fs[row] = profile.pair_fs
    return tables
