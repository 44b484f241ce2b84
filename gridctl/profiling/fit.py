"""Fit: operator tables, an architecture and a GPU's specification → a step-time profile. Never looks at a run.

What a step does beside the kernels in the tables is modelled, each term from what is published about it:

- Every kernel starts a little after the one before it ends, also inside a CUDA graph: `KERNEL_GAP_US` each.
- The host's share of a step that asynchronous scheduling does not hide: the GPU's `step_overhead_us`; ranks that step
  together agree on each step's size first (vLLM: `coordinate_batch_across_dp`): `RANK_AGREEMENT_US`.
- Small kernels that the tables leave out (KV write; router, top-k, sort, sum of experts) take a norm's time.
- Collectives and experts as in `engine.roofline`; the tables are of one GPU and hold neither.
- Sequences of one batch differ in length; the tables were measured at equal ones. Attention then takes longer by
  α of the difference between the longest and the mean; published skew fits of these kernels give α = 0.05
  (casys-kaist/LLMServingSim, profiler/perf, MIT). The longest is taken as `LONGEST_TO_MEAN` times the mean.
- Of several ranks the one with the most KV sets the pace: mean + 0.59 σ for two ranks, more for more (Blom 1958).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gridctl.engine.roofline import collective_seconds, expert_seconds, kernels_per_step, rank_tokens
from gridctl.profiling.attention import AttentionFit, fit_attention
from gridctl.profiling.curves import Floats, few_knots, relative_errors, rising
from gridctl.profiling.plausibility import check_model
from gridctl.profiling.tables import Curve, OperatorTables
from gridctl.resources import (
    DecodeRow,
    Deployment,
    FitError,
    GpuSpec,
    ModelSpec,
    ProfileRange,
    ProfileSpec,
    Variant,
)
from gridctl.resources.profile import ChunkKnot

KERNEL_GAP_US = 1.0
"""Between two dependent kernels of a CUDA graph; NVIDIA's notes on graphs report half to one and a half."""

RANK_AGREEMENT_US = 500.0
"""One CPU all-reduce of a few integers over loopback, and the wait for the slower process."""

SKEW_ALPHA = 0.05
LONGEST_TO_MEAN = 2.5
LENGTH_SPREAD = 0.7
"""Standard deviation of a sequence's KV tokens over their mean, as in chat traces."""

ONCE = ("embedding", "final_layernorm")
TWICE = ("layernorm",)
"""Layers that run once a step, and those that run twice a transformer layer; all others run once a layer."""

CURVE_TOLERANCE = 0.004
KV_TOLERANCE = 0.03


@dataclass(frozen=True, slots=True)
class FitRequest:
    """Which engine the tables are of. `deployment` gives the parallelism and the engine's limits."""

    gpu_name: str
    gpu: GpuSpec
    model: ModelSpec
    variant: Variant
    deployment: Deployment
    source: str = ""


def fit_profile(tables: OperatorTables, request: FitRequest) -> ProfileSpec:
    """The step-time profile of an engine whose kernels took what the tables say.

    Raises InputError when the tables cannot be of this model on this GPU.
    """
    check_model(tables, request)
    ranks = request.deployment.data_parallel
    attention = fit_attention(tables.attention, KV_TOLERANCE)
    tokens, dense = _dense(tables, request)
    knots = few_knots(tokens, [dense], CURVE_TOLERANCE)
    counts, sample = _sample(tables, request)
    sampled = few_knots(counts, [sample], CURVE_TOLERANCE)
    layers = request.model.architecture.layers
    measured = np.array(tables.tokens, np.float64)
    raw = _layers_us(tables, request, measured)
    fitted = np.interp(measured, tokens[knots], _layers_us(tables, request, tokens)[knots])
    dense_p50, dense_p95 = relative_errors(fitted, raw)
    return ProfileSpec(
        gpu=request.gpu_name,
        architecture=request.model.architecture,
        dtype=request.variant.dtype,
        kv_cache_dtype=request.deployment.engine.kv_cache_dtype,
        tensor_parallel=request.deployment.tensor_parallel,
        data_parallel=ranks,
        method="operators",
        source=request.source or f"fitted from {tables.source}",
        valid=ProfileRange(
            tokens=tables.tokens[-1] * ranks,
            sequences=min(tables.sequences[-1], attention.most_decodes) * ranks,
            kv_tokens=attention.longest,
        ),
        error=FitError(
            dense_p50=round(dense_p50, 2),
            dense_p95=round(dense_p95, 2),
            attention_p50=round(attention.error_p50, 2),
            attention_p95=round(attention.error_p95, 2),
            step=round(max(3.0, attention.error_p50, dense_p95), 2),
        ),
        dense=tuple((int(tokens[knot]), round(float(dense[knot]), 3)) for knot in knots),
        sample=tuple((int(counts[knot]), round(float(sample[knot]), 3)) for knot in sampled),
        decode=_rows(attention.decode, attention.counts, attention.kv, layers, ranks),
        mixed=_rows(attention.mixed, attention.counts, attention.mixed_kv, layers, ranks),
        cross_ns=round(attention.cross * layers * 1000.0 / ranks, 3),
        chunk=_chunks(attention, layers),
    )


