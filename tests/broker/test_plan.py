"""The plan's file, and which row of the board each engine has."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from livegrids import cluster, grid, plan_of, replaced

from gridctl.broker.plan import Key, Plan, live_backends, read_plan, write_plan
from gridctl.errors import InputError
from gridctl.grid.check import check_grid
from gridctl.resources import Deployment


def test_a_plan_reads_back_as_it_was_written(tmp_path: Path) -> None:
    plan = plan_of(grid(), keys=[Key(digest="ab", name="ci", workload="chat")], address_map=(("10.0.0.0/8", "lyon"),))
    path = tmp_path / "plan-1.json"
    write_plan(path, plan)
    assert read_plan(path) == plan
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert os.listdir(tmp_path) == ["plan-1.json"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"generation":1}', '{"generation":1,"resources":[{"kind":"Nothing"}]}']
)
def test_a_file_that_is_no_plan_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "plan.json"
    path.write_text(text)
    with pytest.raises(InputError, match="cannot be read"):
        read_plan(path)


def test_a_missing_plan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        read_plan(tmp_path / "none.json")


def test_a_plan_that_cannot_be_written_leaves_the_last_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "plan.json"
    write_plan(path, plan_of(grid()))
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_plan(path, plan_of(grid(), generation=2))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["plan.json"]


def test_engines_come_in_order_with_their_own_or_the_clusters_endpoints() -> None:
    shared = replaced(cluster("lyon", "l40s", 2, running=0), endpoints=("http://a.invalid:1/", "http://b.invalid:1/v2"))
    found = live_backends([cluster("zurich", "l4", 2, running=1, served_model="x/y", credential_env="KEY"), shared])
    assert [(one.cluster, one.replica, one.url, one.served_model, one.credential_env) for one in found] == [
        ("lyon-gpus", 0, "http://a.invalid:1", "llama", None),
        ("lyon-gpus", 1, "http://b.invalid:1/v2", "llama", None),
        ("zurich-gpus", 0, "http://zurich.invalid:800", "x/y", "KEY"),
    ]
    assert [one.row for one in found] == [0, 1, 2]


def _rows(*clusters: object, previous: tuple[object, ...] = (), rows: int = 8) -> dict[str, int]:
    return {one.url: one.row for one in live_backends(clusters, previous, rows=rows)}  # type: ignore[arg-type]


def test_an_engine_keeps_its_row_and_a_free_row_is_not_given_out_while_others_are() -> None:
    paris, lyon, berlin = (cluster(name, "l4", 2) for name in ("paris", "lyon", "berlin"))
    before = live_backends([paris, lyon], rows=8)
    first = {one.url: one.row for one in before}
    after = _rows(paris, berlin, previous=before)
    assert {url: row for url, row in after.items() if "paris" in url} == {
        url: row for url, row in first.items() if "paris" in url
    }
    assert {row for url, row in after.items() if "berlin" in url} == {4, 5}
    tight = _rows(paris, berlin, previous=before, rows=4)
    assert sorted(tight.values()) == [0, 1, 2, 3]


def test_another_url_is_another_engine() -> None:
    before = live_backends([cluster("paris", "l4", 1)], rows=8)
    moved = replaced(cluster("paris", "l4", 1, running=0), endpoints=("http://elsewhere.invalid:1",))
    assert _rows(moved, previous=before) == {"http://elsewhere.invalid:1": 1}


def test_more_engines_than_rows_are_refused() -> None:
    with pytest.raises(InputError, match="room for 3"):
        live_backends([cluster("paris", "l4", 4)], rows=3)


@pytest.mark.parametrize(
    ("endpoints", "own", "deployments", "what"),
    [
        (("http://a:1", "http://b:1", "http://c:1"), (), 1, "3 endpoints, but 2 replicas"),
        ((), ("http://a:1", "http://a:1"), 1, "listed twice"),
        (("http://a:1",), (), 2, "only deployment"),
    ],
)
def test_endpoints_that_no_engine_could_have_are_refused(
    endpoints: tuple[str, ...], own: tuple[str, ...], deployments: int, what: str
) -> None:
    one = Deployment(variant="llama/bf16", replicas=2, endpoints=own)
    changed = replaced(cluster("paris", "l40s", 4), endpoints=endpoints, deployments=(one,) * deployments)
    with pytest.raises(InputError, match=what):
        check_grid(grid(changed))


def test_a_plan_knows_no_kinds_but_those_of_the_grid() -> None:
    assert Plan(generation=1, resources=()).backends == ()
