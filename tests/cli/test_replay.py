"""`gridctl replay`, `run` and `warmup` as commands: exit codes, what is printed where, and what is left on the disk."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

KERNELS = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
COLUMNS = [
    *("id", "t_ms", "origin", "workload", "tenant", "site", "cluster", "variant", "outcome"),
    *("input_tokens", "cached_tokens", "output_tokens"),
    *("rtt_ms", "queue_ms", "ttft_ms", "tpot_ms", "e2e_ms", "usd"),
]
REQUESTS = 60


@pytest.fixture
def gridctl(grid: Callable) -> Callable:
    """A shell on an applied grid, with the machine's compiled kernels and a trace of 60 requests."""
    grid.environment["XDG_CACHE_HOME"] = KERNELS
    (grid.folder / "trace.jsonl").write_text(lines(REQUESTS))
    return grid


def lines(count: int) -> str:
    return "".join(
        f'{{"timestamp": {10 * number}, "input_length": {50 + number}, "output_length": {1 + number % 7}}}\n'
        for number in range(count)
    )


def runs(shell: Callable) -> list[str]:
    """Everything in the folder of runs but its lock, hidden leftovers included."""
    folder = shell.folder / "grid" / ".gridctl" / "runs"
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


@pytest.mark.slow
def test_a_replay_prints_the_run_and_its_requests_can_be_read_back(gridctl: Callable) -> None:
    ran = gridctl("replay", "run", "trace.jsonl", "--name", "base", "--seed", "3", "-o", "json")
    assert ran.code == 0, ran.err
    run = json.loads(ran.out)
    assert (run["apiVersion"], run["kind"], run["name"], run["seed"]) == ("gridctl/v1", "Run", "base", 3)
    assert run["requests"] == run["completed"] + run["rejected"] + run["failed"] == REQUESTS
    assert run["input_tokens"] == sum(50 + number for number in range(REQUESTS))
    assert run["wall_s"] > 0
    assert run["requests_per_s"] == pytest.approx(REQUESTS / run["wall_s"])
    assert run["digest"].startswith("sha256:")
    assert run["policy"] == "grid"
    assert "drawn from the grid's own mix (seed 3)" in ran.err

    table = gridctl("replay", "requests", "base", "-o", "csv")
    rows = list(csv.DictReader(io.StringIO(table.out)))
    assert (table.code, table.err) == (0, "")
    assert list(rows[0])[: len(COLUMNS)] == COLUMNS
    assert [int(row["id"]) for row in rows] == list(range(REQUESTS))
    objects = [json.loads(line) for line in gridctl("replay", "requests", "base", "-o", "jsonl").out.splitlines()]
    assert [list(one)[: len(COLUMNS)] for one in objects] == [COLUMNS] * REQUESTS
    for row, one in zip(rows, objects, strict=True):
        assert one["ttft_ms"] >= one["rtt_ms"] + one["queue_ms"]
        assert one["e2e_ms"] >= one["ttft_ms"]
        assert (one["tpot_ms"] is None) == (one["output_tokens"] == 1)
        assert row["ttft_ms"] == str(one["ttft_ms"])
        assert (one["site"], one["cluster"], one["variant"]) == ("no-oslo-01", "oslo-gpu", "tiny/bf16")
    shown = gridctl("replay", "requests", "base")
    assert len(shown.out.splitlines()) == 51
    assert "50 of 60 requests; -o csv prints all" in shown.err
    assert len(gridctl("replay", "requests", "base", "-o", "csv", "--limit", "7").out.splitlines()) == 8
    slowest = json.loads(gridctl("replay", "requests", "base", "--slowest", "--limit", "1", "-o", "json").out)["items"]
    assert slowest[0]["ttft_ms"] == max(one["ttft_ms"] for one in objects)

    assert gridctl("run", "list", "-o", "name").out.split() == ["base", "base.centralized"]  # oldest first
    got = json.loads(gridctl("run", "get", "base", "-o", "json").out)
    assert got == run
    assert gridctl("run", "delete", "bas").code == 4
    assert gridctl("run", "delete", "base", "nothing", "--yes").code == 4
    assert runs(gridctl) == ["base", "base.centralized"]
    assert gridctl("run", "delete", "base", "base.centralized", "--yes").code == 0
    assert runs(gridctl) == []
    assert (gridctl("replay", "requests").code, gridctl("run", "get").code) == (4, 4)


