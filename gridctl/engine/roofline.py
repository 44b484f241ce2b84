"""Rooflines: step times from a GPU's specification and achieved shares, where nothing was measured.

Williams, Waterman, Patterson 2009; for decoders: 2 FLOPs per weight and token, 4·heads·head_dim FLOPs per layer and
token pair, and the KV cache read once per decode:

    dense = max(bytes of weights / bandwidth, FLOPs / rate) + experts + collectives + kernels + overhead

Experts: E·(1 − (1 − k/E)^T) of E are touched in expectation; grouped GEMMs pad each expert's few rows to a tile, so
most of their FLOPs' time comes on top of their bytes'. Tensor parallelism divides weights, FLOPs and KV
by the GPUs and adds two ring all-reduces a layer, 2(p − 1)/p of the activations over the link and a latency each.
Data-parallel ranks that share experts step together (vLLM: data parallel deployment of MoE models): attention runs on
each rank's own sequences, experts on all of them, an all-gather before and a reduce-scatter after.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gridctl.engine.profile import StepProfile
from gridctl.resources import Architecture, Deployment, GpuSpec, ModelSpec, Serverless, Variant
from gridctl.units import PS_PER_S, PS_PER_US

Floats = NDArray[np.float64]

KERNELS_PER_LAYER = 10
"""Two norms, QKV, rotary embedding, KV write, attention, output, gate and up, activation, down."""
EXPERT_KERNELS_PER_LAYER = 14
"""Instead of the MLP's three: router GEMM, top-k, two that sort tokens by expert, two GEMMs, activation, sum."""

EXPERT_BANDWIDTH_SHARE = 0.95
EXPERT_FLOPS_SHARE = 0.7
"""Grouped GEMMs against dense ones: of the bandwidth those achieve, and how much of the FLOPs' time the reading of
weights does not hide. Both reproduce within 3 % the expert kernels of Qwen3-30B-A3B, 128 to 2,048 tokens over 64
experts, measured on an RTX PRO 6000 (casys-kaist/LLMServingSim, profiler/perf, moe.csv, MIT)."""

ROOFLINE_SIGMA = 0.15
"""What a roofline's step times may be off by; see `gridctl help accuracy`."""

CPU_STEP_OVERHEAD_US = 300.0
CPU_EFFICIENCY = 0.7


def _picoseconds(seconds: Floats) -> NDArray[np.int64]:
    return np.rint(seconds * PS_PER_S).astype(np.int64)


def kernels_per_step(shape: Architecture) -> int:
    """Kernels one step launches, collectives apart."""
    return shape.layers * (EXPERT_KERNELS_PER_LAYER if shape.experts > 1 else KERNELS_PER_LAYER)


def rank_tokens(tokens: Floats, deployment: Deployment) -> Floats:
    """Tokens of the fullest data-parallel rank in a step of `tokens` over all ranks: decodes are spread evenly, a
    prefill is on one rank while the others decode."""
    ranks, limits = deployment.data_parallel, deployment.engine
    if ranks == 1:
        return tokens
    decodes = float(ranks * limits.max_num_seqs)
    share = np.where(tokens <= decodes, tokens / ranks, tokens - (ranks - 1) * limits.max_num_seqs)
    return np.maximum(np.minimum(share, limits.max_num_batched_tokens), tokens / ranks)


def expert_seconds(model: ModelSpec, variant: Variant, gpu: GpuSpec, deployment: Deployment, tokens: Floats) -> Floats:
    """Time of all layers' experts in a step of `tokens` over all ranks; 0 for dense models."""
    shape = model.architecture
    if shape.experts <= 1:
        return np.zeros_like(tokens)
    gpus = deployment.tensor_parallel * deployment.data_parallel
    touched = 1.0 - (1.0 - shape.experts_per_token / shape.experts) ** tokens
    weights = touched * model.expert_bytes(variant) / (_bandwidth(gpu) * EXPERT_BANDWIDTH_SHARE * gpus)
    flops = 2.0 * shape.active_mlp_parameters * tokens * EXPERT_FLOPS_SHARE
    return weights + flops / (_compute_rate(gpu, variant) * gpus)


def collective_seconds(shape: Architecture, gpu: GpuSpec, deployment: Deployment, tokens: Floats) -> Floats:
    """Time of all layers' collectives in a step whose fullest rank holds `tokens`; 0 on one GPU."""
    parallel, ranks = deployment.tensor_parallel, deployment.data_parallel
    rate, latency = gpu.link_gbs * 1e9 * gpu.link_efficiency, gpu.link_latency_us * 1e-6
    activations = tokens * shape.hidden_size * 2.0
    seconds = np.zeros_like(tokens)
    if parallel > 1:
        seconds += 2 * shape.layers * (2.0 * (parallel - 1) / parallel * activations / rate + latency)
    if ranks > 1:
        # Hidden states gathered, routing gathered, results scattered; the routing is a few bytes a token.
        seconds += shape.layers * (2.0 * (ranks - 1) * activations / rate + 3 * latency)
    return seconds


