"""Sites' agents, a real registry behind thin links, a real orchestrator; some of them die."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "agent"))

from agentworld import Pushed, committed_digest, complaint_of, wait_for
from fleet import MODEL, Deaths, Fleet
from ociregistry import MISSING, has_registry, running_registry

SITES = 12


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """Twelve sites whose engines load everything but FP8; three of them may die."""
    if not has_registry():
        pytest.skip(MISSING)
    (tmp_path / "registry").mkdir()
    script = tmp_path / "reload"
    script.write_text('#!/bin/sh\ntest "$GRIDCTL_VARIANT" != fp8 || { echo no FP8 kernels here; exit 1; }\n')
    script.chmod(0o755)
    with running_registry(tmp_path / "registry") as registry:
        running = Fleet(tmp_path, registry, sites=SITES, mortals=3, reload_command=(str(script),))
        try:
            running.begin()
            yield running
        finally:
            running.close()


@pytest.mark.slow
def test_twelve_sites_end_right_whoever_dies_and_go_back_when_it_does_not_load(fleet: Fleet) -> None:
    base, tuned, fp8 = fleet.models()
    first = fleet.roll_out(base, "base", [fleet.names], 60, lambda: None)
    assert first.carried_bytes > first.naive_bytes, "nothing was there to start from"
    deaths = Deaths(fleet, seed=7)
    second = fleet.roll_out(tuned, "tuned", [fleet.names[:1], fleet.names[1:]], 90, deaths)
    deaths.end()
    assert (deaths.agents, deaths.orchestrators) == (3, 1)
    wait_for(lambda: all_serve(fleet, tuned), "every site to commit", 30)
    assert second.carried_bytes < 0.6 * second.naive_bytes
    assert fleet.complaints == [], "no moment at which a pointer led to a mix"

    fleet.start_rollout(fp8, "fp8", [fleet.names[3:4], fleet.names[4:]])
    told = {}

    def is_back() -> bool:
        told.update(fleet.ask("GET", "/v1/rollouts/fp8"))
        return told["phase"] == "rolled_back"

    wait_for(is_back, "the rollout to go back by itself", 60)
    assert "no FP8 kernels here" in told["because"], "it says why"
    for name in fleet.names:
        assert complaint_of(fleet.orders[name].folder) == "", name
    assert all_serve(fleet, tuned)


def all_serve(fleet: Fleet, pushed: Pushed) -> bool:
    return all(committed_digest(order.folder, MODEL) == pushed.digest for order in fleet.orders.values())
