"""From a wish to a served version, and back: the ways a version takes through a site."""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from agentworld import (
    Orchestrator,
    Pushed,
    Registry,
    committed_digest,
    complaint_of,
    make_model,
    order_for,
    push_model,
    wanted,
    work_until,
)

from gridctl.agent.folder import AgentFolder
from gridctl.artifacts.recipe import Recipe
from gridctl.artifacts.rederivation import make_variant
from gridctl.errors import StoreError
from gridctl.rollout.protocol import Actual, Window

SITE = "fr-paris-01"
Models = dict[str, Pushed]


def serves(orchestrator: Orchestrator, digest: str) -> bool:
    report = orchestrator.last(SITE)
    actual = report.of("llama") if report is not None else None
    return actual is not None and actual.committed is not None and actual.committed.digest == digest


def is_on_trial(orchestrator: Orchestrator, digest: str) -> bool:
    report = orchestrator.last(SITE)
    actual = report.of("llama") if report is not None else None
    return actual is not None and actual.trial is not None and actual.trial.digest == digest


def actual_of(orchestrator: Orchestrator) -> Actual:
    report = orchestrator.last(SITE)
    actual = report.of("llama") if report is not None else None
    assert actual is not None
    return actual


def failure(orchestrator: Orchestrator) -> str:
    report = orchestrator.last(SITE)
    actual = report.of("llama") if report is not None else None
    return actual.failed.reason if actual is not None and actual.failed is not None else ""


def test_a_version_goes_from_staged_over_trial_to_committed(
    orchestrator: Orchestrator, models: Models, tmp_path: Path
) -> None:
    one = models["one"]
    order = order_for(orchestrator, tmp_path / "agent")
    stages: list[str] = []

    def lead_on() -> bool:
        report = orchestrator.last(SITE)
        actual = report.of("llama") if report is not None else None
        if actual is None:
            return False
        if not stages and one.digest in actual.staged:
            stages.append("staged")
            orchestrator.wish(SITE, wanted(one, "trial", 1))
        elif len(stages) == 1 and is_on_trial(orchestrator, one.digest):
            stages.append("trial")
            assert committed_digest(order.folder) is None
            orchestrator.wish(SITE, wanted(one, "commit", 1))
        return serves(orchestrator, one.digest)

    orchestrator.wish(SITE, wanted(one, "stage", 1))
    work_until(order, lead_on, "the commit")
    assert stages == ["staged", "trial"]
    place = (order.folder / "models/llama/current").resolve()
    assert place.name == one.digest[7:]
    assert complaint_of(order.folder) == ""
    assert oct((place / "config.json").stat().st_mode & 0o777) == "0o444"


def test_a_fine_tune_comes_as_a_delta_and_shared_files_once(
    orchestrator: Orchestrator, models: Models, tmp_path: Path
) -> None:
    order = order_for(orchestrator, tmp_path / "agent")
    orchestrator.wish(SITE, wanted(models["one"], "commit", 1))
    work_until(order, lambda: serves(orchestrator, models["one"].digest), "the first commit")
    report = orchestrator.last(SITE)
    assert report is not None
    before = report.of("llama")
    assert before is not None
    assert before.bytes_received > models["one"].total_bytes
    orchestrator.wish(SITE, wanted(models["two"], "commit", 2))
    work_until(order, lambda: serves(orchestrator, models["two"].digest), "the second commit")
    report = orchestrator.last(SITE)
    assert report is not None
    after = report.of("llama")
    assert after is not None
    assert after.previous is not None
    assert after.previous.digest == models["one"].digest
    moved = after.bytes_received - before.bytes_received
    assert moved < 0.6 * models["two"].total_bytes
    assert after.method["delta"] > 0
    unchanged = "model-00002-of-00002.safetensors"
    inodes = {
        (order.folder / "models/llama" / models[name].digest[7:] / unchanged).stat().st_ino for name in ("one", "two")
    }
    assert len(inodes) == 1, "a file that both versions have is on the disk once"
    assert complaint_of(order.folder) == ""


def test_a_quantised_variant_is_made_again_at_the_site(
    registry: Registry, orchestrator: Orchestrator, tmp_path: Path
) -> None:
    source = make_model(tmp_path / "base", seed=40, rows=512)
    made = tmp_path / "fp8"
    made.mkdir()
    make_variant(source, made, {"scheme": "fp8"})
    recipe = Recipe("optimize", 1, {"scheme": "fp8"}).text
    base = push_model(registry, "q/llama", source, tmp_path)
    fp8 = push_model(registry, "q/llama", made, tmp_path, base=source, recipe=recipe)
    order = order_for(orchestrator, tmp_path / "agent")
    orchestrator.wish(SITE, wanted(base, "commit", 1))
    work_until(order, lambda: serves(orchestrator, base.digest), "the base")
    before = actual_of(orchestrator)
    orchestrator.wish(SITE, wanted(fp8, "commit", 2))
    work_until(order, lambda: serves(orchestrator, fp8.digest), "the variant")
    after = actual_of(orchestrator)
    assert after.bytes_received - before.bytes_received < 0.02 * fp8.total_bytes, "manifest and config alone"
    weights = sum(path.stat().st_size for path in made.glob("*.safetensors"))
    assert after.method["rederive"] >= weights
    assert complaint_of(order.folder) == ""


