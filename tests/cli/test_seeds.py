"""`gridctl replay run --seeds` as a command, and the tables of a run that has draws: every format, and bad input."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from test_schemas import hold

KERNELS = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
REQUESTS = 60
SEEDS = 4


@pytest.fixture
def gridctl(grid: Callable) -> Callable:
    """A shell on an applied grid, with the machine's compiled kernels and a trace of 60 requests."""
    grid.environment["XDG_CACHE_HOME"] = KERNELS
    lines = (
        f'{{"timestamp": {10 * number}, "input_length": {50 + number}, "output_length": {1 + number % 7}}}\n'
        for number in range(REQUESTS)
    )
    (grid.folder / "trace.jsonl").write_text("".join(lines))
    return grid


def draws(shell: Callable, run: str) -> Path:
    return shell.folder / "grid" / ".gridctl" / "draws" / run


@pytest.mark.slow
def test_a_run_with_draws_shows_its_ranges_in_every_format_and_keeps_its_schemas(gridctl: Callable) -> None:
    ran = gridctl("replay", "run", "trace.jsonl", "--name", "sure", "--seeds", str(SEEDS), "--jobs", "2", "-o", "json")
    assert ran.code == 0, ran.err
    run = hold(ran.out, "Run")
    assert (run["replays"], run["replays_asked"], run["seed"]) == (SEEDS, SEEDS, 1)
    assert run["drawn"] == ["jitter", "mix", "arrivals", "profile"]
    assert [(draw["draw"], draw["seed"]) for draw in run["draws"]] == [(1, 2), (2, 3), (3, 4)]
    plain = json.loads(gridctl("replay", "run", "trace.jsonl", "--name", "plain", "-o", "json").out)
    assert (plain["digest"], plain["replays"], plain["draws"]) == (run["digest"], 1, [])

    table = gridctl("tokenomics", "sure").out
    assert "50% RANGE" in table.splitlines()[0]
    assert "4 replays: ranges are of 3 draws of jitter, mix, arrivals, profile, smallest to largest;" in table
    document = hold(gridctl("tokenomics", "sure", "-o", "json").out, "Tokenomics")
    uncertainty = document["uncertainty"]
    assert (uncertainty["replays"], uncertainty["coverage_share"], uncertainty["rank"]) == (SEEDS, 0.5, 1)
    assert len(uncertainty["items"]) == len(document["items"])
    spread = uncertainty["total"]["ttft_p50_ms"]
    assert spread["low"] < spread["high"]
    assert uncertainty["total"]["requests"] == {"low": REQUESTS, "high": REQUESTS, "draws": 3, "unserved": 0}
    assert uncertainty["centralized"]["requests"]["low"] == REQUESTS
    assert uncertainty["comparison"][0]["workload"] == "*"
    rows = list(csv.DictReader(io.StringIO(gridctl("tokenomics", "sure", "-o", "csv").out)))
    first = uncertainty["items"][0]["ttft_p50_ms"]
    assert [float(rows[0][f"ttft_p50_ms_draws_{end}"]) for end in ("low", "high")] == [first["low"], first["high"]]
    assert "ttft_p50_ms_draws_low" in gridctl("tokenomics", "sure", "-o", "wide").out.lower()
    assert gridctl("tokenomics", "sure", "-o", "markdown").out.splitlines()[0].split("|")[3].strip() == "50% range"

    promises = hold(gridctl("sla", "sure", "-o", "json").out, "Sla")
    items = promises["uncertainty"]["items"]
    assert [(one["workload"], one["objective"]) for one in items] == [
        (row["workload"], row["objective"]) for row in promises["items"]
    ]
    assert all(sum(one["statuses"].values()) == SEEDS for one in items)
    told = gridctl("sla", "sure").out
    assert "in 4 replays".upper() in told
    assert "verdicts" in told
    assert "statuses" in gridctl("sla", "sure", "-o", "csv").out.splitlines()[0]
    hold(gridctl("sla", "sure.centralized", "-o", "json").out, "Sla")
    assert hold(gridctl("sla", "plain", "-o", "json").out, "Sla")["uncertainty"] is None
    assert hold(gridctl("tokenomics", "sure", "--against", "plain", "-o", "json").out, "Tokenomics")["uncertainty"]

    damaged = draws(gridctl, "sure") / "draw-0002.json.gz"
    damaged.write_bytes(b"")
    without = gridctl("sla", "sure")
    assert without.code == 0
    assert "without ranges: draw 2 of run sure is damaged" in without.err
    again = gridctl("replay", "run", "trace.jsonl", "--name", "sure", "--seeds", str(SEEDS), "--resume", "-o", "json")
    assert json.loads(again.out)["draws"] == run["draws"], again.err
    assert gridctl("run", "delete", "sure", "--yes").code == 0
    assert not draws(gridctl, "sure").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--seeds", "0"), 2, "0 is not in the range"),
        (("--seeds", "2", "--jobs", "0"), 2, "0 is not in the range"),
        (("--seeds", "2", "--executor", "rai"), 2, "did you mean ray?"),
        (("--seeds", "2", "--draw", "jiter"), 2, "did you mean jitter?"),
        (("--seeds", "2", "--draw", ","), 2, "all replays would be the same"),
        (("--seeds", "2", "--resume"), 2, "give its name: --name RUN"),
        (("--seeds", "2", "--resume", "--name", "nothing"), 4, "no draws of a run nothing"),
    ],
)
def test_bad_input_is_refused_before_any_work(
    gridctl: Callable, arguments: tuple[str, ...], code: int, words: str
) -> None:
    ran = gridctl("replay", "run", "trace.jsonl", *arguments)
    assert (ran.code, ran.out) == (code, "")
    assert words in ran.err
    assert not (gridctl.folder / "grid" / ".gridctl" / "draws").exists()
