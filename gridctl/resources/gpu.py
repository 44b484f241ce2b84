"""Gpu: what a roofline needs to know of an accelerator. Fourteen are built in; operators add their own.

Source of the built-in facts: ai-dynamo/aiconfigurator system files (Apache-2.0) at 095f58a, dense rates. Achieved
shares of the RTX PRO 6000: the same project's vLLM 0.24 kernel tables, large GEMMs and long decode attention
(0.86/0.77/0.63 of bf16/fp8/fp4 rate, 0.82 of bandwidth). Other GPUs take the bandwidth share their system file states
and 0.75 of the compute rate, which is an assumption and is called so by `gridctl explain gpu`. The RTX 4090 is from
NVIDIA's Ada architecture paper. Collectives over PCIe: 12 µs and 0.55 of the link, as NCCL was measured on two RTX PRO
6000 (casys-kaist/LLMServingSim, profiler/perf/RTXPRO6000/hardware.yaml, MIT); over NVLink, 8 µs and 0.75 are assumed.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from gridctl.resources.quantity import Count, Gib
from gridctl.resources.resource import Metadata, Resource

Rate = Annotated[float, Meta(ge=0, le=1_000_000)]
PositiveRate = Annotated[float, Meta(gt=0, le=1_000_000)]
Efficiency = Annotated[float, Meta(gt=0, le=1)]


class GpuSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Memory, bandwidth, dense compute rates (a rate of 0 means the format is not supported), power and links."""

    memory_gib: Gib
    bandwidth_gbs: PositiveRate
    bf16_tflops: PositiveRate
    fp8_tflops: Rate = 0.0
    int8_tops: Rate = 0.0
    watts: Count = 0
    link_gbs: PositiveRate = 32.0
    link_efficiency: Efficiency = 0.75
    link_latency_us: Annotated[float, Meta(ge=0, le=100_000)] = 8.0
    bandwidth_efficiency: Efficiency = 0.8
    compute_efficiency: Efficiency = 0.75
    step_overhead_us: Annotated[float, Meta(ge=0, le=100_000)] = 250.0
    kernel_us: Annotated[float, Meta(ge=0, le=1000)] = 2.5


class Gpu(Resource, frozen=True, kw_only=True):
    """An accelerator type."""

    plural: ClassVar[str] = "gpus"
    noun: ClassVar[str] = "gpu"
    summary: ClassVar[str] = "an accelerator type: memory, bandwidth, dense rates, power"

    spec: GpuSpec


_FACTS: tuple[tuple[str, float, float, float, float, float, int, float, float, float], ...] = (
    # name, GiB, GB/s, bf16, fp8, int8, W, link GB/s, bandwidth share, compute share
    ("rtx-4090", 24.0, 1008.0, 165.2, 330.3, 660.6, 450, 32.0, 0.8, 0.75),
    ("rtx-pro-6000", 95.6, 1792.0, 467.8, 935.6, 935.6, 600, 64.0, 0.82, 0.86),
    ("l40s", 45.0, 864.0, 362.1, 733.0, 733.0, 350, 32.0, 0.8, 0.75),
    ("l4", 24.0, 300.0, 121.0, 242.0, 242.0, 72, 32.0, 0.8, 0.75),
    ("a30", 24.0, 933.0, 165.0, 0.0, 330.0, 165, 32.0, 0.8, 0.75),
    ("a100-pcie", 80.0, 1935.0, 312.0, 0.0, 624.0, 300, 32.0, 0.8, 0.75),
    ("a100-sxm", 80.0, 2039.0, 312.0, 0.0, 624.0, 400, 300.0, 0.8, 0.75),
    ("h100-pcie", 80.0, 2000.0, 756.5, 1513.0, 1513.0, 350, 64.0, 0.8, 0.75),
    ("h100-sxm", 80.0, 3350.0, 989.0, 1978.0, 1978.0, 700, 450.0, 0.8, 0.75),
    ("h200-sxm", 141.0, 4800.0, 989.0, 1978.0, 1978.0, 700, 450.0, 0.8, 0.75),
    ("b200-sxm", 180.0, 7700.0, 2250.0, 4500.0, 4500.0, 1000, 900.0, 0.8, 0.75),
    ("b300-sxm", 268.6, 7750.0, 2250.0, 4500.0, 153.5, 1100, 900.0, 0.8, 0.75),
    ("gb200", 185.0, 8000.0, 2500.0, 5000.0, 5000.0, 1200, 900.0, 0.8, 0.75),
    ("gb300", 277.5, 8000.0, 2500.0, 5000.0, 165.0, 1400, 900.0, 0.8, 0.75),
)

FASTEST_PCIE_GBS = 64.0
_OVER_PCIE = {"link_efficiency": 0.55, "link_latency_us": 12.0}

BUILTIN_GPUS: dict[str, Gpu] = {
    name: Gpu(
        metadata=Metadata(name=name),
        spec=GpuSpec(
            memory_gib=memory,
            bandwidth_gbs=bandwidth,
            bf16_tflops=bf16,
            fp8_tflops=fp8,
            int8_tops=int8,
            watts=watts,
            link_gbs=link,
            bandwidth_efficiency=bandwidth_share,
            compute_efficiency=compute_share,
            **(_OVER_PCIE if link <= FASTEST_PCIE_GBS else {}),
        ),
    )
    for name, memory, bandwidth, bf16, fp8, int8, watts, link, bandwidth_share, compute_share in _FACTS
}
