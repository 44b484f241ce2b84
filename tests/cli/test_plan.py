"""`gridctl plan` as a user runs it: what is printed where, schemas, bad input."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from test_schemas import KERNELS, hold


@pytest.fixture
def planned(grid: Callable, tmp_path: Path) -> Callable:
    """A grid with a price for its workload and a short trace."""
    lines = [
        json.dumps({"timestamp": 40 * number, "input_length": 100, "output_length": 8, "workload": "chat",
                    "origin": "fr-paris-01"})
        for number in range(300)
    ]  # fmt: skip
    (tmp_path / "t.jsonl").write_text("\n".join(lines) + "\n")
    grid.environment["XDG_CACHE_HOME"] = KERNELS  # type: ignore[attr-defined]
    return grid


BREAKEVEN = ("plan", "breakeven", "--axis", "rtt", "--seeds", "1", "--requests", "200", "--load", "5", "--jobs", "1")
PLACE = ("plan", "place", "t.jsonl", "--gpus", "l40s", "--jobs", "1")


def test_a_break_even_holds_its_schema_and_draws_its_curve(planned: Callable) -> None:
    found = hold(planned(*BREAKEVEN, "--region", "EU", "-o", "json").out, "BreakEven")
    assert [one["workload"] for one in found["items"]] == ["chat"]
    text = planned(*BREAKEVEN, "--region", "EU").out
    assert "BY RTT" in text
    assert "round trip to the core; edge pays: " in text


def test_a_placement_holds_its_schema_and_says_what_it_found(planned: Callable, tmp_path: Path) -> None:
    done = planned(*PLACE, "-o", "json", "--out", "placed")
    found = hold(done.out, "Placement")
    assert found["chosen"] in ("plan", "all-core", "all-edge")
    assert (tmp_path / "placed" / "clusters.yaml").exists()
    assert planned("validate", "-f", "placed").code == 0
    text = planned(*PLACE).out
    assert text.rstrip().endswith("for this demand.")
    for output in ("csv", "yaml", "name"):
        assert planned(*PLACE, "-o", output).code == 0


def test_a_dry_run_counts_and_replays_nothing(planned: Callable) -> None:
    done = planned(*BREAKEVEN, "--dry-run")
    assert (done.code, done.out) == (0, "")
    assert "replays; nothing was replayed" in done.err
    done = planned(*PLACE, "--dry-run")
    assert (done.code, done.out) == (0, "")
    assert "capacities to measure; nothing was replayed or written" in done.err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("plan", "breakeven", "--workload", "caht"), 4, "did you mean chat?"),
        (("plan", "breakeven", "--axis", "rtts"), 2, "did you mean rtt?"),
        (("plan", "breakeven", "--region", "Europe"), 2, "one of: NA, EU"),
        (("plan", "breakeven", "--from", "nope.jsonl"), 4, "no such trace file"),
        (("plan", "place", "t.jsonl", "--gpus", "l40"), 4, "did you mean l40s?"),
        (("plan", "place", "t.jsonl", "--gpus", "l40s", "--models", "tinyy"), 4, "did you mean tiny?"),
        (("plan", "place", "t.jsonl", "--gpus", "l40s", "--out", "."), 3, "is not empty"),
        (("plan", "place", "t.jsonl"), 2, "--gpus"),
    ],
)
def test_bad_input_leaves_stdout_empty_and_says_what_to_do(
    planned: Callable, arguments: tuple[str, ...], code: int, said: str
) -> None:
    done = planned(*arguments)
    assert (done.code, done.out) == (code, "")
    assert said in done.err
