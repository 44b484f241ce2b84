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
        (("lose: {site: no-oslo-01}", "crowd: {near: oslo, times: 3}"), "crowd"),
        (("lose: {site: no-oslo-01}", "crowd: {origin: oslo, times: 3}"), "one of: fr-paris-01"),
        (("lose: {site: no-oslo-01}", "link: {between: oslo-bergen, lost: true}"), "no link oslo-bergen"),
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


def test_the_same_faults_happen_in_every_draw(day: Callable) -> None:
    ran = day("replay", "run", "trace.jsonl", "--faults", "day.yaml", "--seeds", "3", "--name", "sure", "--keep-draws")
    assert ran.code == 0, ran.err
    for name in ("sure", "sure.draw-1", "sure.draw-2"):
        found = json.loads(day("gameday", "report", name, "-o", "json").out)
        (fault,) = found["faults"]
        assert (fault["fault"]["text"], fault["phases"][1]["from_s"]) == ("lose site no-oslo-01", 10.0)
        assert found["rejected"] >= 17
    table = json.loads(day("tokenomics", "sure", "-o", "json").out)
    assert table["uncertainty"]["replays"] == 3
    resumed = day("replay", "run", "trace.jsonl", "--seeds", "4", "--name", "sure", "--resume")
    assert resumed.code == 3, "draws with faults are not gone on with without them"
    # An old draw is no draw of other faults.
    (day.folder / "day.yaml").write_text(DAY.replace("10s", "11s"))
    other = day("replay", "run", "trace.jsonl", "--faults", "day.yaml", "--seeds", "4", "--name", "sure", "--resume")
    assert other.code == 3


def test_tables_of_a_phase_are_of_its_requests(day: Callable) -> None:
    assert day("gameday", "run", "day.yaml", "trace.jsonl", "--name", "oslo").code == 0
    whole = json.loads(day("tokenomics", "oslo", "-o", "json").out)
    parts = {
        phase: json.loads(day("tokenomics", "oslo", "--phase", phase, "-o", "json").out)
        for phase in ("before", "during", "after")
    }
    # A request a second for a minute, lost from 10 s to 30 s.
    assert [parts[phase]["total"]["requests"] for phase in parts] == [10, 20, 30]
    assert [round(parts[phase]["window_s"]) for phase in ("before", "during")] == [10, 20]
    assert sum(part["total"]["usd"] for part in parts.values()) == pytest.approx(whole["total"]["usd"], rel=0.2)
    assert parts["during"]["phase"] == "during"
    during = json.loads(day("sla", "oslo", "--phase", "during", "-o", "json").out)
    assert during["total"]["requests"] == 20
    refused = day("sla", "oslo.calm", "--phase", "during")
    assert (refused.code, "has no faults" in refused.err) == (3, True)
    assert day("sla", "oslo", "--phase", "midst").code == 2
    beside = day("tokenomics", "oslo", "--phase", "during", "--against", "oslo.calm", "-o", "json")
    assert json.loads(beside.out)["centralized"]["total"]["requests"] == 20


def test_a_request_amid_faults_is_explained(day: Callable) -> None:
    assert day("gameday", "run", "day.yaml", "trace.jsonl", "--name", "oslo").code == 0
    for number, word in ((5, None), (20, "outage"), (40, None)):
        ran = day("explain", "request", f"oslo/{number}", "--site", "no-oslo-01", "-o", "json")
        assert ran.code == 0, ran.err
        candidates = json.loads(ran.out)["decision"]["candidates"]
        assert candidates[0]["site"] == "no-oslo-01"
        assert (candidates[0]["reason"] == "outage") is (word == "outage")


def test_a_game_day_is_no_manifest(day: Callable) -> None:
    ran = day("apply", "-f", "day.yaml")
    assert ran.code == 3
    assert "gridctl gameday run day.yaml TRACE" in ran.err


def test_a_ready_made_game_day_is_the_file_it_prints(day: Callable) -> None:
    """What --print prints, run as a file, is what the command runs."""
    cases = (
        ("region-loss", "EU", "trace.jsonl", "--for", "20s", "--noticed-after", "2s"),
        ("flash-crowd", "fr-paris-01", "trace.jsonl", "--times", "3", "--for", "20s"),
    )
    for number, words in enumerate(cases):
        printed = day("gameday", *words, "--print")
        assert printed.code == 0, printed.err
        (day.folder / "printed.yaml").write_text(printed.out)
        checked = day("gameday", *words, "--dry-run")
        assert (checked.code, checked.out) == (0, printed.out)
        assert "dry run: 60 requests" in checked.err
        made = day("gameday", *words, "--name", f"made-{number}", "-o", "json")
        file = day("gameday", "run", "printed.yaml", "trace.jsonl", "--name", f"file-{number}", "-o", "json")
        assert (made.code, file.code) == (0, 0), made.err + file.err
        one, other = json.loads(made.out), json.loads(file.out)
        assert {**one, "run": "", "calm": ""} == {**other, "run": "", "calm": ""}
    # A request a second for 20 s, two copies of each; none of the 60 that were there is gone.
    assert one["added"] == 40
    assert one["requests"] == 100
    assert one["faults"][0]["phases"][1]["added"] == 40


def test_the_loss_of_every_region_is_ranked(day: Callable) -> None:
    ran = day("gameday", "region-loss", "--each", "trace.jsonl", "--noticed-after", "2s", "-o", "json")
    assert ran.code == 0, ran.err
    (loss,) = json.loads(ran.out)["items"]
    assert (loss["region"], loss["site"], loss["requests"]) == ("EU", "", 60)
    assert loss["good_lost"] > 0
    assert day("gameday", "region-loss", "trace.jsonl").code == 2


def test_stale_telemetry_is_shown_beside_fresh_with_and_without_own_counters(day: Callable) -> None:
    ran = day("gameday", "stale-telemetry", "trace.jsonl", "--seconds", "30", "--at", "10s", "-o", "json")
    assert ran.code == 0, ran.err
    items = json.loads(ran.out)["items"]
    assert [(one["telemetry"], one["counters"]) for one in items] == [
        ("fresh", "own"),
        ("stale", "own"),
        ("fresh", "none"),
        ("stale", "none"),
    ]
    assert [one["requests"] for one in items] == [30] * 4
    assert set(items[0]) == set(schema_of("HerdList")["$defs"]["Herd"]["required"])
    printed = day("gameday", "stale-telemetry", "trace.jsonl", "--seconds", "30", "--print")
    assert "telemetry: {}" in printed.out


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("flash-crowd", "atlantis", "trace.jsonl"), 4, "no request of the trace comes from atlantis"),
        (("flash-crowd", "EU", "trace.jsonl", "--times", "1"), 2, "--times"),
        (("stale-telemetry", "trace.jsonl", "--seconds", "0"), 2, "--seconds"),
        (("region-loss", "EU", "trace.jsonl", "--for", "nowhen"), 2, "no duration"),
        (("region-loss", "AS", "trace.jsonl"), 3, "region AS has no engine"),
        (("region-loss", "XX", "trace.jsonl"), 3, "the grid has no region XX"),
    ],
)
def test_a_ready_made_game_day_that_cannot_be_is_refused(
    day: Callable, words: tuple[str, ...], code: int, told: str
) -> None:
    ran = day("gameday", *words)
    assert (ran.code, ran.out) == (code, "")
    assert told in ran.err
