"""A stage forked before a fault plays on as the whole replay would, and leaves the one it was forked from alone."""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import pytest
from smallgrids import make_grid, make_policy, make_trace

from gridctl.accounts.rows import RunRows
from gridctl.engine.state import GPU
from gridctl.grid.image import build_image
from gridctl.replay.replay import played_out, replay
from gridctl.replay.resolving import resolve_faults
from gridctl.replay.stage import set_stage
from gridctl.resources.gameday import Blindness, Brownout, FaultSpec, GameDaySpec, Where


class Kept:
    """Rows as they come, behind those that were there."""

    def __init__(self, before: Kept | None = None) -> None:
        self.parts: list[RunRows] = [] if before is None else list(before.parts)

    def keep(self, rows: RunRows) -> None:
        self.parts.append(rows)

    def column(self, name: str) -> np.ndarray:
        return np.concatenate([getattr(part, name) for part in self.parts])


@pytest.mark.parametrize("case", range(30))
def test_a_fork_plays_on_as_the_whole_replay_does(case: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three different faults, each forked off the same beginning, in any order; rows leave early and late."""
    monkeypatch.setattr("gridctl.replay.window.PART_REQUESTS", 4)
    pick = random.Random(case).randint
    resources = make_grid(pick)
    told = make_trace(pick, resources, 80)
    image, policy = build_image(resources), make_policy(pick)
    sites = sorted({one.facts.site for one in image.engines if one.spec.kind == GPU})
    if not sites:
        pytest.skip("no engine could fail")
    number = pick(0, len(told) - 1)
    at_ms = max(0, int(told.arrival_ns[number]) // 1_000_000 + pick(0, 3))
    when = {"at": f"{at_ms}ms", "lasts": f"{pick(1, 5000)}ms"}
    days = [
        GameDaySpec(faults=(FaultSpec(**when, lose=Where(site=sites[0])),), noticed_after=f"{pick(0, 3000)}ms"),
        GameDaySpec(faults=(FaultSpec(**when, brownout=Brownout(site=sites[-1], keep=0.3)),)),
        GameDaySpec(faults=(FaultSpec(**when, telemetry=Blindness(state="missing")),)),
    ]
    beginning = Kept()
    stage = set_stage(beginning.keep, image, told, policy, seed=1)
    before = int(np.searchsorted(told.arrival_ns, at_ms * 1_000_000))
    stage.play_until(min(before, len(told) - 1), lambda requests: None)
    for day in days:
        faults = resolve_faults(day, image)
        whole = replay(image, told, policy, faults=faults)
        kept = Kept(beginning)
        played = played_out(stage.forked(kept.keep, faults))
        for field in dataclasses.fields(RunRows):
            assert np.array_equal(kept.column(field.name), getattr(whole.rows, field.name)), field.name
        assert (played.faults, played.window_ns, played.engines) == (whole.faults, whole.window_ns, whole.engines)
