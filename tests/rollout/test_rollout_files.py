"""A rollout in a replay: when each site fetches, loads and serves, worked out by hand, and what becomes of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from gridctl.accounts.rows import COMPLETED, FAILED, REJECTED
from gridctl.errors import GridctlError, InputError
from gridctl.orchestrator import rolloutspeed
from gridctl.orchestrator.rolloutfile import RolloutFile, added_delay_ms, game_day_of, itinerary_of, read_rollout
from gridctl.orchestrator.rolloutspeed import speed_of
from gridctl.resources import Cluster, Model, Site
from gridctl.resources.resource import Metadata

REPOSITORY = Path(__file__).resolve().parents[2]
S = 10**9
SHAPE = {
    "layers": 2, "hidden_size": 64, "heads": 4, "kv_heads": 2, "head_dim": 16, "intermediate_size": 128,
    "vocab_size": 1000,
}  # fmt: skip


def resources(sites: int) -> list[Any]:
    variants = [{"name": "bf16", "quality": 0.6}, {"name": "fp8", "quality": 0.6}]
    found: list[Any] = [
        msgspec.convert({"metadata": {"name": "tiny"}, "spec": {"architecture": SHAPE, "variants": variants}}, Model)
    ]
    for number in range(sites):
        spec = {"lat": 48.0, "lon": 2.0, "country": "FR", "tier": "edge", "city": f"c{number}"}
        found.append(msgspec.convert({"metadata": {"name": f"s{number}"}, "spec": spec}, Site))
        cluster = {"site": f"s{number}", "gpu": "l4", "gpus": 1, "deployments": [{"variant": "tiny/bf16"}]}
        found.append(msgspec.convert({"metadata": {"name": f"g{number}"}, "spec": cluster}, Cluster))
    return found


def file(**spec: Any) -> RolloutFile:
    base = {"variant": "tiny/fp8", "to": "tier=edge", "at": "10s", "waves": "1,100%", "soak": "5s", "reload": "2s",
            "fetch_gb": 0.5, "link_mbit": 200.0, "link_share": 0.5, "max_unavailable": 0.5}  # fmt: skip
    return msgspec.convert({"metadata": {"name": "r"}, "spec": base | spec}, RolloutFile)


def test_every_site_fetches_loads_and_serves_at_the_times_worked_out_by_hand() -> None:
    # 0.5 GB at half of 200 Mbit/s, 12.5 MB/s, takes 40 s. Wave 2 begins after a reload of 2 s and a soak of 5 s; of its
    # four sites two may reload at a time.
    moves = itinerary_of(file(), resources(5), {}).moves
    assert [(move.wave, move.fetch_ns // S, move.load_ns // S, move.serve_ns // S) for move in moves] == [
        (1, 10, 50, 52),
        (2, 57, 97, 99),
        (2, 57, 97, 99),
        (2, 57, 99, 101),
        (2, 57, 99, 101),
    ]


def test_the_delay_of_a_shared_link_is_that_of_pollaczek_and_khinchine() -> None:
    # A burst of 65,536 bytes takes 26.2144 ms at 20 Mbit/s; at half of the link the wait is half of that.
    assert added_delay_ms(file(link_mbit=20.0).spec) == pytest.approx(13.1072)
    # At 0.9 of it, 0.9 / 0.2 = 4.5 times that.
    assert added_delay_ms(file(link_mbit=20.0, link_share=0.9).spec) == pytest.approx(117.9648)


def test_what_begins_after_the_trace_is_left_out_and_nothing_else() -> None:
    plan = itinerary_of(file(), resources(2), {"g0": 0.5, "g1": 1.0})
    faults = game_day_of(plan, ["EU", "NA"], 60 * S, "3s").gameday.spec.faults
    # Until 60 s: wave 1 fetches (two regions), loads, serves faster; wave 2 only fetches.
    kinds = [next(word for word in ("link", "lose", "slow") if getattr(fault, word)) for fault in faults]
    assert kinds == ["link", "link", "lose", "slow", "link", "link"]
    assert [(fault.at, fault.lasts) for fault in faults][:4] == [
        ("10.000000000s", "40.000000000s"),
        ("10.000000000s", "40.000000000s"),
        ("50.000000000s", "2.000000000s"),
        ("52.000000000s", "9.000000000s"),
    ]
    with pytest.raises(GridctlError, match="after the trace has ended"):
        game_day_of(plan, ["EU"], 5 * S, "3s")


def test_a_variant_that_is_not_there_and_sites_that_are_not_are_refused() -> None:
    for change, words in (
        ({"variant": "tiny/fp9"}, "no variant fp9"),
        ({"variant": "tinny/fp8"}, "no model tinny"),
        ({"to": "tier=core"}, "no site matches"),
        ({"waves": "1,50%"}, "must reach all sites"),
    ):
        with pytest.raises(GridctlError, match=words):
            itinerary_of(file(**change), resources(3), {})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kind: GameDay\nmetadata: {name: a}\nspec: {}\n", "declares no rollout"),
        ("kind: Rollout\nmetadata: {name: a}\nspec: {variant: a/b, to: x}\n", "at"),
        ("kind: Rollout\nmetadata: {name: a}\nspec: {variant: a/b, to: x, at: 1s, link_share: 1}\n", "link_share"),
        ("kind: Rollout\nmetadata: {name: a}\nspec: {variant: a/b, to: x, at: 1s, soack: 1s}\n", "soack"),
        ("kind: Rollout\nmetadata: {name: a}\nspec: {variant: a/b, to: x, at: 1s, max_ttft_ratio: 1}\n", "1.2 to 1000"),
        ("- 1\n- 2\n", "rollout"),
    ],
    ids=range(6),
)
def test_a_file_that_is_wrong_is_refused_with_its_place(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_rollout(str(path))
    told = f"{caught.value.what} {caught.value.where}"
    assert words in told
    assert "r.yaml" in told


def test_metadata_is_kept() -> None:
    assert file().metadata == Metadata(name="r")


def test_a_wave_is_as_fast_as_the_requests_that_its_sites_served(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(ttft_ms: dict[str, float]) -> Any:
        # 200 requests to each of three sites in turn, then one that went nowhere and one that failed.
        engine = np.array([0, 1, 2] * 200 + [-1, 0])
        outcome = np.array([COMPLETED] * 600 + [REJECTED, FAILED])
        ttft = np.array([round(ttft_ms["abc"[place]] * 1e6) for place in engine])
        engines = [SimpleNamespace(site=site) for site in "abc"]
        rows = SimpleNamespace(engine=engine, outcome=outcome)
        return SimpleNamespace(rows=rows, info=SimpleNamespace(engines=engines), ttft=ttft)

    monkeypatch.setattr(rolloutspeed, "client_clock", lambda made: SimpleNamespace(ttft_ns=made.ttft))
    calm = run({"a": 100.0, "b": 100.0, "c": 50.0})
    slow = run({"a": 300.0, "b": 100.0, "c": 900.0})

    def said(sites: set[str], most: float, last: int = 602) -> tuple[float, str] | None:
        found = speed_of(slow, calm, sites, slice(0, last), most)
        return None if found is None else (found.times, found.word)

    assert said({"a"}, 1.5) == (pytest.approx(3.0, rel=0.11), "fail")
    assert said({"a"}, 4.0) == (pytest.approx(3.0, rel=0.11), "pass")
    assert said({"b"}, 1.2) == (pytest.approx(1.0), "pass")
    assert said({"a", "b"}, 1.5) == (pytest.approx(3.0, rel=0.11), "fail")  # half of them: the tail tells
    assert said({"a"}, 1.5, last=60) == (pytest.approx(3.0, rel=0.11), "inconclusive")  # 20 requests
    assert said({"z"}, 1.5) is None


def test_a_replay_tells_each_phase_beside_the_calm_run(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}

    def gridctl(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "gridctl", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=180
        )

    assert gridctl("init", "grid", "--example", "metro").returncode == 0
    assert gridctl("--store", "grid", "apply", "-f", "grid/").returncode == 0
    given = ("--rollout", str(REPOSITORY / "examples" / "rollout" / "friday.yaml"))
    trace = ("grid/trace.jsonl.gz", "--until", "150s")
    done = gridctl("--store", "grid", "replay", "run", *trace, *given, "--name", "friday", "-o", "json")
    assert done.returncode == 0, done.stderr
    phases = json.loads(done.stdout)["items"]
    assert [(one["phase"], one["wave"], one["from_s"], one["until_s"]) for one in phases[:3]] == [
        ("before", None, 0.0, 60.0),
        ("transfer", 1, 60.0, 80.0),
        ("reload", 1, 80.0, 100.0),
    ]
    before, _, reload = phases[:3]
    assert before["attainment"] == before["calm_attainment"]
    assert before["good_lost"] == 0
    assert reload["good_lost"] > 0
    assert [(one["phase"], one["ttft_word"]) for one in phases[1:4]] == [
        ("transfer", None),
        ("reload", None),
        ("soak", "pass"),
    ]
    info = json.loads(gridctl("--store", "grid", "run", "get", "friday", "-o", "json").stdout)
    assert sum(one["requests"] for one in phases) == info["requests"]
    both = gridctl("--store", "grid", "replay", "run", *trace, *given, "--faults", "x.yaml")
    assert both.returncode == 2
