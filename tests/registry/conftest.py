"""A registry in a temporary folder, and resources to put into it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gridctl.registry import Registry
from gridctl.resources import Metadata, Serverless, Site, SiteSpec

MakeSite = Callable[..., Site]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "grid.db"


@pytest.fixture
def registry(path: Path) -> Iterator[Registry]:
    with Registry.open(path, create=True) as opened:
        yield opened


@pytest.fixture
def site() -> MakeSite:
    def make(name: str = "fr-paris-01", labels: dict[str, str] | None = None, **facts: object) -> Site:
        declared = {"lat": 48.85, "lon": 2.35, "country": "FR", "tier": "edge", **facts}
        return Site(metadata=Metadata(name=name, labels=labels or {}), spec=SiteSpec(**declared))

    return make


@pytest.fixture
def serverless() -> Serverless:
    return Serverless(variants=("qwen3-0.6b/int8",))
