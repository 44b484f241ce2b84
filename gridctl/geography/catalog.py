"""Catalogue: the models, prices and policy a generated grid starts from, for its owner to replace.

Architecture numbers are those of the published config.json files. Quality scores are examples on a 0 to 1 scale, set
near published knowledge benchmarks with a small loss for fewer bits; measure your own before relying on a floor.
GPU-hour prices are medians of on-demand prices listed by providers in late 2026 (named at each); they are a start, not
a quotation.
"""

from __future__ import annotations

from gridctl.resources import (
    ApiFallback,
    Metadata,
    Model,
    ModelSpec,
    Policy,
    PolicySpec,
    PriceBook,
    PriceBookSpec,
    Variant,
)
from gridctl.resources.architectures import ARCHITECTURES
from gridctl.resources.model import Dtype

LLAMA_1B = "llama-3.2-1b"
LLAMA_8B = "llama-3.1-8b"
LLAMA_70B = "llama-3.1-70b"
QWEN_30B = "qwen3-30b-a3b"

# Example scores of each variant, from 16 bits down.
_QUALITY: dict[str, dict[Dtype, float]] = {
    LLAMA_1B: {"bf16": 0.49, "fp8": 0.485, "int8": 0.485, "w4a16": 0.46},
    LLAMA_8B: {"bf16": 0.69, "fp8": 0.687, "int8": 0.685, "w4a16": 0.67},
    QWEN_30B: {"bf16": 0.8, "fp8": 0.797, "int8": 0.795, "w4a16": 0.78},
    LLAMA_70B: {"bf16": 0.83, "fp8": 0.828, "int8": 0.826, "w4a16": 0.815},
}

# US dollars per GPU hour: the median of on-demand list prices, without spot, serverless and hyperscaler offers.
GPU_HOUR_USD: dict[str, float] = {
    "rtx-pro-6000": 1.69,  # Verda 1.69, Akash 1.45 and 2.04
    "l40s": 1.85,  # Nebius 1.5484, Ori 2.16
    "l4": 1.14,  # Ori 1.14261
    "a100-pcie": 1.4,  # Hyperstack 1.35 and 1.40, RunPod 1.19 and 1.79
    "a100-sxm": 1.75,  # RunPod 1.39 and 1.79, Akash 1.71, Lambda 2.79
    "h100-pcie": 1.97,  # Hyperstack 1.90 and 1.95, RunPod 1.99 and 2.89
    "h100-sxm": 3.35,  # Hyperstack 2.40, RunPod 2.69 and 3.99, Akash 2.71, Lambda 3.99, Ori 5.13
    "h200-sxm": 3.5,  # Verda 3.39, Nebius 3.50, Akash 4.45
    "b200-sxm": 5.25,  # Verda 4.89, Akash 5.00, Nebius 5.50, Lambda 6.69
    "b300-sxm": 6.5,  # Akash 6.00, Verda 6.99
}


def models() -> list[Model]:
    """Four open-weight models from 1 to 70 billion parameters, each in four formats."""
    return [
        Model(
            metadata=Metadata(name=name),
            spec=ModelSpec(
                architecture=ARCHITECTURES[name],
                variants=tuple(
                    Variant(
                        name=dtype,
                        dtype=dtype,
                        quality=quality,
                        lineage="" if dtype == "bf16" else "quantised from bf16; example quality score",
                    )
                    for dtype, quality in scores.items()
                ),
            ),
        )
        for name, scores in _QUALITY.items()
    ]


def price_book() -> PriceBook:
    """The book `default`.

    Egress: Akamai Cloud's list price in most regions; `SITE_EGRESS_USD_PER_GB` holds the dearer regions. Electricity:
    zero, because a rented GPU-hour already holds the power it draws and a second price would bill it twice; who owns
    the machines sets their own $/kWh, and a GPU-hour without power. Fallback: the largest model behind an API at 2 and
    6 $/M tokens (Mistral Large's list price), in no stated jurisdiction.
    """
    return PriceBook(
        metadata=Metadata(name="default"),
        spec=PriceBookSpec(
            gpu_hour_usd=dict(GPU_HOUR_USD),
            serverless_usd_per_ms=0.00000027,
            egress_usd_per_gb=0.005,
            usd_per_kwh=0.0,
            fallback=ApiFallback(
                model=LLAMA_70B,
                usd_per_mtok_input=2.0,
                usd_per_mtok_output=6.0,
                ttft_ms=800.0,
                tpot_ms=20.0,
                quality=0.84,
            ),
        ),
    )


# Regions where transit is dearer than the book says; an assumption within the range of listed prices.
SITE_EGRESS_USD_PER_GB: dict[str, float] = {"AS": 0.01, "OC": 0.01, "LATAM": 0.015, "ME": 0.015, "AF": 0.02}


def policy() -> Policy:
    """The policy `default`: our own algorithm with its default numbers."""
    return Policy(metadata=Metadata(name="default"), spec=PolicySpec(algorithm="grid"))
