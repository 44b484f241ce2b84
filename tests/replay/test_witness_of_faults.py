"""Decisions amid faults are seen as they were made, and those of lost requests as they were made the last time."""

from __future__ import annotations

import numpy as np
import pytest
from smallgrids import cluster, gpu, model, site, trace, workload

from gridctl.accounts.rows import COMPLETED, LOST, OUTAGE
from gridctl.grid.image import GridImage, build_image
from gridctl.replay.origins import origins_of
from gridctl.replay.recollection import recollect
from gridctl.replay.replay import Replayed, replay
from gridctl.replay.resolving import resolve_faults
from gridctl.replay.witness import Sighting, witness
from gridctl.resources import PolicySpec
from gridctl.resources.gameday import FaultSpec, GameDaySpec, Path, PriceChange, Slow, Whence, Where
from gridctl.traces.trace import Trace

PS_PER_S = 10**12
REQUESTS = [{"at_ms": 50 * number, "input": 120, "output": 120} for number in range(200)]
DAYS = {
    "lost": FaultSpec(at="3s", lasts="4s", lose=Where(site="paris")),
    "cut": FaultSpec(at="3s", lasts="4s", link=Path(whence=Whence(origin="paris"), to=Where(site="paris"), lost=True)),
    "longer": FaultSpec(
        at="3s", lasts="4s", link=Path(whence=Whence(origin="paris"), to=Where(site="paris"), add_ms=40.0)
    ),
    "slow": FaultSpec(at="3s", lasts="4s", slow=Slow(site="paris", factor=4.0)),
    "dear": FaultSpec(at="3s", price=PriceChange(of="gpu-hour", site="paris", factor=9.0)),
}


@pytest.fixture
def image() -> GridImage:
    parts = [site("paris"), site("lyon", lat=45.8, lon=4.8), cluster("p", "paris"), cluster("l", "lyon"), workload()]
    return build_image([gpu(), model(), *parts])


def seen(image: GridImage, told: Trace, policy: PolicySpec, day: GameDaySpec, number: int) -> tuple[Replayed, Sighting]:
    faults = resolve_faults(day, image, origins=origins_of(image.view, told))
    run = replay(image, told, policy, faults=faults)
    sighting = witness(image, told, policy, number, run.rows, seed=1, faults=faults, may_have_moved=True)
    return run, sighting


@pytest.mark.parametrize("kind", sorted(DAYS))
@pytest.mark.parametrize("number", [10, 59, 60, 75, 110, 150])
def test_every_decision_amid_a_fault_is_that_of_the_run(image: GridImage, kind: str, number: int) -> None:
    """Before the fault, as it begins (60), before and after it is noticed (80), and after it (140)."""
    day = GameDaySpec(faults=(DAYS[kind],), noticed_after="1s")
    run, sighting = seen(image, trace(REQUESTS), PolicySpec(gpu_weight=1.0), day, number)
    assert run.rows.outcome[number] == COMPLETED
    assert sighting.engine == run.rows.engine[number]
    assert recollect(sighting, "p").chosen == run.rows.engine[number]


@pytest.mark.parametrize("kind", ["lost", "cut"])
def test_a_request_that_was_lost_is_seen_when_it_was_sent_the_last_time(image: GridImage, kind: str) -> None:
    """Those on their way to Paris as it is lost are sent to Lyon at 4 s, one after the other, and so they are seen."""
    day = GameDaySpec(faults=(DAYS[kind],), noticed_after="1s")
    policy = PolicySpec(algorithm="nearest")
    told = trace(REQUESTS)
    faults = resolve_faults(day, image, origins=origins_of(image.view, told))
    run = replay(image, told, policy, faults=faults)
    moved = [number for number in range(80) if run.engines[run.rows.engine[number]].site == "lyon"]
    assert len(moved) == run.faults[0].restarted >= 20
    loads = []
    for number in moved[:: max(1, len(moved) // 6)]:
        _, sighting = seen(image, told, policy, day, number)
        assert sighting.now_ps == 4 * PS_PER_S
        assert sighting.engine == run.rows.engine[number]
        decision = recollect(sighting, "nearest")
        assert decision.at_ms == 4000.0
        loads.append(int(sighting.hosts[sighting.engine].in_flight))
        paris = next(number for number, one in enumerate(image.engines) if one.facts.site == "paris")
        assert sighting.refused[paris] == OUTAGE
    # Each found those in Lyon that were sent there before it at that moment.
    assert loads == sorted(loads)
    assert loads[-1] > loads[0]


def test_a_request_that_was_given_up_is_seen_when_it_was_sent(image: GridImage) -> None:
    day = GameDaySpec(faults=(DAYS["lost"],), noticed_after="1s")
    policy = PolicySpec(algorithm="nearest", on_loss="fail")
    run, sighting = seen(image, trace(REQUESTS), policy, day, 70)
    assert run.rows.reason[70] == LOST
    assert sighting.now_ps == 70 * 50 * PS_PER_S // 1000
    assert image.engines[sighting.engine].facts.site == "paris"
    assert np.isin(run.rows.reason, (0, LOST)).all()
