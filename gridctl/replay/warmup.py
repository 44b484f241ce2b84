"""Warm-up: compile (or load) every kernel of the replay by replaying one request over the smallest grid there is."""

from __future__ import annotations

import numpy as np

from gridctl.grid.image import build_image
from gridctl.kernels import is_warm
from gridctl.replay.replay import replay
from gridctl.resources import (
    Architecture,
    Cluster,
    ClusterSpec,
    Deployment,
    Model,
    ModelSpec,
    Objective,
    PolicySpec,
    Resource,
    Site,
    SiteSpec,
    Variant,
    Workload,
    WorkloadSpec,
)
from gridctl.resources.resource import Metadata
from gridctl.traces.trace import Trace

__all__ = ["is_warm", "warm_up"]


def _smallest_grid() -> list[Resource]:
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


def warm_up() -> None:
    """Make the next replay start at full speed. Seconds on a machine that never ran this version, else a blink."""
    one = np.ones(1, np.int64)
    first = np.zeros(1, np.int32)
    trace = Trace(
        name="warmup",
        arrival_ns=np.zeros(1, np.int64),
        input_tokens=one,
        output_tokens=one,
        origin=first,
        workload=first,
        tenant=first,
        model=np.full(1, -1, np.int32),
        session=np.full(1, -1, np.int64),
        block_offsets=np.zeros(2, np.int64),
        block_ids=np.zeros(0, np.int64),
        origins=("warmup",),
        workloads=("warmup",),
        tenants=("default",),
    )
    replay(build_image(_smallest_grid()), trace, PolicySpec())