@pytest.mark.slow
def test_the_same_seed_is_the_same_digest_whatever_hashes_strings_and_another_seed_is_another(
    gridctl: Callable,
) -> None:
    digests = []
    for seed, hashing in (("5", "1"), ("5", "999"), ("6", "1")):
        order = ["replay", "run", "trace.jsonl", "--no-centralized", "--seed", seed, "-o", "json"]
        code = f"from gridctl.cli.main import main; main({order!r})"
        gridctl.environment["PYTHONHASHSEED"] = hashing
        digests.append(json.loads(gridctl.python(code).out)["digest"])
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--policy", "least-load"), 4, "did you mean least-loaded?"),
        (("--policy", "wrong.yaml"), 3, "wrong.yaml:4"),
        (("--prices", "winter"), 4, "price book winter does not exist"),
        (("--name", "Not A Name"), 3, "is not a name for a run"),
        (("--speed", "0"), 3, "--speed"),
        (("--from", "1h"), 3, "no request arrives in that span"),
        (("--until", "soon"), 2, "--until"),
    ],
)
def test_a_wrong_order_is_refused_before_anything_happens(
    gridctl: Callable, arguments: tuple[str, ...], code: int, words: str
) -> None:
    (gridctl.folder / "wrong.yaml").write_text(
        "apiVersion: gridctl/v1\nkind: Policy\nmetadata: {name: p}\nspec: {algorithm: gird}\n"
    )
    ran = gridctl("replay", "run", "trace.jsonl", *arguments)
    assert (ran.code, ran.out) == (code, ""), ran.err
    assert words in ran.err
    assert "compiling" not in ran.err
    assert runs(gridctl) == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (lines(3).encode()[:-20], ":3"),
        (gzip.compress(lines(200).encode(), mtime=0)[:-30], "gzip"),
        (lines(2).encode() + b'{"timestamp": 5, "input_length": 9, "output_length": 9}\n', "--sort"),
        (b'{"timestamp": 1, "input_length": 9, "output_length": 9, "note": "' + b"x" * 10_000_000 + b'"}\n', ":1"),
        (b'{"timestamp": 0, "input_length": 9, "output_length": 9, "workload": "chatt"}\n', "did you mean chat?"),
        (b'{"timestamp": 0, "input_length": 9, "output_length": 9, "origin": "qqqqqq"}\n', "qqqqqq"),
    ],
    ids=["empty", "truncated", "gzip-cut", "unsorted", "long-line", "workload", "origin"],
)
def test_a_trace_that_is_wrong_saves_no_run(gridctl: Callable, content: bytes, words: str) -> None:
    (gridctl.folder / "wrong.trace").write_bytes(content)
    ran = gridctl("replay", "run", "wrong.trace", *(("--dry-run",) if b"origin" in content else ()))
    assert (ran.code, ran.out) == (3, ""), ran.err
    assert ran.err.count("error: ") == 1
    assert words in ran.err
    assert "Traceback" not in ran.err
    assert runs(gridctl) == []


def test_a_trace_that_is_not_there_is_not_found(gridctl: Callable) -> None:
    ran = gridctl("replay", "run", "nowhere.jsonl")
    assert (ran.code, ran.out) == (4, "")


def test_a_dry_run_reads_checks_and_writes_nothing(gridctl: Callable) -> None:
    ran = gridctl("replay", "run", "-", "--dry-run", stdin=lines(5))
    assert (ran.code, ran.out) == (0, "")
    assert "dry run: 5 requests over 3 engines would be replayed; nothing was written" in ran.err
    assert runs(gridctl) == []