def test_undoing_is_a_higher_counter_and_moves_nothing(
    orchestrator: Orchestrator, models: Models, tmp_path: Path
) -> None:
    order = order_for(orchestrator, tmp_path / "agent")
    for counter, name in enumerate(("one", "two"), start=1):
        orchestrator.wish(SITE, wanted(models[name], "commit", counter))
        work_until(order, lambda name=name: serves(orchestrator, models[name].digest), name)
    report = orchestrator.last(SITE)
    assert report is not None
    held = report.of("llama")
    assert held is not None
    orchestrator.wish(SITE, wanted(models["one"], "commit", 1))
    work_until(order, lambda: failure(orchestrator) == "counter", "the refusal")
    assert committed_digest(order.folder) == models["two"].digest
    orchestrator.wish(SITE, wanted(models["one"], "commit", 3))
    work_until(order, lambda: serves(orchestrator, models["one"].digest), "the undoing")
    report = orchestrator.last(SITE)
    assert report is not None
    actual = report.of("llama")
    assert actual is not None
    assert actual.bytes_received == held.bytes_received
    assert actual.committed is not None
    assert actual.committed.counter == 3
    assert actual.failed is None


def test_a_trial_that_is_not_wanted_any_more_goes_back(
    orchestrator: Orchestrator, models: Models, tmp_path: Path
) -> None:
    loads = tmp_path / "loads"
    command = hook(tmp_path, f'echo "$GRIDCTL_VARIANT" >> {loads}')
    order = order_for(orchestrator, tmp_path / "agent", reload_command=command)
    orchestrator.wish(SITE, wanted(models["one"], "commit", 1))
    work_until(order, lambda: serves(orchestrator, models["one"].digest), "the commit")
    orchestrator.wish(SITE, wanted(models["two"], "trial", 2))

    def lead_on() -> bool:
        if is_on_trial(orchestrator, models["two"].digest):
            orchestrator.wish(SITE, wanted(models["one"], "commit", 3))
        return loads.read_text().split() == ["v1", "v2", "v1"]

    work_until(order, lead_on, "the way back")
    assert committed_digest(order.folder) == models["one"].digest


def test_a_trial_without_its_lease_goes_back_by_itself(
    orchestrator: Orchestrator, models: Models, tmp_path: Path
) -> None:
    loads = tmp_path / "loads"
    order = order_for(
        orchestrator, tmp_path / "agent", reload_command=hook(tmp_path, f'echo "$GRIDCTL_VARIANT" >> {loads}')
    )
    orchestrator.lease_s = 0.6
    orchestrator.wish(SITE, wanted(models["one"], "commit", 1))
    work_until(order, lambda: serves(orchestrator, models["one"].digest), "the commit")
    orchestrator.wish(SITE, wanted(models["two"], "trial", 2))
    told: list[str] = []

    def fall_silent() -> bool:
        if is_on_trial(orchestrator, models["two"].digest):
            orchestrator.refusals = [(503, {})] * 1000
        pointers = json.loads((order.folder / "models/llama/pointers.json").read_text())
        if pointers.get("failed"):
            told.append(pointers["failed"]["reason"])
        return (
            pointers["trial"] is None and loads.read_text().split() == ["v1", "v2", "v1"] if loads.exists() else False
        )

    work_until(order, fall_silent, "the lease to run out")
    assert told[-1] == "lease"
    assert committed_digest(order.folder) == models["one"].digest


def test_a_load_that_fails_is_tried_three_times_and_then_left(
    orchestrator: Orchestrator, models: Models, tmp_path: Path
) -> None:
    loads = tmp_path / "loads"
    command = hook(tmp_path, f'echo "$GRIDCTL_VARIANT" >> {loads}; [ "$GRIDCTL_VARIANT" != v2 ] || exit 7')
    order = order_for(orchestrator, tmp_path / "agent", reload_command=command)
    orchestrator.wish(SITE, wanted(models["one"], "commit", 1))
    work_until(order, lambda: serves(orchestrator, models["one"].digest), "the commit")
    orchestrator.wish(SITE, wanted(models["two"], "commit", 2))
    asked = []

    def is_left_alone() -> bool:
        if loads.read_text().split().count("v2") >= 3 and failure(orchestrator) == "engine":
            asked.append(len(orchestrator.statuses))
        return len(asked) > 0 and len(orchestrator.statuses) > asked[0] + 5

    work_until(order, is_left_alone, "three loads")
    assert loads.read_text().split() == ["v1", "v2", "v1", "v2", "v1", "v2", "v1"]
    assert committed_digest(order.folder) == models["one"].digest
    report = orchestrator.last(SITE)
    assert report is not None
    actual = report.of("llama")
    assert actual is not None
    assert actual.failed is not None
    assert "ended with 7" in actual.failed.detail
    orchestrator.wish(SITE, wanted(models["three"], "commit", 3))
    work_until(order, lambda: serves(orchestrator, models["three"].digest), "the next version")


