"""Plausibility: whether operator tables can be of this model on this GPU at all.

Refuses tables that lack a layer of the model or hold one it does not have, and times no such GPU could reach: units
off by a thousand, another model's tables, those of a much slower GPU. The floors are the specification's: weights and
KV cache read once at the full bandwidth, two FLOPs per weight and token at the full rate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gridctl.errors import InputError
from gridctl.profiling.tables import OperatorTables
from gridctl.resources.model import WEIGHT_BITS, Dtype

if TYPE_CHECKING:
    from gridctl.profiling.fit import FitRequest

DENSE_MLP = ("gate_up_proj", "down_proj")
MATRICES = ("qkv_proj", "o_proj", *DENSE_MLP)

FASTEST_COMPUTE = 0.8
"""Of the time the specification allows: clocks boost beyond the one it is given for."""
FASTEST_CACHED = 0.5
"""Small matrices and KV caches that a benchmark reads again and again come from the GPU's cache."""
SLOWEST, SLOWEST_ATTENTION = 4.0, 20.0
"""Large matrices reach more than a quarter of a GPU; attention kernels vary more."""
KERNEL_US = 10.0
"""No kernel, however small, takes longer than this for being one."""


def check_model(tables: OperatorTables, request: FitRequest) -> None:
    """The layers must be those this model has, and their times such as this GPU can reach.

    Raises InputError.
    """
    shape, where = request.model.architecture, tables.source
    needed = ("qkv_proj", "o_proj", *(DENSE_MLP if shape.experts <= 1 else ()))
    lacking = [name for name in needed if name not in tables.dense]
    if lacking:
        raise InputError(
            f"the dense table has no {lacking[0]}, which every layer of this model runs",
            where=where,
            fix="give the tables of this model, or the architecture the tables are of",
        )
    foreign = [name for name in DENSE_MLP if name in tables.dense and shape.experts > 1]
    if foreign:
        raise InputError(
            f"the dense table has {foreign[0]}, but this model's MLPs are experts",
            where=where,
            fix="give the tables of this model, or the architecture the tables are of",
        )
    if "lm_head" not in tables.per_sequence:
        raise InputError("the per-sequence table has no lm_head", where=where, fix="measure lm_head by sequences")
    _check_times(tables, request)


def _check_times(tables: OperatorTables, request: FitRequest) -> None:
    """What takes most must take what the GPU can reach: units off by a thousand, a larger model's tables and those of
    a much slower GPU do not."""
    shape, parallel = request.model.architecture, request.deployment.tensor_parallel
    tokens, sequences = tables.tokens[-1], tables.sequences[0]
    matrices = [tables.dense[name][tokens] for name in MATRICES if name in tables.dense]
    weights = shape.attention_parameters + (shape.mlp_parameters if shape.experts <= 1 else 0)
    deepest = max((batch for batch in tables.attention if batch[0] == 0), key=lambda batch: batch[2] * batch[3])
    element_bytes = 1 if request.deployment.engine.kv_cache_dtype == "fp8" else 2
    copies = max(1, parallel // shape.kv_heads) * deepest[2] * deepest[3] / shape.layers
    read_us = _read_us(request, shape.kv_bytes_per_token(element_bytes) * copies)
    layers = _product_range(request, weights, tokens, request.variant.dtype, shape.layers * len(matrices))
    head = _product_range(request, shape.embedding_parameters, sequences, "bf16", 1)
    for what, time, (least, most) in (
        (f"matrices of {tokens:,} tokens", shape.layers * sum(matrices), layers),
        (f"the LM head of {sequences:,} sequences", tables.per_sequence["lm_head"][sequences], head),
        (
            f"{deepest[2]:,} decodes of {deepest[3]:,} KV tokens",
            tables.attention[deepest],
            (FASTEST_CACHED * read_us, SLOWEST_ATTENTION * (read_us + KERNEL_US)),
        ),
    ):
        if not least < time < most:
            raise InputError(
                f"{what} take {_shown(time)} µs in the tables; by its specification {request.gpu_name} needs"
                f" {_shown(least)} to {_shown(most)} µs",
                where=tables.source,
                fix="time_us must be microseconds of one layer, of this model, on this GPU and tensor parallelism",
            )


def _shown(time_us: float) -> str:
    return f"{time_us:,.0f}" if time_us >= 100 else f"{time_us:.3g}"


def _read_us(request: FitRequest, size_bytes: float) -> float:
    """Bytes over all GPUs read at the full bandwidth."""
    return size_bytes / (request.gpu.bandwidth_gbs * 1e3 * request.deployment.tensor_parallel)


def _product_range(request: FitRequest, weights: int, tokens: int, dtype: Dtype, kernels: int) -> tuple[float, float]:
    """The least and the most that weights times so many tokens can take, microseconds."""
    gpu = request.gpu
    rates = {"fp8": gpu.fp8_tflops, "int8": gpu.int8_tops}
    rate = (rates.get(dtype) or gpu.bf16_tflops) * 1e6 * request.deployment.tensor_parallel
    compute_us = 2.0 * weights * tokens / rate
    read_us = _read_us(request, weights * WEIGHT_BITS[dtype] / 8)
    most = SLOWEST * (max(compute_us, read_us) + kernels * KERNEL_US)
    return max(FASTEST_COMPUTE * compute_us, FASTEST_CACHED * read_us), most
