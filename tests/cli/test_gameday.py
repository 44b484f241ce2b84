"""`gridctl gameday` and `replay run --faults`, as a user runs them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gridctl.render.schemas import schema_of

KERNELS = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
DAY = """\
kind: GameDay
apiVersion: gridctl/v1
metadata: {name: lose-oslo}
spec:
  noticed_after: 2s
  faults:
    - {at: 10s, for: 20s, lose: {site: no-oslo-01}}
"""


@pytest.fixture
def day(grid: Callable) -> Callable:
    """A shell on an applied grid, with the machine's compiled kernels, a request a second for a minute and a day."""
    grid.environment["XDG_CACHE_HOME"] = KERNELS
    requests = [{"timestamp": 1000 * number, "input_length": 200, "output_length": 400} for number in range(60)]
    (grid.folder / "trace.jsonl").write_text("".join(f"{json.dumps(request)}\n" for request in requests))
    (grid.folder / "day.yaml").write_text(DAY)
    return grid


def test_a_game_day_is_run_reported_and_kept_beside_its_calm_run(day: Callable) -> None:
    ran = day("gameday", "run", "day.yaml", "trace.jsonl", "--name", "oslo", "-o", "json")
    assert ran.code == 0, ran.err
    document = json.loads(ran.out)
    assert set(document) == set(schema_of("GameDayReport")["required"])
    (fault,) = document["faults"]
    # Known at 12 s, back at 30 s, and there is no other site: those of 12 … 29 are refused, with what was in flight.
    during = fault["phases"][1]
    assert during["requests"] == 20
    assert document["rejected"] == 18 + fault["fault"]["lost"] - fault["fault"]["failed"]
    assert fault["fault"]["lost"] == fault["fault"]["refused"] >= 2
    assert [row["name"] for row in json.loads(day("run", "list", "-o", "json").out)["items"]].sort() is None
    again = day("gameday", "report", "oslo", "-o", "json")
    assert (again.code, json.loads(again.out)) == (0, document)
    table = day("gameday", "report", "oslo")
    assert "lose site no-oslo-01: 10 s to 30 s, noticed after 2 s" in table.out
    same = day("replay", "run", "trace.jsonl", "--faults", "day.yaml", "--name", "oslo", "--replace", "-o", "json")
    assert same.code == 0, same.err
    assert json.loads(same.out)["rejected"] == document["rejected"]
    refused = day("gameday", "report", "oslo.calm")
    assert refused.code == 3
    assert "run oslo.calm has no faults" in refused.err


def test_the_loss_of_every_site_is_ranked(day: Callable) -> None:
    ran = day("gameday", "n-1", "trace.jsonl", "--noticed-after", "2s", "-o", "json")
    assert ran.code == 0, ran.err
    document = json.loads(ran.out)
    assert set(document["items"][0]) == set(schema_of("LossList")["$defs"]["Loss"]["required"])
    assert [loss["site"] for loss in document["items"]] == ["no-oslo-01"]
    assert document["items"][0]["good_lost"] > 0
    made = day("gameday", "n-1", "trace.jsonl", "--dry-run")
    (day.folder / "made.yaml").write_text(made.out)
    assert day("gameday", "run", "made.yaml", "trace.jsonl", "--dry-run").code == 0


@pytest.mark.parametrize(
    ("spoilt", "told"),
    [
        (("no-oslo-01", "no-osl-01"), "did you mean no-oslo-01?"),
        (("lose: {site: no-oslo-01}", "slow: {site: no-oslo-01, factor: 0}"), "factor"),
        (("lose: {site: no-oslo-01}", "brownout: {site: no-oslo-01, keep: 1.5}"), "keep"),
        (("lose: {site: no-oslo-01}", "crowd: {near: oslo, factor: 3}"), "crowd"),
        (("for: 20s", "for: 20"), "for"),
        (("kind: GameDay", "kind: Gameday"), "did you mean GameDay?"),
    ],
)
def test_a_game_day_that_is_wrong_is_refused_where_it_is_wrong(
    day: Callable, spoilt: tuple[str, str], told: str
) -> None:
    (day.folder / "day.yaml").write_text(DAY.replace(*spoilt))
    ran = day("gameday", "run", "day.yaml", "trace.jsonl")
    assert (ran.code, ran.out) == (3, "")
    assert told in ran.err
    assert "day.yaml:" in ran.err


def test_draws_have_no_faults(day: Callable) -> None:
    ran = day("replay", "run", "trace.jsonl", "--faults", "day.yaml", "--seeds", "3")
    assert ran.code == 2
    assert "leave out --seeds" in ran.err


def test_a_game_day_is_no_manifest(day: Callable) -> None:
    ran = day("apply", "-f", "day.yaml")
    assert ran.code == 3
    assert "gridctl gameday run day.yaml TRACE" in ran.err