def test_offline_the_last_good_version_stays_and_nothing_new_begins(
    orchestrator: Orchestrator, models: Models, tmp_path: Path
) -> None:
    order = order_for(orchestrator, tmp_path / "agent")
    orchestrator.wish(SITE, wanted(models["one"], "commit", 1))
    work_until(order, lambda: serves(orchestrator, models["one"].digest), "the commit")
    closed = Window((), "00:00", "00:01", "UTC") if datetime.now(UTC).hour >= 1 else Window((), "12:00", "12:01", "UTC")
    orchestrator.life_s = 1.0
    orchestrator.wish(SITE, wanted(models["two"], "commit", 2, windows=(closed,)))
    journal = order.folder / "journal.json"

    def counter_taken() -> int:
        counter: int = json.loads(journal.read_text())["desired"]["wanted"][0]["version"]["counter"]
        return counter

    # An answer sent is not yet an answer taken: what counts is what the agent wrote down.
    work_until(order, lambda: counter_taken() == 2, "the wish to be taken")

    # Its hours begin while nobody answers, but what was wished for has expired by then.
    told = json.loads(journal.read_text())
    told["desired"]["wanted"][0]["windows"] = []
    told["desired"]["expires_unix_s"] = time.time() - 1
    journal.write_text(json.dumps(told))
    orchestrator.refusals = [(503, {})] * 10_000
    count = len(orchestrator.statuses)
    work_until(order, lambda: len(orchestrator.statuses) > count + 2, "syncs in vain")
    assert committed_digest(order.folder) == models["one"].digest
    assert not (order.folder / "models/llama" / models["two"].digest[7:]).exists()

    told["desired"]["expires_unix_s"] = time.time() + 60
    journal.write_text(json.dumps(told))
    work_until(order, lambda: committed_digest(order.folder) == models["two"].digest, "a wish that has not expired")
    assert complaint_of(order.folder) == ""


def test_a_closed_window_holds_a_transfer_back(orchestrator: Orchestrator, models: Models, tmp_path: Path) -> None:
    soon = datetime.now(UTC) + timedelta(hours=3)
    closed = Window((), f"{soon:%H:%M}", f"{soon + timedelta(hours=1):%H:%M}")
    order = order_for(orchestrator, tmp_path / "agent")
    orchestrator.wish(SITE, wanted(models["one"], "commit", 1, windows=(closed,)))
    work_until(order, lambda: len(orchestrator.reports.get(SITE, ())) > 5, "a few syncs")
    assert not (order.folder / "models/llama" / models["one"].digest[7:]).exists()
    orchestrator.wish(SITE, wanted(models["one"], "commit", 1))
    work_until(order, lambda: serves(orchestrator, models["one"].digest), "the commit")


def test_ending_in_order_takes_a_trial_back(orchestrator: Orchestrator, models: Models, tmp_path: Path) -> None:
    loads = tmp_path / "loads"
    order = order_for(
        orchestrator, tmp_path / "agent", reload_command=hook(tmp_path, f'echo "$GRIDCTL_VARIANT" >> {loads}')
    )
    orchestrator.wish(SITE, wanted(models["one"], "commit", 1))
    work_until(order, lambda: serves(orchestrator, models["one"].digest), "the commit")
    orchestrator.wish(SITE, wanted(models["two"], "trial", 2))
    work_until(order, lambda: is_on_trial(orchestrator, models["two"].digest), "the trial")
    assert loads.read_text().split() == ["v1", "v2", "v1"]
    pointers = json.loads((order.folder / "models/llama/pointers.json").read_text())
    assert pointers["trial"] is None
    assert json.loads((order.folder / "journal.json").read_text())["is_clean"] is True
    assert pointers["attempts"] == 0, "the version was not at fault"


def test_absent_drops_a_model_and_tells_the_engine(orchestrator: Orchestrator, models: Models, tmp_path: Path) -> None:
    loads = tmp_path / "loads"
    order = order_for(
        orchestrator, tmp_path / "agent", reload_command=hook(tmp_path, f'echo "[$GRIDCTL_FOLDER]" >> {loads}')
    )
    orchestrator.wish(SITE, wanted(models["one"], "commit", 1))
    work_until(order, lambda: serves(orchestrator, models["one"].digest), "the commit")
    orchestrator.wish(SITE, wanted(models["one"], "absent", 2))
    work_until(order, lambda: committed_digest(order.folder) is None, "the model to go")
    assert not (order.folder / "models/llama/current").is_symlink()
    assert loads.read_text().split()[-1] == "[]"


def test_one_agent_a_folder(orchestrator: Orchestrator, tmp_path: Path) -> None:
    order = order_for(orchestrator, tmp_path / "agent")
    folder = AgentFolder(order.folder)
    folder.make()
    with folder.held(), pytest.raises(StoreError, match="agent"):
        work_until(order, lambda: False, "nothing", seconds=1)


def hook(tmp_path: Path, line: str) -> tuple[str, ...]:
    path = tmp_path / "reload"
    path.write_text(f"#!/bin/sh\n{line}\n")
    os.chmod(path, 0o755)
    return (str(path),)
