"""After a warm-up no replay compiles: whatever the trace and the policy, they are the kernels' same types."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gridctl.kernels import is_interpreted

ROOT = Path(__file__).parents[2]

PROGRAM = """
import numpy as np
from gridctl.geography.world import generate_world
from gridctl.grid.image import build_image
from gridctl.kernels.linking import EntryCompiler
from gridctl.replay.origins import origins_of
from gridctl.replay.replay import replay
from gridctl.replay.resolving import resolve_faults
from gridctl.replay.warmup import is_warm, warm_up
from gridctl.resources import PolicySpec, Site, Workload
from gridctl.resources.gameday import (
    Blindness, Brownout, FaultSpec, GameDaySpec, Path, PriceChange, Slow, Where, Whence,
)
from gridctl.resources.policy import ALGORITHMS
from gridctl.traces.generate import GenerateSpec, generate

warm_up()
assert is_warm()
def compiles(self, func):
    raise AssertionError(f"{func.__qualname__} was compiled after the warm-up: {self.state.args}")
EntryCompiler.compile_extra = compiles
resources = generate_world(40, 1)
sites = [item for item in resources if isinstance(item, Site)]
workloads = [item for item in resources if isinstance(item, Workload)]
image = build_image(resources)
for tokens in (0, 8, 512):
    spec = GenerateSpec(duration_s=2.0, rate_rps=100.0, turns=2.0, block_tokens=tokens)
    trace = generate(spec, sites, workloads, 1)
    for algorithm in ALGORITHMS:
        assert len(replay(image, trace, PolicySpec(algorithm=algorithm)).rows) == len(trace)
core, everywhere = Where(tier="core"), Whence(region="EU")
day = GameDaySpec(noticed_after="100ms", faults=(
    FaultSpec(at="200ms", lasts="200ms", lose=core),
    FaultSpec(at="500ms", lasts="200ms", slow=Slow(tier="metro", factor=2.0)),
    FaultSpec(at="800ms", lasts="200ms", brownout=Brownout(tier="core", keep=0.5)),
    FaultSpec(at="1100ms", lasts="300ms", link=Path(whence=everywhere, to=core, lost=True)),
    FaultSpec(at="1100ms", lasts="300ms", telemetry=Blindness(tier="core", state="missing")),
    FaultSpec(at="1500ms", lasts="200ms", price=PriceChange(of="gpu-hour", factor=2.0)),
))
faults = resolve_faults(day, image, origins=origins_of(image.view, trace))
assert sum(fault.lost for fault in replay(image, trace, PolicySpec(), faults=faults).faults) > 0
"""


@pytest.mark.skipif(is_interpreted(), reason="about compiled kernels")
def test_nothing_is_compiled_after_a_warm_up() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
