"""Explaining a request of a run: from the run's own inputs, or not at all."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import msgspec
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "grid"))

from smallgrids import cluster, gpu, model, site, workload

from gridctl.errors import InputError, NotFoundError, StoreError, UsageError
from gridctl.manifest import dump
from gridctl.orchestrator.context import GridHome, home_of
from gridctl.orchestrator.explaining import explain, find_question
from gridctl.orchestrator.inputs import TraceSource, load_inputs, open_source
from gridctl.orchestrator.replaying import Listener, Order, replay_trace, resources_of
from gridctl.orchestrator.runs import load_run, save_run
from gridctl.registry import Registry
from gridctl.traces.identity import trace_digest
from gridctl.traces.reader import convert_to_columns

PARTS = (
    gpu(),
    model(),
    site("paris", population=3),
    site("lyon", population=1),
    site("frankfurt", "DE", "core", lat=50.1, lon=8.7, population=1),
    cluster("edge", "paris", usd_per_gpu_hour=3.0),
    cluster("core", "frankfurt"),
    workload(tenants=("acme", "umbrella")),
)


@pytest.fixture
def home(tmp_path: Path) -> GridHome:
    found = home_of(tmp_path / "grid", "test")
    found.runs.mkdir(parents=True)
    with Registry.open(found.database, create=True) as registry:
        registry.apply(list(PARTS), cause="test")
    return found


def write(path: Path, count: int = 30, output: int = 8) -> Path:
    """A trace that says neither origin nor workload: the grid's mix fills them in, as it did for the run."""
    rows = [{"timestamp": 10 * at, "input_length": 64 + at, "output_length": output} for at in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    return write(tmp_path / "t.jsonl")


def replayed(home: GridHome, source: TraceSource, **order: object) -> None:
    replay_trace(home, open_source(source), Order(name="base", source=source, seed=7, **order), Listener())  # type: ignore[arg-type]


def test_every_request_of_a_run_and_of_its_alternative_is_explained_as_it_was_decided(
    home: GridHome, trace: Path
) -> None:
    replayed(home, TraceSource(path=str(trace), limit=20, speed=2.0, repeat=2))
    for name in ("base", "base.centralized"):
        run = load_run(name, home)
        for number in (0, 7, 39):
            told = explain(find_question(home, f"{name}/{number}"))
            chosen = next(one for one in told.decision.candidates if one.status == "chosen")
            assert chosen.engine == told.decision.chosen == run.rows.engine[number]
            assert (chosen.site, told.timeline.site) == (run.info.engines[chosen.engine].site,) * 2
            assert told.decision.at_ms == told.timeline.sent_ms == run.rows.arrival_ns[number] / 1e6
            assert told.digest == run.info.digest
    assert len(run.rows) == 40


def test_a_run_that_was_served_live_says_how_its_requests_are_explained(home: GridHome, trace: Path) -> None:
    replayed(home, TraceSource(path=str(trace)))
    run = load_run("base", home)
    info = msgspec.structs.replace(run.info, name="live", live="http://127.0.0.1:8080")
    save_run(dataclasses.replace(run, info=info), home)
    with pytest.raises(UsageError) as caught:
        find_question(home, "live/5")
    assert (caught.value.fix or "").startswith("gridctl explain request ID")


def test_later_changes_of_the_grid_change_no_explanation(home: GridHome, trace: Path) -> None:
    replayed(home, TraceSource(path=str(trace)))
    before = explain(find_question(home, "base/5"))
    with Registry.open(home.database) as registry:
        registry.apply([cluster("edge", "paris", usd_per_gpu_hour=90.0, state="cordoned")], cause="test")
    assert resources_of(home) != list(load_inputs("base", home).resources)
    assert explain(find_question(home, "base/5")) == before


def test_a_run_keeps_the_grid_the_policy_and_which_trace_it_was(home: GridHome, trace: Path) -> None:
    source = TraceSource(path=str(trace))
    replayed(home, source, policy="nearest")
    kept = load_inputs("base", home)
    assert dump(kept.resources, "yaml") == dump(resources_of(home), "yaml")
    assert (kept.header.policy.spec.algorithm, kept.header.seed, kept.header.source) == ("nearest", 7, source)
    assert kept.header.trace_digest == trace_digest(open_source(source))
    first = home.open_runs().inputs("base")
    replayed(home, source, policy="nearest", replace=True)
    assert home.open_runs().inputs("base") == first


def test_a_trace_that_changed_is_refused_with_both_digests(home: GridHome, trace: Path) -> None:
    replayed(home, TraceSource(path=str(trace)))
    before = load_inputs("base", home).header.trace_digest
    write(trace, output=9)
    with pytest.raises(InputError, match="not the one that was replayed") as refused:
        explain(find_question(home, "base/5"))
    assert before in refused.value.what
    assert trace_digest(open_source(TraceSource(path=str(trace)))) in refused.value.what


def test_a_trace_that_moved_is_found_where_one_says_in_any_format(home: GridHome, trace: Path, tmp_path: Path) -> None:
    replayed(home, TraceSource(path=str(trace)))
    here = explain(find_question(home, "base/5"))
    convert_to_columns(trace, tmp_path / "moved.columns")
    trace.unlink()
    with pytest.raises(NotFoundError, match="not there any more"):
        explain(find_question(home, "base/5"))
    assert explain(find_question(home, "base/5"), trace=str(tmp_path / "moved.columns")) == here


def test_a_trace_from_a_pipe_has_to_be_named(home: GridHome, trace: Path) -> None:
    replay_trace(
        home, open_source(TraceSource(path=str(trace))), Order(name="base", source=TraceSource(path="-")), Listener()
    )
    with pytest.raises(NotFoundError, match="not read from a file"):
        explain(find_question(home, "base/5"))
    assert explain(find_question(home, "base/5"), trace=str(trace)).request == 5


def test_a_run_without_inputs_or_with_damaged_ones_is_refused(home: GridHome, trace: Path) -> None:
    replayed(home, TraceSource(path=str(trace)))
    run = load_run("base", home)
    old = msgspec.structs.replace(run.info, name="old")
    save_run(type(run)(old, run.rows), home)
    with pytest.raises(NotFoundError, match="did not keep what it was made from"):
        find_question(home, "old/5")
    path = home.runs / "base" / "inputs.jsonl.gz"
    whole = path.read_bytes()
    for damaged in (b"", whole[:-20], whole[:40] + b"\0" * 20 + whole[60:], b"\x1f\x8b not gzip"):
        path.write_bytes(damaged)
        with pytest.raises(StoreError, match="cannot be read"):
            find_question(home, "base/5")


@pytest.mark.parametrize("target", ["", "base", "base/", "/5", "/"])
def test_a_target_that_names_no_request_is_a_usage_error(home: GridHome, target: str) -> None:
    with pytest.raises(UsageError, match="does not name a request"):
        find_question(home, target)


def test_a_site_is_told_of_whether_it_was_a_candidate_or_not(home: GridHome, trace: Path) -> None:
    replayed(home, TraceSource(path=str(trace)))
    question = find_question(home, "base/3")
    assert {one.site for one in explain(question, site="frankfurt").decision.candidates} >= {"frankfurt"}
    with pytest.raises(NotFoundError, match="site lyon has no engine"):
        explain(question, site="lyon")
    with pytest.raises(NotFoundError, match="no site pari") as unknown:
        explain(question, site="pari")
    assert unknown.value.fix == "did you mean paris?"


def test_a_run_whose_last_write_fails_leaves_no_inputs_behind(
    home: GridHome, trace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gridctl.registry import runs

    whole = runs._write_bytes

    def full(path: Path, content: bytes) -> None:
        if path.name == runs.DOCUMENT:
            raise OSError(28, "No space left on device")
        whole(path, content)

    monkeypatch.setattr(runs, "_write_bytes", full)
    with pytest.raises(StoreError):
        replayed(home, TraceSource(path=str(trace)))
    assert [path.name for path in home.runs.iterdir() if path.name != ".lock"] == []
