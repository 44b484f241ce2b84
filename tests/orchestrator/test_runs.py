"""Runs on disk ⇄ runs in memory: equal after the way there and back, and clear when a file is not what it was."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "grid"))

from smallgrids import cluster, gpu, model, site, trace, workload

from gridctl.accounts.facts import RunInfo
from gridctl.accounts.rows import Run
from gridctl.errors import InputError, NotFoundError, StoreError
from gridctl.grid.image import build_image
from gridctl.orchestrator.context import GridHome, home_of
from gridctl.orchestrator.runs import load_info, load_run, save_run
from gridctl.replay.replay import replay
from gridctl.resources import PolicySpec


@pytest.fixture
def home(tmp_path: Path) -> GridHome:
    return home_of(tmp_path, "test")


@pytest.fixture
def run() -> Run:
    resources = [gpu(), model(), site("paris"), cluster("c", "paris"), workload()]
    asked = trace([{}, {"at_ms": 3.25}])
    result = replay(build_image(resources), asked, PolicySpec())
    info = RunInfo(
        name="base",
        trace="hand",
        policy="grid",
        algorithm="grid",
        seed=3,
        created_ns=1_700_000_000_000_000_123,
        wall_s=0.1,
        requests=2,
        completed=2,
        rejected=0,
        failed=0,
        input_tokens=200,
        output_tokens=20,
        window_ns=result.window_ns,
        digest="sha256:0",
        gridctl_version="0",
        engines=result.engines,
        origins=result.origins,
        workloads=result.workloads,
        workload_names=asked.workloads,
        tenant_names=asked.tenants,
        notes=("a “note”",),
    )
    return Run(info, result.rows)


def test_a_run_comes_back_as_it_was_saved(home: GridHome, run: Run) -> None:
    save_run(run, home)
    back = load_run("base", home)
    assert back.info == run.info == load_info("base", home)
    for field in dataclasses.fields(run.rows):
        saved, loaded = getattr(run.rows, field.name), getattr(back.rows, field.name)
        assert saved.dtype == loaded.dtype
        assert np.array_equal(saved, loaded)


def test_a_run_is_not_overwritten_unless_asked(home: GridHome, run: Run) -> None:
    save_run(run, home)
    other = Run(msgspec.structs.replace(run.info, seed=9), run.rows)
    with pytest.raises(InputError):
        save_run(other, home)
    assert load_info("base", home).seed == 3
    save_run(other, home, replace=True)
    assert load_info("base", home).seed == 9


def test_a_run_that_is_not_there_is_not_found(home: GridHome, run: Run) -> None:
    save_run(run, home)
    with pytest.raises(NotFoundError) as raised:
        load_run("bas", home)
    assert "did you mean base" in (raised.value.fix or "")


def test_a_run_of_another_kind_of_gridctl_says_how_to_go_on(home: GridHome, run: Run) -> None:
    columns = {"arrival_ns": np.zeros(2, np.int64)}
    home.open_runs().save("old", msgspec.json.encode(run.info), columns)
    with pytest.raises(StoreError) as raised:
        load_run("old", home)
    assert raised.value.what.startswith("run old has no column ")
    whole = {field.name: getattr(run.rows, field.name) for field in dataclasses.fields(run.rows)}
    home.open_runs().save("odd", b'{"name": "odd"}', whole)
    for read in (load_run, load_info):
        with pytest.raises(StoreError) as raised:
            read("odd", home)
        assert "gridctl run delete odd" in (raised.value.fix or "")
