"""`gridctl trace generate --servegen` as its users run it: exit code, stdout and stderr apart."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

RATES = "client,t_s,rate_rps,cv,dist\n7,0,2,1,Gamma\n7,600,1,3,Weibull\n12,0,0.5,1,Gamma\n"
LENGTHS = "client,t_s,field,p10,p50,p90\n7,0,input_tokens,100,200,400\n7,0,output_tokens,1,10,20\n"


@pytest.fixture
def tables(grid: Callable) -> Path:
    folder: Path = grid.folder / "tables"
    folder.mkdir()
    (folder / "servegen_tiny_rates.csv").write_text(RATES)
    (folder / "servegen_tiny_lengths.csv").write_text(LENGTHS)
    return folder


def generate(grid: Callable, *arguments: str):  # type: ignore[no-untyped-def]
    return grid("trace", "generate", *arguments, "--servegen", "tables", "--pool", "tiny")


def test_a_pool_becomes_a_trace_that_replays(grid: Callable, tables: Path) -> None:
    done = generate(grid, "t.jsonl.gz", "--duration", "20m", "--fraction", "0.1")
    assert (done.code, done.out) == (0, ""), done.err
    assert "wrote 210 requests" in done.err  # 0.1 × 600 × (2 + 1 + 0.5)
    assert "14.3 % of the requests are of clients whose lengths the tables lack" in done.err  # 30 of 210
    by_tenant = json.loads(grid("trace", "stat", "t.jsonl.gz", "--by", "tenant", "-o", "json").out)["items"]
    assert {row["name"]: row["requests"] for row in by_tenant} == {"client-7": 180, "client-12": 30}
    ran = grid("replay", "run", "t.jsonl.gz", "--name", "base", "-o", "json")
    assert json.loads(ran.out)["requests"] == 210


def test_a_dry_run_says_what_would_be_written_and_writes_nothing(grid: Callable, tables: Path) -> None:
    before = sorted(grid.folder.iterdir())
    done = generate(grid, "t.jsonl", "--duration", "20m", "--dry-run", "-o", "json")
    plan = json.loads(done.out)
    assert (plan["kind"], plan["requests"], plan["is_exact"]) == ("TracePlan", 2100, True)
    schema = json.loads(grid("explain", "TracePlan", "--schema").out)
    assert list(plan) == schema["required"]
    assert generate(grid, "--duration", "20m", "--dry-run").code == 0
    assert sorted(grid.folder.iterdir()) == before


def test_the_same_command_gives_the_same_bytes(grid: Callable, tables: Path) -> None:
    written = []
    for name in ("a.jsonl.gz", "b.jsonl.gz"):
        assert generate(grid, name, "--duration", "20m", "--seed", "5").code == 0
        written.append((grid.folder / name).read_bytes())
    assert written[0] == written[1]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("t.jsonl", "--fraction", "0"), 2, "0.0 is outside 0"),
        (("t.jsonl", "--fraction", "1.5"), 2, "1.5 is outside"),
        (("t.jsonl", "--day", "3"), 2, "--day 1"),
        (("t.jsonl", "--day", "1"), 2, "--duration 1200s"),  # the pool has 20 minutes
        (("t.jsonl", "--start", "0", "--day", "1"), 2, "keep one of them"),
        (("t.jsonl", "--rate", "5"), 2, "--rate does not go with --servegen"),
        (("t.jsonl", "--turns", "5"), 2, "--turns does not go with --servegen"),
        (("--duration", "20m"), 2, "no file to write"),
        (("t.jsonl", "--pool", "small", "--duration", "20m"), 4, "no pool small here, only tiny"),
    ],
)
def test_what_cannot_be_done_says_why_and_how(
    grid: Callable, tables: Path, arguments: tuple[str, ...], code: int, says: str
) -> None:
    pool = () if "--pool" in arguments else ("--pool", "tiny")
    done = grid("trace", "generate", *arguments, "--servegen", "tables", *pool)
    assert (done.code, done.out) == (code, "")
    assert says in done.err
    assert not (grid.folder / "t.jsonl").exists()


def test_options_of_the_tables_need_the_tables(grid: Callable) -> None:
    done = grid("trace", "generate", "t.jsonl", "--duration", "1h", "--rate", "1", "--fraction", "0.1")
    assert (done.code, "--fraction needs --servegen" in done.err) == (2, True)
    missing = grid("trace", "generate", "t.jsonl", "--duration", "1h")
    assert (missing.code, "missing --rate" in missing.err) == (2, True)
    gone = grid("trace", "generate", "t.jsonl", "--servegen", "nowhere")
    assert (gone.code, "no such folder" in gone.err) == (4, True)