@pytest.mark.slow
def test_a_taken_name_is_refused_and_replace_writes_over_it(gridctl: Callable) -> None:
    order = ("replay", "run", "trace.jsonl", "--name", "base", "--no-centralized", "-o", "json")
    first = json.loads(gridctl(*order).out)
    refused = gridctl(*order, "--seed", "9")
    assert (refused.code, refused.out) == (3, "")
    assert "run base exists" in refused.err
    assert json.loads(gridctl("run", "get", "-o", "json").out) == first
    again = json.loads(gridctl(*order, "--seed", "9", "--replace").out)
    assert again["seed"] == json.loads(gridctl("run", "get", "base", "-o", "json").out)["seed"] == 9
    assert runs(gridctl) == ["base"]


INTERRUPT = """
import os, signal
import gridctl.replay.stage as room
whole = room.replay_part
room.CHUNK_REQUESTS = 20
def interrupted(fleet, scene, requests, *others):
    whole(fleet, scene, requests, *others)
    if 20 in requests.number[:1]:
        os.kill(os.getpid(), signal.SIGINT)
room.replay_part = interrupted
from gridctl.cli.main import main
main(["replay", "run", "trace.jsonl", "--name", "base"])
"""


@pytest.mark.slow
def test_ctrl_c_in_the_middle_of_a_replay_saves_nothing(gridctl: Callable) -> None:
    ran = gridctl.python(INTERRUPT)
    assert (ran.code, ran.out) == (130, ""), ran.err
    assert "of 60 requests; no run was saved, the grid is unchanged" in ran.err
    assert "Traceback" not in ran.err
    assert runs(gridctl) == []


FULL_DISK = """
import resource
from gridctl.replay.warmup import warm_up
warm_up()
resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
from gridctl.cli.main import main
main(["replay", "run", "trace.jsonl", "--repeat", "300", "--name", "base"])
"""


@pytest.mark.slow
def test_a_disk_that_is_full_while_saving_leaves_no_part_of_a_run(gridctl: Callable) -> None:
    """18,000 requests make columns of 144,000 bytes; no file may grow beyond 65,536."""
    ran = gridctl.python(FULL_DISK)
    assert (ran.code, ran.out) == (3, ""), ran.err
    assert ran.err.count("error: ") == 1
    assert "Traceback" not in ran.err
    assert runs(gridctl) == []


@pytest.mark.slow
def test_slices_speed_and_repetition_shape_the_trace(gridctl: Callable) -> None:
    """60 requests 10 ms apart: from 0.1 s until 0.3 s are 20 of them, over 190 ms; twice as fast 95."""
    order = ("replay", "run", "trace.jsonl", "--no-centralized", "--from", "0.1", "--until", "0.3")
    code = f"""
from gridctl.cli.main import main
for name, more in (("plain", []), ("fast", ["--speed", "2"]), ("twice", ["--repeat", "2"]), ("few", ["--limit", "7"])):
    try:
        main([*{order!r}, "--name", name, *more])
    except SystemExit as done:
        assert not done.code, done.code
"""
    ran = gridctl.python(code)
    assert ran.code == 0, ran.err
    sizes, last = {}, {}
    for name in ("plain", "fast", "twice", "few"):
        rows = list(csv.DictReader(io.StringIO(gridctl("replay", "requests", name, "-o", "csv").out)))
        sizes[name], last[name] = len(rows), float(rows[-1]["t_ms"])
        assert int(rows[0]["input_tokens"]) == 60  # the eleventh request
    assert sizes == {"plain": 20, "fast": 20, "twice": 40, "few": 7}
    assert last == {"plain": 190.0, "fast": 95.0, "twice": 390.0, "few": 60.0}


def test_without_a_grid_there_is_nothing_to_replay_over(shell: Callable) -> None:
    (shell.folder / "trace.jsonl").write_text(lines(1))
    ran = shell("replay", "run", "trace.jsonl")
    assert (ran.code, ran.out) == (4, "")
    assert "gridctl init" in ran.err


def test_warmup_says_where_compiled_code_is(gridctl: Callable) -> None:
    ran = gridctl("warmup")
    assert (ran.code, ran.out) == (0, "")
    assert f"compiled code is in {KERNELS}" in ran.err
