"""The measured pairs, where they are, and the fitting script."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def measured() -> tuple[Path, Path]:
    """Paths of the measured pairs and of their cities."""
    folder = Path(os.environ.get("GRIDCTL_DATA_DIR") or REPOSITORY.parent / "shared" / "data") / "network"
    pairs, cities = folder / "wondernetwork_2018_train.csv.gz", folder / "wondernetwork_cities.csv.gz"
    if not pairs.exists():
        pytest.skip("no measured data here")
    return pairs, cities


@pytest.fixture(scope="session")
def fitting() -> ModuleType:
    """tests/bench/fit_rtt.py as a module."""
    spec = importlib.util.spec_from_file_location("fit_rtt", REPOSITORY / "tests" / "bench" / "fit_rtt.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fit_rtt"] = module
    spec.loader.exec_module(module)
    return module
