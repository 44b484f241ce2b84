"""Outline: a roofline written down as a profile, so that it can be read, compared, edited and declared."""

from __future__ import annotations

import numpy as np

from gridctl.engine.roofline import ROOFLINE_SIGMA, roofline
from gridctl.profiling.curves import Floats, few_knots
from gridctl.resources import (
    ChunkKnot,
    DecodeRow,
    Deployment,
    FitError,
    GpuSpec,
    ModelSpec,
    ProfileRange,
    ProfileSpec,
    Variant,
)
from gridctl.units import PS_PER_US

TOLERANCE = 0.002
LONGEST_CONTEXT = 131_072


def outline(gpu_name: str, gpu: GpuSpec, model: ModelSpec, variant: Variant, deployment: Deployment) -> ProfileSpec:
    """The roofline of one engine of `deployment` as knots that lose at most `TOLERANCE`."""
    steps = roofline(model, variant, gpu, deployment)
    dense, sample, alone, per_kv = (
        table / PS_PER_US for table in (steps.dense_ps, steps.sample_ps, steps.chunk_ps, steps.chunk_kv_ps)
    )
    slope = steps.decode[0][0][2] / PS_PER_US
    widest = deployment.engine.max_num_seqs * deployment.data_parallel
    return ProfileSpec(
        gpu=gpu_name,
        architecture=model.architecture,
        dtype=variant.dtype,
        kv_cache_dtype=deployment.engine.kv_cache_dtype,
        tensor_parallel=deployment.tensor_parallel,
        data_parallel=deployment.data_parallel,
        method="roofline",
        source=_facts(gpu_name, gpu),
        valid=ProfileRange(tokens=len(dense) - 1, sequences=widest, kv_tokens=LONGEST_CONTEXT),
        error=FitError(step=ROOFLINE_SIGMA * 100),
        dense=tuple((count, round(float(dense[count]), 3)) for count in _knots(dense)),
        sample=tuple((count, round(float(sample[count]), 3)) for count in _knots(sample)),
        decode=tuple(
            DecodeRow(
                sequences=count,
                kv=((0, 0.0), (LONGEST_CONTEXT, round(slope * LONGEST_CONTEXT * count, 3))),
            )
            for count in sorted({1, widest})
        ),
        chunk=tuple(
            ChunkKnot(tokens=count, us=round(float(alone[count]), 3), us_per_kv_token=round(float(per_kv[count]), 6))
            for count in sorted({*_knots(alone), *_knots(per_kv)})
        ),
    )


def _knots(table: Floats) -> list[int]:
    """Counts from 1 on."""
    at = np.arange(1, len(table), dtype=np.float64)
    return [knot + 1 for knot in few_knots(at, [table[1:]], TOLERANCE)]


def _facts(name: str, gpu: GpuSpec) -> str:
    return (
        f"roofline of {name}: {gpu.bandwidth_gbs:g} GB/s at {gpu.bandwidth_efficiency:g}, {gpu.bf16_tflops:g} bf16"
        f" TFLOPS at {gpu.compute_efficiency:g}, link {gpu.link_gbs:g} GB/s at {gpu.link_efficiency:g}"
    )
