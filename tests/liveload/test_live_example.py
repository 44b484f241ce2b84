"""The live example: its dashboard asks for metrics that exist, and its trace and grid fit each other."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from gridctl.grid.image import build_image
from gridctl.manifest import read_manifests
from gridctl.replay.replay import check_trace
from gridctl.resources import Cluster
from gridctl.signals import metrics
from gridctl.traces.reader import open_traffic

LIVE = Path(__file__).resolve().parents[2] / "examples" / "live"
NAMES = {metric.name: metric.kind for metric in metrics.ALL}
SERIES = re.compile(r"\b((?:gridctl|gen_ai)_[a-z_]+)\b")


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((LIVE / "dashboard.json.txt").read_text(encoding="utf-8"))["panels"]
    return found


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
def test_every_panel_asks_for_metrics_that_exist(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        found = SERIES.findall(target["expr"])
        assert found
        for name in found:
            base = re.sub(r"_(bucket|sum|count)$", "", name)
            assert name in NAMES or NAMES.get(base) == "histogram", name
        # A counter is only ever looked at through its rate.
        for name in found:
            if NAMES.get(name) == "counter" or name.endswith("_bucket"):
                assert f"rate({name}" in target["expr"]


def test_panels_do_not_lie_on_each_other() -> None:
    places = [panel["gridPos"] for panel in panels()]
    assert len({(place["x"], place["y"]) for place in places}) == len(places)
    assert all(place["x"] + place["w"] <= 24 for place in places)


def test_the_trace_fits_the_grid_and_every_engine_has_an_endpoint() -> None:
    resources = [one.resource for one in read_manifests([str(LIVE)])]
    image = build_image(resources)
    trace = open_traffic(str(LIVE / "trace.jsonl"))
    check_trace(image.view, trace)
    assert len(trace) == 80
    clusters = [one for one in resources if isinstance(one, Cluster)]
    assert [len(deployment.endpoints) for one in clusters for deployment in one.spec.deployments] == [1, 1]