def _curve(curve: Curve, at: Floats) -> Floats:
    knots = sorted(curve)
    return np.interp(at, knots, [curve[knot] for knot in knots])


def _layers_us(tables: OperatorTables, request: FitRequest, tokens: Floats) -> Floats:
    """The tables' dense layers, over the whole model, on a rank that holds `tokens`."""
    shape = request.model.architecture
    total = np.zeros_like(tokens)
    for name, curve in tables.dense.items():
        times = 1 if name in ONCE else shape.layers * (2 if name in TWICE else 1)
        total += times * _curve(curve, tokens)
    norm = tables.dense.get("layernorm") or tables.dense[min(tables.dense)]
    small = 5 if shape.experts > 1 else 1
    return total + small * shape.layers * _curve(norm, tokens)


def _dense(tables: OperatorTables, request: FitRequest) -> tuple[Floats, Floats]:
    """Every count of tokens over all ranks, and what a step of as many takes beside attention and sampling."""
    shape, gpu, deployment = request.model.architecture, request.gpu, request.deployment
    tokens = np.arange(1, tables.tokens[-1] * deployment.data_parallel + 1, dtype=np.float64)
    fullest = np.maximum(1.0, rank_tokens(tokens, deployment))
    total = rising(_layers_us(tables, request, fullest))
    total += expert_seconds(request.model, request.variant, gpu, deployment, tokens) * 1e6
    total += collective_seconds(shape, gpu, deployment, fullest) * 1e6
    total += kernels_per_step(shape) * KERNEL_GAP_US + gpu.step_overhead_us
    if deployment.data_parallel > 1:
        total += RANK_AGREEMENT_US
    return tokens, total


def _sample(tables: OperatorTables, request: FitRequest) -> tuple[Floats, Floats]:
    """Every count of sequences over all ranks, and what the per-sequence layers of the fullest rank take."""
    ranks = request.deployment.data_parallel
    counts = np.arange(1, tables.sequences[-1] * ranks + 1, dtype=np.float64)
    share = np.maximum(1.0, np.ceil(counts / ranks))
    return counts, rising(np.sum([_curve(curve, share) for curve in tables.per_sequence.values()], axis=0))


def _slowest_rank(decodes: float, ranks: int) -> float:
    """What the rank with the most KV has over the mean: expected largest of `ranks` normal draws (Blom 1958)."""
    if ranks == 1:
        return 1.0
    share = (ranks - 0.375) / (ranks + 0.25)
    # The normal quantile by Winitzki's approximation of erf⁻¹ (2008), within 0.2 %.
    x = 2.0 * share - 1.0
    log = np.log(1.0 - x * x)
    half = 2.0 / (np.pi * 0.147) + log / 2.0
    quantile = float(np.sqrt(2.0) * np.sqrt(np.sqrt(half * half - log / 0.147) - half))
    return 1.0 + quantile * LENGTH_SPREAD / float(np.sqrt(decodes))


def _rows(curves: Floats, counts: Floats, kv: Floats, layers: int, ranks: int) -> tuple[DecodeRow, ...]:
    """Attention of all layers per number of decodes over all ranks; several sequences also differ in length."""
    rows = []
    for decodes, curve in zip(counts, curves, strict=True):
        skew = 1.0 + SKEW_ALPHA * (LONGEST_TO_MEAN - 1.0) * (decodes > 1)
        factor = layers * skew * _slowest_rank(decodes, ranks)
        times = tuple((int(tokens), round(float(time * factor), 3)) for tokens, time in zip(kv, curve, strict=True))
        rows.append(DecodeRow(sequences=int(decodes) * ranks, kv=times))
    return tuple(rows)


def _chunks(attention: AttentionFit, layers: int) -> tuple[ChunkKnot, ...]:
    return tuple(
        ChunkKnot(
            tokens=int(tokens),
            us=round(float(alone * layers), 3),
            us_per_kv_token=round(float(slope * layers), 6),
        )
        for tokens, alone, slope in zip(attention.chunks, attention.alone, attention.per_kv, strict=True)
    )
