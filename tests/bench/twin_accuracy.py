"""How far the uncalibrated roofline twin is from a measured vLLM run, request by request.

    python tests/bench/twin_accuracy.py [FOLDER]

FOLDER (GRIDCTL_DATA_DIR otherwise) holds perf/measured_vllm_RTXPRO6000_Llama-3.1-8B.csv.gz: 300 ShareGPT requests at
10/s on one RTX PRO 6000, vLLM 0.19, bf16, max_num_seqs 128, 2,048 batched tokens. Nothing is fitted to the run.
"""

from __future__ import annotations

import csv
import gzip
import os
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gridctl.engine.clock import drain
from gridctl.engine.fleet import EngineSpec, build_fleet, dispatch
from gridctl.engine.memory import plan_memory
from gridctl.engine.roofline import roofline
from gridctl.engine.state import GPU
from gridctl.resources import BUILTIN_GPUS, Architecture, Deployment, ModelSpec, Variant
from gridctl.units import PS_PER_S

MEASURED = "perf/measured_vllm_RTXPRO6000_Llama-3.1-8B.csv.gz"
LLAMA_8B = Architecture(
    layers=32,
    hidden_size=4096,
    heads=32,
    kv_heads=8,
    head_dim=128,
    intermediate_size=14336,
    vocab_size=128256,
)


def report(name: str, twin: NDArray[np.float64], measured: NDArray[np.float64]) -> None:
    errors = [f"{twin.mean() / measured.mean() - 1:+7.1%}"]
    errors += [f"{np.percentile(twin, p) / np.percentile(measured, p) - 1:+7.1%}" for p in (50, 95, 99)]
    print(f"{name:6} mean {errors[0]}  p50 {errors[1]}  p95 {errors[2]}  p99 {errors[3]}")


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else os.environ["GRIDCTL_DATA_DIR"])
    with gzip.open(folder / MEASURED, "rt") as stream:
        rows = list(csv.DictReader(stream))
    model, gpu, deployment = (
        ModelSpec(architecture=LLAMA_8B, variants=(Variant(name="bf16"),)),
        BUILTIN_GPUS["rtx-pro-6000"].spec,
        Deployment(variant="llama/bf16"),
    )
    variant = model.variants[0]
    blocks = plan_memory(model, variant, gpu, deployment).kv_blocks
    spec = EngineSpec(GPU, roofline(model, variant, gpu, deployment), 128, 2048, 16, blocks, 131_072, 1)
    fleet = build_fleet([spec], requests=len(rows))
    for number, row in enumerate(rows):
        arrival, prompt = round(float(row["queued_s"]) * PS_PER_S), int(row["input_tokens"])
        dispatch(fleet, 0, number, 0, 5, arrival, prompt, int(row["output_tokens"]), 0, 0, prompt)
    drain(fleet)
    queued, first, last = (
        np.array([float(row[c]) for row in rows]) for c in ("queued_s", "first_token_s", "last_token_s")
    )
    steps = np.array([int(row["output_tokens"]) for row in rows]) - 1
    twin_first, twin_last = fleet.results.first_token / PS_PER_S, fleet.results.last_token / PS_PER_S
    report("TTFT", twin_first - queued, first - queued)
    report("TPOT", (twin_last - twin_first) / steps, (last - first) / steps)
    report("E2E", twin_last - queued, last - queued)


if __name__ == "__main__":
    main()
