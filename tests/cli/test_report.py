"""`gridctl report`: what it prints, where, what it refuses, and that the same inputs make the same bytes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gridctl.render.schemas import schema_of

KERNELS = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")


@pytest.fixture
def replayed(grid: Any) -> Any:
    """A grid that holds a run of forty requests, its centralised alternative beside it."""
    lines = [
        {"timestamp": at * 50, "input_length": 64, "output_length": 8, "origin": "fr-paris-01", "workload": "chat"}
        for at in range(40)
    ]
    (grid.folder / "t.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    grid.environment["XDG_CACHE_HOME"] = KERNELS
    ran = grid("replay", "run", "t.jsonl", "--name", "base")
    assert ran.code == 0, ran.err
    return grid


def unexplained(value: Any, schema: dict[str, Any], at: str = "$") -> list[str]:
    """Keys that the schema does not name, and those it names that are missing."""
    if isinstance(value, list):
        return [text for item in value for text in unexplained(item, schema.get("items", {}), f"{at}[]")]
    if not isinstance(value, dict) or "properties" not in schema:
        return []
    found = [f"{at}.{key}" for key in value.keys() ^ schema["properties"].keys()]
    for key in value.keys() & schema["properties"].keys():
        found += unexplained(value[key], schema["properties"][key], f"{at}.{key}")
    return found


def test_a_run_is_shown_and_handed_on_in_every_form(replayed: Any) -> None:
    ran = replayed("report")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("run base: trace t, policy grid, 40 requests in 2")
    assert "● at least 99 % good" in ran.out
    assert max(map(len, ran.out.splitlines())) <= 80

    encoded = (
        "import sys; sys.stdout.reconfigure(encoding='ascii'); from gridctl.cli.main import main; main(['report'])"
    )
    ran = replayed.python(encoded)
    assert ran.out.startswith("run base: trace t")
    assert ran.out.isascii()
    assert "\\u" not in ran.out

    ran = replayed("report", "base", "--html", "base.html")
    assert (ran.code, ran.out) == (0, "")
    assert "wrote base.html" in ran.err
    text = (replayed.folder / "base.html").read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    assert text.endswith("</html>\n")
    assert replayed("report", "base", "--html", "-").out == text
    assert [path.name for path in replayed.folder.iterdir() if path.name.startswith(".base")] == []

    printed = json.loads(replayed("report", "base", "-o", "json").out)
    schema = schema_of("Report")
    assert list(printed) == schema["required"]
    assert unexplained(printed, schema) == []
    assert sum(printed["series"]["requests"]) == 40
    assert [share["requests"] for share in printed["origins"]] == [40]

    for line in (("report", "ba"), ("report", "base", "--compare", "ba")):
        words = replayed("completion", "words", "--", *line).out.split()
        assert {"base", "base.centralized"} <= set(words)

    assert replayed("site", "delete", "fr-paris-01", "--yes").code == 0
    assert "Not on the map" in replayed("report", "base", "--html", "-").out


def test_the_same_inputs_make_the_same_bytes(replayed: Any) -> None:
    pages = [replayed("report", "base", "--html", "-", PYTHONHASHSEED=seed).out for seed in ("1", "2")]
    assert pages[0] == pages[1]
    fixed = {"SOURCE_DATE_EPOCH": "1700000000"}
    formats = (("--html", "-"), ("-o", "markdown"), ("-o", "json"))
    before = [replayed("report", "base", *words, **fixed).out for words in formats]
    assert all("2023-11-14T22:13:20Z" in text for text in before)
    assert replayed("replay", "run", "t.jsonl", "--name", "base", "--replace").code == 0
    assert [replayed("report", "base", *words, **fixed).out for words in formats] == before


def test_a_run_beside_another_names_both(replayed: Callable) -> None:
    assert replayed("replay", "run", "t.jsonl", "--name", "near", "--policy", "nearest").code == 0
    page = replayed("report", "near", "--compare", "base", "--html", "-").out
    assert "beside base" in page
    assert "gridctl report near --compare base --html near.html" in page


def test_gates_are_held_and_shown_and_change_no_exit_code(replayed: Callable) -> None:
    ran = replayed("report", "base", "--gate", "good >= 41", "--gate", "requests >= 40", "-o", "json")
    assert ran.code == 0
    assert [gate["outcome"] for gate in json.loads(ran.out)["gates"]] == ["fail", "pass"]
    assert "gridctl replay gate base" in ran.err
    assert "✗ fail" in replayed("report", "base", "--gate", "good >= 41", "-o", "markdown").out
    assert replayed("report", "base", "--gate", "godo >= 41").code == 3


def test_what_cannot_be_done_is_said_and_stdout_stays_empty(replayed: Callable) -> None:
    for words, code, said in (
        (("report", "base", "-o", "csv"), 2, "gridctl tokenomics -o csv"),
        (("report", "base", "--open", "--html", "-"), 2, "--open"),
        (("report", "base", "--html", "no/such/folder.html"), 3, "no folder no/such"),
        (("report", "base", "--html", "."), 3, "is a folder"),
        (("report", "base", "--compare", "base"), 2, "beside itself"),
        (("report", "base", "--compare", "bsae"), 4, "base"),
        (("report", "bsae"), 4, "base"),
    ):
        ran = replayed(*words)
        assert (ran.code, ran.out) == (code, ""), words
        assert said in ran.err


def test_a_grid_without_runs_says_what_to_do(grid: Callable) -> None:
    ran = grid("report")
    assert ran.code == 4
    assert "gridctl replay run TRACE" in ran.err
