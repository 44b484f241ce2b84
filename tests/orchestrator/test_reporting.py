"""What the grid knows of a run: places by site, city and coordinates, and the commands that make it again."""

from __future__ import annotations

import time
from pathlib import Path

from gridctl.accounts.facts import Origin, RunInfo
from gridctl.orchestrator.context import GridHome, home_of
from gridctl.orchestrator.reporting import commands_of, places_of
from gridctl.registry import Registry
from gridctl.resources import Site
from gridctl.resources.resource import Metadata
from gridctl.resources.site import SiteSpec


def home_with_lyon(folder: Path) -> GridHome:
    home = home_of(folder / "grid", "test")
    home.runs.mkdir(parents=True)
    lyon = Site(metadata=Metadata(name="fr-lyon-01"), spec=SiteSpec(lat=45.76, lon=4.84, country="FR", tier="edge"))
    with Registry.open(home.database, create=True) as registry:
        registry.apply([lyon], cause="test")
    return home


def info(*origins: str, name: str = "base", centralized: str = "base.centralized") -> RunInfo:
    return RunInfo(
        name=name,
        trace="t",
        policy="my policy",
        algorithm="grid",
        seed=7,
        created_ns=0,
        wall_s=0.0,
        requests=0,
        completed=0,
        rejected=0,
        failed=0,
        input_tokens=0,
        output_tokens=0,
        window_ns=0,
        digest="",
        gridctl_version="0",
        engines=(),
        origins=tuple(Origin(name=origin, country="FR", region="EU", jurisdiction="EU") for origin in origins),
        workloads={},
        workload_names=(),
        tenant_names=(),
        centralized=centralized,
    )


def test_places_are_sites_cities_and_coordinates(tmp_path: Path) -> None:
    found = places_of(
        info("fr-lyon-01", "Oslo", "-12.5,130.8", "nowhere-at-all-9", "91,0", "nan,1"), home_with_lyon(tmp_path)
    )
    assert set(found) == {"fr-lyon-01", "Oslo", "-12.5,130.8"}
    assert (found["fr-lyon-01"].lat, found["fr-lyon-01"].tier) == (45.76, "edge")
    assert round(found["Oslo"].lat) == 60
    assert (found["-12.5,130.8"].lat, found["-12.5,130.8"].lon) == (-12.5, 130.8)


def test_thousands_of_forgotten_sites_cost_no_minutes(tmp_path: Path) -> None:
    started = time.process_time()
    assert places_of(info(*(f"zz-forgotten-{k:04}" for k in range(4_400))), home_with_lyon(tmp_path)) == {}
    assert time.process_time() - started < 20


def test_the_commands_are_those_a_shell_takes(tmp_path: Path) -> None:
    assert commands_of(info(), "other", 5) == (
        "gridctl replay run TRACE --name base --policy 'my policy' --seed 7 --seeds 5",
        "gridctl report base --compare other --html base.html",
    )
    assert commands_of(info(centralized=""), None)[0].endswith("--seed 7 --no-centralized")
