"""`gridctl explain request`: what a person sees on one screen, what a script reads, and what is refused."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable

import pytest
import yaml

REQUESTS = 40


@pytest.fixture(scope="module")
def lines() -> str:
    rows = [
        {
            "timestamp": 10 * at,
            "input_length": 50 + at,
            "output_length": 1 + at % 9,
            "origin": "fr-paris-01",
            "workload": "chat",
        }
        for at in range(REQUESTS)
    ]
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def run(grid: Callable, lines: str) -> Callable:
    """A grid with a run of forty requests."""
    (grid.folder / "t.jsonl").write_text(lines)
    ran = grid("replay", "run", "t.jsonl", "--name", "base", "--no-centralized")
    assert ran.code == 0, ran.err
    return grid


def test_one_request_fits_a_screen_and_every_format_tells_the_same(run: Callable) -> None:
    screen = run("explain", "request", "base/7", NO_COLOR="1")
    assert (screen.code, screen.err) == (0, "")
    assert max(map(len, screen.out.splitlines())) <= 80
    assert len(screen.out.splitlines()) <= 40
    assert "\x1b" not in screen.out
    for words in (
        "chosen: no-oslo-01 oslo-gpu (tiny/bf16)",
        "next: no-oslo-01",
        "the router saw",
        "to the engine",
        "ttft_ms",
    ):
        assert words in screen.out
    told = json.loads(run("explain", "request", "base/7", "-o", "json").out)
    assert yaml.safe_load(run("explain", "request", "base/7", "-o", "yaml").out) == told
    rows = list(csv.DictReader(io.StringIO(run("explain", "request", "base/7", "-o", "csv").out)))
    assert [row["status"] for row in rows] == ["chosen", "runner-up"]
    chosen = told["decision"]["candidates"]
    assert float(rows[0]["usd"]) in [one["forecast"]["usd"] for one in chosen]
    assert run("explain", "request", "base/7", "-o", "name").out == "base/7\n"
    stored = json.loads(run("replay", "requests", "base", "-o", "jsonl").out.splitlines()[7])
    assert told["timeline"]["ttft_ms"] == pytest.approx(stored["ttft_ms"])
    assert told["decision"]["at_ms"] == stored["t_ms"] == 70.0


def test_a_site_that_could_not_serve_says_why(run: Callable) -> None:
    assert "site fr-paris-01 has no engine" in run("explain", "request", "base/7", "--site", "fr-paris-01").err
    assert "no-oslo-01: chosen, chosen" in run("explain", "request", "base/7", "--site", "no-oslo-01").out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("request",), 2, "which request?"),
        (("request", "base"), 2, "does not name a request of a run"),
        (("request", "base/40"), 4, "run base has no request 40"),
        (("request", "base/worts"), 2, "did you mean worst?"),
        (("request", "bas/1"), 4, "did you mean base?"),
        (("request", "base/1", "--site", "no-oslo-1"), 4, "did you mean no-oslo-01?"),
        (("request", "base/1", "--trace", "gone.jsonl"), 4, "not there any more"),
        (("site", "base/1"), 2, "site is no request"),
        (("request", "../x/1"), 4, "there is no run"),
    ],
)
def test_what_cannot_be_explained_is_refused(run: Callable, arguments: tuple[str, ...], code: int, words: str) -> None:
    ran = run("explain", *arguments)
    assert (ran.code, ran.out) == (code, ""), ran.err
    assert words in ran.err
    assert "Traceback" not in ran.err


def test_a_run_exports_the_grid_it_was_made_with(run: Callable) -> None:
    before = run("export").out
    assert run("cluster", "delete", "oslo-gpu", "--yes").code == 0
    assert run("export").out != before
    exported = run("run", "export", "base")
    assert (exported.code, exported.err) == (0, "")
    run("apply", "-f", "-", stdin=exported.out)
    after = [text for text in run("export").out.split("---") if "kind: Policy" not in text]
    assert "---".join(after).strip() == before.strip()
    assert run("run", "export", "base", "-o", "csv").code == 2
    kept = run("run", "get", "base", "--inputs")
    assert str(run.folder / "t.jsonl") in kept.out
    assert "sha256:" in kept.out


def test_runs_and_words_for_requests_are_completed(run: Callable) -> None:
    def words(*line: str) -> list[str]:
        return [one.split("\t")[0] for one in run("completion", "words", "--", *line).out.splitlines()]

    assert words("explain", "requ") == ["request"]
    assert words("explain", "request", "b") == ["base/"]
    assert "base/worst-ttft" in words("explain", "request", "base/worst")
    assert words("explain", "request", "base/1", "--site", "no") == ["no-oslo-01"]
