"""Commands as a user runs them: a process with its own home and folder, its exit code, stdout and stderr apart."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
KERNELS = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
"""Compiled kernels are shared by all tests: a home of its own would have each compile them anew."""

MANIFESTS = """\
apiVersion: gridctl/v1
kind: Site
metadata: {name: no-oslo-01}
spec: {lat: 59.9, lon: 10.7, country: NO, tier: core, city: Oslo}
---
apiVersion: gridctl/v1
kind: Site
metadata: {name: fr-paris-01, labels: {carrier: a}}
spec: {lat: 48.86, lon: 2.35, country: FR, tier: edge, city: Paris}
---
apiVersion: gridctl/v1
kind: Cluster
metadata: {name: oslo-gpu}
spec: {site: no-oslo-01, gpu: l40s, gpus: 4, deployments: [{variant: tiny/bf16, replicas: 2}]}
---
apiVersion: gridctl/v1
kind: Model
metadata: {name: tiny}
spec:
  architecture: {layers: 16, hidden_size: 2048, heads: 32, kv_heads: 8, head_dim: 64, intermediate_size: 8192,
                 vocab_size: 128256, tied_embeddings: true}
  variants: [{name: bf16, quality: 0.6}]
---
apiVersion: gridctl/v1
kind: Workload
metadata: {name: chat}
spec: {models: [tiny], objectives: [{metric: ttft_ms, threshold_ms: 500}]}
"""


@dataclass(frozen=True)
class Ran:
    """What a command left: its exit code, its data, its talk."""

    code: int
    out: str
    err: str


class Shell:
    """Runs commands in one folder with one home, both thrown away after the test."""

    def __init__(self, folder: Path, spawner: subprocess.Popen[str]) -> None:
        self.folder = folder
        self._spawner = spawner
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("GRIDCTL_", "XDG_", "NO_COLOR"))
        }
        self.environment = {
            **kept,
            "HOME": str(folder / "home"),
            "XDG_CACHE_HOME": KERNELS,
            "PYTHONPATH": str(REPOSITORY),
            "COLUMNS": "120",
            "USER": "ada",
        }

    def __call__(self, *arguments: str, stdin: str = "", cwd: Path | None = None, **variables: str) -> Ran:
        request = {
            "arguments": arguments,
            "stdin": stdin,
            "cwd": str(cwd or self.folder),
            "environment": {**self.environment, **variables},
        }
        asked, answered = self._spawner.stdin, self._spawner.stdout
        assert asked is not None
        assert answered is not None
        asked.write(json.dumps(request) + "\n")
        asked.flush()
        return Ran(**json.loads(answered.readline()))

    def python(self, code: str, cwd: Path | None = None) -> Ran:
        """Run Python code where a command would run."""
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            cwd=cwd or self.folder,
            env=self.environment,
            timeout=60,
            check=False,
        )
        return Ran(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def spawner() -> Iterator[subprocess.Popen[str]]:
    """The process that forks commands; one for all tests."""
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("spawner.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture
def shell(tmp_path: Path, spawner: subprocess.Popen[str]) -> Shell:
    """A shell in an empty folder, with no grid anywhere."""
    (tmp_path / "home").mkdir()
    return Shell(tmp_path, spawner)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """A small whole grid: two sites, a cluster, a model, a workload."""
    path = tmp_path / "grid.yaml"
    path.write_text(MANIFESTS, encoding="utf-8")
    return path


@pytest.fixture
def grid(shell: Shell, manifest: Path) -> Callable[..., Ran]:
    """A shell that works on an applied grid."""
    from gridctl.manifest import read_manifests
    from gridctl.orchestrator.context import home_of
    from gridctl.registry import Registry

    home = home_of(shell.folder / "grid", "test")
    home.runs.mkdir(parents=True)
    (home.folder / "gridctl.yaml").write_text("name: grid\n")
    with Registry.open(home.database, create=True) as registry:
        registry.apply([one.resource for one in read_manifests([manifest])], cause="test")
    shell.environment["GRIDCTL_STORE"] = str(home.folder)
    return shell
