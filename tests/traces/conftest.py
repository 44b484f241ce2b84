"""Fixtures of the traces room: small files on disk, the real traces where they are, and a small grid."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gridctl.resources import Metadata, Objective, Site, SiteSpec, Traffic, Workload, WorkloadSpec

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write text or bytes to a file of the test's folder."""

    def write_file(content: str | bytes, name: str = "trace", *, compress: bool = False) -> Path:
        data = content.encode() if isinstance(content, str) else content
        path = tmp_path / name
        path.write_bytes(gzip.compress(data, mtime=0) if compress else data)
        return path

    return write_file


@pytest.fixture(scope="session")
def real_traces() -> Path:
    """The folder of real traces; skips where it is absent."""
    root = Path(os.environ.get("GRIDCTL_DATA_DIR") or Path(__file__).parents[2].parent / "shared" / "data")
    if not (root / "traces").is_dir():
        pytest.skip("the real traces are not here")
    return root / "traces"


def site(name: str, population: int, lon: float = 0.0, tier: str = "edge") -> Site:
    return Site(
        metadata=Metadata(name=name),
        spec=SiteSpec(lat=0.0, lon=lon, country="FR", tier=tier, population=population),  # type: ignore[arg-type]
    )


def workload(name: str, tenants: tuple[str, ...] = ("default",), **traffic: object) -> Workload:
    return Workload(
        metadata=Metadata(name=name),
        spec=WorkloadSpec(
            objectives=(Objective(metric="ttft_ms", threshold_ms=500.0),),
            models=("llama",),
            tenants=tenants,
            traffic=Traffic(**traffic),  # type: ignore[arg-type]
        ),
    )


@pytest.fixture
def make_site() -> Callable[..., Site]:
    return site


@pytest.fixture
def make_workload() -> Callable[..., Workload]:
    return workload
