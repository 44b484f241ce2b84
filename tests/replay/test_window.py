"""Rows leave as soon as they are final, in order, once each; how a trace is cut into pieces changes nothing."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import numpy as np
import pytest
from digests import CASES, replayed
from smallgrids import cluster, gpu, make_grid, make_policy, make_trace, model, site, trace, workload

from gridctl.accounts.rows import RunRows
from gridctl.grid.image import build_image
from gridctl.replay.digest import digest_columns, digest_rows, pieces
from gridctl.replay.replay import replay, replay_into
from gridctl.resources import PolicySpec
from gridctl.traces.folder import TraceFolder
from gridctl.traces.folderwriter import write_columns
from gridctl.traces.trace import Trace


def cut_small(monkeypatch: pytest.MonkeyPatch, chunk: int, part: int) -> None:
    """Read and decide `chunk` requests at a time, write rows once `part` are final."""
    monkeypatch.setattr("gridctl.replay.stage.CHUNK_REQUESTS", chunk)
    monkeypatch.setattr("gridctl.replay.window.PART_REQUESTS", part)
    monkeypatch.setattr("gridctl.replay.prefixes.PART_REQUESTS", part)


@pytest.mark.parametrize(("chunk", "part"), [(1, 1), (3, 2), (7, 5), (11, 1)])
def test_the_size_of_the_pieces_does_not_change_the_run(monkeypatch: pytest.MonkeyPatch, chunk: int, part: int) -> None:
    expected = [digest_rows(replayed(*case)) for case in CASES]
    cut_small(monkeypatch, chunk, part)
    assert [digest_rows(replayed(*case)) for case in CASES] == expected


def requests(count: int) -> Trace:
    """A request every 50 ms; every tenth has a long answer."""
    return trace([{"at_ms": 50 * number, "output": 90 if number % 10 == 0 else 5} for number in range(count)])


def test_rows_leave_in_order_while_later_requests_are_still_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    cut_small(monkeypatch, 20, 10)
    image = build_image([gpu(), model(), site("paris"), cluster("c", "paris"), workload()])
    told = requests(400)
    kept: list[RunRows] = []
    decided: list[int] = []
    after: list[int] = []

    def keep(rows: RunRows) -> None:
        kept.append(rows)
        after.append(sum(decided))

    played = replay_into(keep, image, told, PolicySpec(), advanced=decided.append)
    assert after[0] < 400
    arrivals = np.concatenate([rows.arrival_ns for rows in kept])
    assert np.array_equal(arrivals, told.arrival_ns)
    monkeypatch.undo()
    whole = replay(image, told, PolicySpec())
    for field in dataclasses.fields(RunRows):
        joined = np.concatenate([getattr(rows, field.name) for rows in kept])
        assert np.array_equal(joined, getattr(whole.rows, field.name)), field.name
    assert played.window_ns == whole.window_ns
    assert digest_columns(lambda name: pieces(getattr(whole.rows, name)), played) == digest_rows(whole)


def test_a_request_that_waits_for_ever_holds_back_the_rows_behind_it_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first answer takes longer than the whole trace: nothing may leave before the end, and nothing is lost."""
    cut_small(monkeypatch, 10, 5)
    image = build_image([gpu(), model(), site("paris"), cluster("c", "paris"), workload()])
    told = trace([{"at_ms": number, "output": 2000 if number == 0 else 1} for number in range(200)])
    decided: list[int] = []
    kept: list[tuple[int, int]] = []
    replay_into(lambda rows: kept.append((sum(decided), len(rows))), image, told, PolicySpec(), advanced=decided.append)
    assert {before for before, _ in kept} == {190}  # all with the last part of ten, which runs the engines empty
    assert sum(rows for _, rows in kept) == 200


def test_a_trace_in_a_folder_is_replayed_like_the_same_trace_in_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cut_small(monkeypatch, 7, 3)
    reused = 0
    for case in range(12):
        pick = random.Random(case).randint
        resources = make_grid(pick)
        told = make_trace(pick, resources, 60)
        told = dataclasses.replace(told, arrival_ns=told.arrival_ns - told.arrival_ns[0])  # as every trace that is read
        write_columns([told], tmp_path / "one.columns")
        image, policy = build_image(resources), make_policy(pick, "grid")
        inside = replay(image, told, policy)
        assert digest_rows(replay(image, TraceFolder(tmp_path / "one.columns"), policy)) == digest_rows(inside)
        reused += int((inside.rows.cached_tokens > 0).sum())
    assert reused > 0
