"""Sites' agents, a real registry behind thin links, a real orchestrator; some of them die."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "agent"))

from agentworld import committed_digest, complaint_of, has_registry, running_registry, wait_for
from fleet import MODEL, Deaths, Fleet


@pytest.mark.slow
def test_twelve_sites_end_right_whoever_dies(tmp_path: Path) -> None:
    if not has_registry():
        pytest.skip("docker-registry is not installed (apt-get install docker-registry)")
    (tmp_path / "registry").mkdir()
    with running_registry(tmp_path / "registry") as registry:
        fleet = Fleet(tmp_path, registry, sites=12, mortals=3)
        try:
            fleet.begin()
            base, tuned, _ = fleet.models()
            first = fleet.roll_out(base, "base", [fleet.names], 60, lambda: None)
            assert first.carried_bytes > first.naive_bytes, "nothing was there to start from"
            lost = fleet.names[2]
            deaths = Deaths(fleet, seed=7)
            second = fleet.roll_out(tuned, "tuned", [fleet.names[:1], fleet.names[1:]], 90, deaths)
            deaths.end()
            assert (deaths.agents, deaths.orchestrators) == (3, 1)
            wait_for(
                lambda: all(committed_digest(fleet.orders[name].folder, MODEL) == tuned.digest for name in fleet.names),
                "every site to commit",
                30,
            )
            fleet.kill_agent(lost)
            for name in fleet.names:
                assert complaint_of(fleet.orders[name].folder) == "", name
            assert fleet.complaints == [], "no moment at which a pointer led to a mix"
            assert second.carried_bytes < 0.6 * second.naive_bytes
        finally:
            fleet.close()