def _bandwidth(gpu: GpuSpec) -> float:
    return gpu.bandwidth_gbs * 1e9 * gpu.bandwidth_efficiency


def _compute_rate(gpu: GpuSpec, variant: Variant) -> float:
    """Achieved FLOP/s for the variant's arithmetic: w4a16 multiplies in bf16; unsupported formats fall back to it."""
    rates = {"bf16": gpu.bf16_tflops, "fp8": gpu.fp8_tflops, "int8": gpu.int8_tops, "w4a16": gpu.bf16_tflops}
    rate = rates[variant.dtype] or gpu.bf16_tflops
    return rate * 1e12 * gpu.compute_efficiency


def _dense_seconds(model: ModelSpec, variant: Variant, bandwidth: float, rate: float, tokens: Floats) -> Floats:
    """Every weight matrix but experts, embeddings (a gather) and LM head (per sequence)."""
    shape = model.architecture
    weights = model.weight_bytes(variant) - model.expert_bytes(variant) - model.vocabulary_bytes
    flops = 2.0 * (shape.attention_parameters + (0 if shape.experts > 1 else shape.mlp_parameters))
    return np.maximum(float(weights) / bandwidth, flops * tokens / rate)


def roofline(model: ModelSpec, variant: Variant, gpu: GpuSpec, deployment: Deployment) -> StepProfile:
    """The roofline profile of one engine of `deployment` on `gpu`; its tables count over all data-parallel ranks."""
    shape, limits = model.architecture, deployment.engine
    parallel, ranks = deployment.tensor_parallel, deployment.data_parallel
    bandwidth, rate = _bandwidth(gpu) * parallel, _compute_rate(gpu, variant) * parallel
    tokens = np.arange(limits.max_num_batched_tokens * ranks + 1, dtype=np.float64)
    fullest = rank_tokens(tokens, deployment)
    seconds = _dense_seconds(model, variant, bandwidth, rate, fullest)
    seconds += expert_seconds(model, variant, gpu, deployment, tokens)
    seconds += collective_seconds(shape, gpu, deployment, fullest)
    seconds += (gpu.step_overhead_us + kernels_per_step(shape) * gpu.kernel_us) * 1e-6
    sequences = np.arange(limits.max_num_seqs * ranks + 1, dtype=np.float64)
    head = 2.0 * shape.embedding_parameters
    bf16_rate = gpu.bf16_tflops * 1e12 * gpu.compute_efficiency * parallel
    sample = np.maximum(head / bandwidth, head * sequences / ranks / bf16_rate)
    sample[0] = 0.0
    element_bytes = 1 if limits.kv_cache_dtype == "fp8" else 2
    kv_slope = shape.kv_bytes_per_token(element_bytes) / (bandwidth * ranks)
    pair_seconds = 4.0 * shape.layers * shape.heads * shape.head_dim / bf16_rate
    row = ((0, 0, max(1, round(kv_slope * PS_PER_S))),)
    chunk = np.minimum(tokens, limits.max_num_batched_tokens)
    return StepProfile(
        dense_ps=_picoseconds(seconds),
        sample_ps=_picoseconds(sample),
        decode=(row,),
        mixed=(row,),
        cross_ps=0,
        chunk_ps=_picoseconds(pair_seconds * chunk * (chunk + 1) / 2),
        chunk_kv_ps=_picoseconds(pair_seconds * chunk),
        source="roofline",
        sigma=ROOFLINE_SIGMA,
    )


def cpu_roofline(model: ModelSpec, variant: Variant, cpu: Serverless, chunk_tokens: int = 512) -> StepProfile:
    """The roofline profile of one function instance: one sequence at a time, prefill in chunks of `chunk_tokens`."""
    shape = model.architecture
    bandwidth = cpu.memory_bandwidth_gbs * 1e9 * CPU_EFFICIENCY
    rate = cpu.tflops * 1e12 * CPU_EFFICIENCY
    tokens = np.arange(chunk_tokens + 1, dtype=np.float64)
    seconds = _dense_seconds(model, variant, bandwidth, rate, tokens)
    if shape.experts > 1:
        touched = 1.0 - (1.0 - shape.experts_per_token / shape.experts) ** tokens
        seconds += touched * model.expert_bytes(variant) / bandwidth + 2.0 * shape.active_mlp_parameters * tokens / rate
    pair_seconds = 4.0 * shape.layers * shape.heads * shape.head_dim / rate
    row = ((0, 0, max(1, round(shape.kv_bytes_per_token() / bandwidth * PS_PER_S))),)
    return StepProfile(
        dense_ps=_picoseconds(seconds) + round(CPU_STEP_OVERHEAD_US * PS_PER_US),
        sample_ps=_picoseconds(np.array([0.0, 2.0 * shape.embedding_parameters / bandwidth])),
        decode=(row,),
        mixed=(row,),
        cross_ps=0,
        chunk_ps=_picoseconds(pair_seconds * tokens * (tokens + 1) / 2),
        chunk_kv_ps=_picoseconds(pair_seconds * tokens),
        source="roofline",
        sigma=ROOFLINE_SIGMA,
    )
