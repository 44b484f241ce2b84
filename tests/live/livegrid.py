"""Manifests of small grids whose clusters have running engines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PLACES: dict[str, dict[str, Any]] = {
    "paris": {"lat": 48.86, "lon": 2.35, "country": "FR", "tier": "edge"},
    "lyon": {"lat": 45.76, "lon": 4.84, "country": "FR", "tier": "edge"},
    "madrid": {"lat": 40.42, "lon": -3.70, "country": "ES", "tier": "edge"},
}
MODEL = "tiny"
GPU = "rtx-pro-6000"
ARCHITECTURE = {
    "layers": 16,
    "hidden_size": 2048,
    "heads": 32,
    "kv_heads": 8,
    "head_dim": 64,
    "intermediate_size": 8192,
    "vocab_size": 128256,
    "tied_embeddings": True,
}
PROFILED_ARCHITECTURE = {
    "layers": 32,
    "hidden_size": 4096,
    "heads": 32,
    "kv_heads": 8,
    "head_dim": 128,
    "intermediate_size": 14336,
    "vocab_size": 128256,
}


def write_grid(
    path: Path,
    engines: dict[str, list[str]],
    *,
    served_model: str | None = None,
    usd_per_gpu_hour: dict[str, float] | None = None,
    algorithm: str = "grid",
    ttft_ms: float = 5_000.0,
    max_num_seqs: int | None = None,
    profile: str | None = None,
) -> None:
    """Sites with a cluster each, its engines at the given URLs, one model `tiny`, one workload `chat`.

    With a profile, `tiny` is the 8-billion-parameter architecture that the shipped profiles were measured on."""
    objectives = [
        {"metric": "ttft_ms", "threshold_ms": ttft_ms, "percentile": 99},
        {"metric": "e2e_ms", "threshold_ms": 60_000, "percentile": 99},
    ]
    documents = [
        document(
            "Model",
            MODEL,
            {
                "architecture": PROFILED_ARCHITECTURE if profile else ARCHITECTURE,
                "variants": [{"name": "bf16", "quality": 0.5}],
            },
        ),
        document("PriceBook", "default", {"gpu_hour_usd": {GPU: 1.69}, "egress_usd_per_gb": 0.005}),
        document("Policy", "default", {"algorithm": algorithm}),
        document("Workload", "chat", {"objectives": objectives, "models": [MODEL], "access_rtt_ms": 1}),
    ]
    for site, urls in engines.items():
        deployment: dict[str, Any] = {"variant": f"{MODEL}/bf16", "replicas": len(urls), "endpoints": urls}
        if served_model is not None:
            deployment["served_model"] = served_model
        if profile is not None:
            deployment["profile"] = profile
        if max_num_seqs is not None:
            deployment["engine"] = {"max_num_seqs": max_num_seqs}
        cluster: dict[str, Any] = {"site": site, "gpu": GPU, "gpus": len(urls), "deployments": [deployment]}
        if usd_per_gpu_hour and site in usd_per_gpu_hour:
            cluster["usd_per_gpu_hour"] = usd_per_gpu_hour[site]
        documents += [document("Site", site, PLACES[site]), document("Cluster", f"{site}-gpus", cluster)]
    path.write_text("---\n".join(json.dumps(one) + "\n" for one in documents))


def document(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    """One manifest."""
    return {"apiVersion": "gridctl/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}
