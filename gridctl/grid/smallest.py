"""The smallest grid there is: what warm-ups decide and replay over, so that kernels are compiled and little is done.

What it declares says nothing about any real grid.
"""

from __future__ import annotations

from gridctl.resources import (
    Architecture,
    Cluster,
    ClusterSpec,
    Deployment,
    Model,
    ModelSpec,
    Objective,
    Resource,
    Site,
    SiteSpec,
    Variant,
    Workload,
    WorkloadSpec,
)
from gridctl.resources.resource import Metadata


def smallest_grid() -> list[Resource]:
    """One site, one GPU, one model, one workload."""
    shape = Architecture(
        layers=2, hidden_size=64, heads=2, kv_heads=2, head_dim=32, intermediate_size=128, vocab_size=256
    )
    here = Metadata(name="warmup")
    return [
        Site(metadata=here, spec=SiteSpec(lat=0.0, lon=0.0, country="FR", tier="core", population=1)),
        Model(metadata=here, spec=ModelSpec(architecture=shape, variants=(Variant(name="bf16"),))),
        Cluster(
            metadata=here,
            spec=ClusterSpec(site="warmup", gpu="l4", gpus=1, deployments=(Deployment(variant="warmup/bf16"),)),
        ),
        Workload(
            metadata=here,
            spec=WorkloadSpec(objectives=(Objective(metric="ttft_ms", threshold_ms=500.0),), models=("warmup",)),
        ),
    ]
