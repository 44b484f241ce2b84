"""Killed by kill −9 at every step, an agent that starts again ends right, and at no moment is a mix served."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from agentworld import (
    Nursery,
    Orchestrator,
    Pushed,
    committed_digest,
    complaint_of,
    lead_to,
    order_for,
    wait_for,
    wanted,
    work_until,
)

from gridctl.agent.order import Order
from gridctl.agent.steps import STEPS

SITE = "fr-paris-01"
GOING_BACK = ("engine-restored", "reverted")
FORWARD = tuple(step for step in STEPS if step not in GOING_BACK)
Models = dict[str, Pushed]


@pytest.fixture(scope="module")
def served(models: Models, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An agent's folder that serves `one`, to start from."""
    root = tmp_path_factory.mktemp("served")
    orchestrator = Orchestrator()
    try:
        order = order_for(orchestrator, root / "agent", key_pem=None)
        orchestrator.wish(SITE, wanted(models["one"], "commit", 1))
        work_until(order, lambda: committed_digest(order.folder) == models["one"].digest, "the commit")
    finally:
        orchestrator.close()
    return order.folder


def prepared(served: Path, orchestrator: Orchestrator, tmp_path: Path, rule: str = "") -> Order:
    """A copy of the folder, links kept, and a hook that writes down what the engine was told to load."""
    subprocess.run(["cp", "-a", served, tmp_path / "agent"], check=True)
    script = tmp_path / "reload"
    script.write_text(f'#!/bin/sh\n{rule}\necho "$GRIDCTL_FOLDER" >> {tmp_path}/loads\n')
    os.chmod(script, 0o755)
    orchestrator.counter = 10
    return order_for(orchestrator, tmp_path / "agent", reload_command=(str(script),))


def loaded(tmp_path: Path) -> Path | None:
    """What the engine was told to load last."""
    path = tmp_path / "loads"
    lines = path.read_text().splitlines() if path.exists() else []
    return Path(lines[-1]) if lines else None


def named(folder: Path) -> set[str]:
    told = json.loads((folder / "models/llama/pointers.json").read_text())
    return {told[role]["digest"][7:] for role in ("committed", "trial") if told.get(role)}


@pytest.mark.parametrize("step", FORWARD)
def test_dying_at_any_step_ends_in_the_new_version(
    step: str, served: Path, nursery: Nursery, orchestrator: Orchestrator, models: Models, tmp_path: Path
) -> None:
    order = prepared(served, orchestrator, tmp_path)
    orchestrator.lead = lead_to(orchestrator, models["two"], 2)
    process = nursery.start(order, die_at=step)
    assert nursery.wait(process) == -signal.SIGKILL, "the step was reached"
    assert complaint_of(order.folder) == ""
    last = loaded(tmp_path)
    assert last is None or last.name in named(order.folder), "what the engine serves is named by a pointer"

    work_until(
        order,
        lambda: (
            committed_digest(order.folder) == models["two"].digest
            and not any((order.folder / "staging/llama").iterdir())
        ),
        "the new version",
    )
    assert complaint_of(order.folder) == ""
    told = json.loads((order.folder / "models/llama/pointers.json").read_text())
    assert told["trial"] is None
    assert told["previous"]["digest"] == models["one"].digest
    assert (order.folder / "models/llama/current").resolve().name == models["two"].digest[7:]
    last = loaded(tmp_path)
    assert last is not None
    assert last.name == models["two"].digest[7:]
    assert json.loads((order.folder / "journal.json").read_text())["transfers"] == []


@pytest.mark.parametrize("step", GOING_BACK)
def test_dying_on_the_way_back_ends_in_the_old_version(
    step: str, served: Path, nursery: Nursery, orchestrator: Orchestrator, models: Models, tmp_path: Path
) -> None:
    rule = f'case "$GRIDCTL_DIGEST" in {models["two"].digest}) exit 1;; esac'
    order = prepared(served, orchestrator, tmp_path, rule)
    orchestrator.lead = lead_to(orchestrator, models["two"], 2)
    process = nursery.start(order, die_at=step)
    assert nursery.wait(process) == -signal.SIGKILL
    assert complaint_of(order.folder) == ""

    def is_given_up() -> bool:
        told = json.loads((order.folder / "models/llama/pointers.json").read_text())
        return told["attempts"] == 3 and told["trial"] is None

    work_until(order, is_given_up, "three attempts in all")
    assert committed_digest(order.folder) == models["one"].digest
    last = loaded(tmp_path)
    assert last is not None
    assert last.name == models["one"].digest[7:]


def test_a_version_that_takes_the_machine_down_is_tried_three_times(
    served: Path, nursery: Nursery, orchestrator: Orchestrator, models: Models, tmp_path: Path
) -> None:
    order = prepared(served, orchestrator, tmp_path)
    orchestrator.lead = lead_to(orchestrator, models["two"], 2)
    for _ in range(3):
        assert nursery.wait(nursery.start(order, die_at="loaded")) == -signal.SIGKILL
    process = nursery.start(order, die_at="loaded")
    before = len(orchestrator.statuses)
    wait_for(lambda: len(orchestrator.statuses) > before + 5, "the agent to go on without it")
    nursery.kill(process, signal.SIGTERM)
    assert nursery.wait(process) == 0
    assert committed_digest(order.folder) == models["one"].digest
    assert named(order.folder) == {models["one"].digest[7:]}


def test_what_the_disk_lost_is_dropped_and_the_previous_version_serves(
    served: Path, nursery: Nursery, orchestrator: Orchestrator, models: Models, tmp_path: Path
) -> None:
    order = prepared(served, orchestrator, tmp_path)
    orchestrator.wish(SITE, wanted(models["two"], "commit", 2))
    work_until(order, lambda: committed_digest(order.folder) == models["two"].digest, "the commit")
    before = len(orchestrator.statuses)
    process = nursery.start(order)
    wait_for(lambda: len(orchestrator.statuses) > before, "a sync")
    nursery.kill(process)
    assert nursery.wait(process) == -signal.SIGKILL
    victim = order.folder / "models/llama" / models["two"].digest[7:] / "model-00001-of-00002.safetensors"
    data = bytearray(victim.read_bytes())
    data[-1] ^= 1
    victim.chmod(0o644)
    victim.write_bytes(data)
    orchestrator.wish(SITE)
    said = work_until(order, lambda: committed_digest(order.folder) == models["one"].digest, "the previous version")
    assert any("damaged" in line for line in said)
    assert complaint_of(order.folder) == ""
    orchestrator.wish(SITE, wanted(models["two"], "commit", 3))
    work_until(order, lambda: committed_digest(order.folder) == models["two"].digest, "the version to come again")
    assert complaint_of(order.folder) == ""


def test_what_nobody_journalled_is_swept_away(
    served: Path, orchestrator: Orchestrator, models: Models, tmp_path: Path
) -> None:
    order = prepared(served, orchestrator, tmp_path)
    stray = order.folder / "staging/llama" / ("0" * 64)
    stray.mkdir(parents=True)
    (stray / "model.safetensors").write_bytes(b"x" * 100)
    (order.folder / "trash/old").mkdir()
    work_until(order, lambda: len(orchestrator.statuses) > 0, "a sync")
    assert not stray.exists()
    assert list((order.folder / "trash").iterdir()) == []
