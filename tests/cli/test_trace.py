"""`gridctl trace` as its users run it: exit code, stdout and stderr apart."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

AZURE = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    "2023-11-16 18:15:46.0000000,374,44\n"
    "2023-11-16 18:15:47.0000001,396,109\n"
    "2023-11-16 18:15:49.0000000,7,0\n"
)
MOONCAKE = (
    '{"timestamp": 0, "input_length": 1024, "output_length": 5, "hash_ids": [1, 2]}\n'
    '{"timestamp": 500, "input_length": 1024, "output_length": 5, "hash_ids": [1, 3]}\n'
)


def gridctl(*arguments: str, cwd: Path, data: str | None = None) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[2]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GRIDCTL_")}
    environment |= {"PYTHONPATH": str(root), "XDG_CONFIG_HOME": str(cwd / "config"), "HOME": str(cwd)}
    return subprocess.run(
        [sys.executable, "-m", "gridctl", "trace", *arguments],
        cwd=cwd,
        env=environment,
        input=data,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def azure(tmp_path: Path) -> Path:
    path = tmp_path / "azure.csv"
    path.write_text(AZURE)
    return path


def test_stat_prints_figures_and_says_notes_apart(azure: Path) -> None:
    done = gridctl("stat", "azure.csv", cwd=azure.parent)
    assert done.returncode == 0
    assert "0.67 /s" in done.stdout  # 2 gaps over 3 s
    assert "1 requests generated 0 tokens" in done.stderr
    assert "note" not in done.stdout


def test_stat_json_has_units_in_its_keys(tmp_path: Path) -> None:
    done = gridctl("stat", "-", "-o", "json", cwd=tmp_path, data=MOONCAKE)
    figures = json.loads(done.stdout)
    assert (figures["apiVersion"], figures["kind"]) == ("gridctl/v1", "TraceStatistics")
    assert figures["reused_share"] == 0.25  # 512 of 2048 prompt tokens
    assert figures["duration_s"] == 0.5
    assert figures["input_length_tokens"]["p50"] == 1024
    assert figures["top_blocks"] == [{"id": 1, "requests": 2}]


def test_the_real_trace_prints_its_reuse(tmp_path: Path) -> None:
    root = Path(os.environ.get("GRIDCTL_DATA_DIR") or Path(__file__).parents[2].parent / "shared" / "data")
    path = root / "traces" / "mooncake_conversation_trace.first-half.jsonl.gz"
    if not path.exists():
        pytest.skip("the real traces are not here")
    assert "34.65 %" in gridctl("stat", str(path), cwd=tmp_path).stdout


def test_head_shows_requests_as_csv(tmp_path: Path) -> None:
    done = gridctl("head", "-", "-n", "1", "-o", "csv", cwd=tmp_path, data=MOONCAKE)
    (row,) = csv.DictReader(io.StringIO(done.stdout))
    assert (row["id"], row["input_tokens"], row["blocks"]) == ("0", "1024", "2")


def test_convert_cuts_speeds_up_and_compresses(azure: Path) -> None:
    done = gridctl("convert", "azure.csv", "out.jsonl.gz", "--from", "1", "--speed", "2", cwd=azure.parent)
    assert (done.returncode, done.stdout) == (0, "")
    assert "wrote 2 requests" in done.stderr
    header, *rows = gzip.decompress((azure.parent / "out.jsonl.gz").read_bytes()).decode().splitlines()
    assert json.loads(header)["gridctl_trace"] == "v1"
    assert [json.loads(row)["timestamp"] for row in rows] == [0, 999.99995]


def test_convert_to_mooncake_says_what_is_lost(tmp_path: Path) -> None:
    source = '{"timestamp":0,"input_length":9,"output_length":5,"session_id":"a","origin":"paris"}\n'
    done = gridctl("convert", "-", "-", "--to", "mooncake", cwd=tmp_path, data=source)
    assert done.stdout == '{"timestamp":0,"input_length":9,"output_length":5,"hash_ids":[]}\n'
    assert "does not hold: origin, session" in done.stderr


@pytest.mark.parametrize(
    ("data", "arguments", "code", "message"),
    [
        ("a,b\n1,2\n", ("stat", "-"), 3, "CSV of another format"),
        ("", ("stat", "-"), 3, "empty"),
        ("kind: Site\n", ("head", "-"), 3, "manifest"),
        (MOONCAKE + '{"timestamp": 1', ("stat", "-"), 3, "<stdin>:3"),
        (MOONCAKE, ("stat", "nowhere.csv"), 4, "nowhere.csv"),
        (MOONCAKE, ("stat", "-", "--format", "azur"), 2, "azure"),
        (MOONCAKE, ("stat", "-", "-o", "jsn"), 2, "jsn"),
        (MOONCAKE, ("convert", "-", "out.jsonl", "--from", "soon"), 2, "span of time"),
        (MOONCAKE, ("convert", "-", "out.jsonl", "--from", "1h"), 3, "no request"),
        (MOONCAKE, ("convert", "-", "missing/out.jsonl"), 3, "cannot write"),
        ("", ("generate", "out.jsonl", "--duration", "10", "--rate", "-1", "--no-grid"), 2, "--rate"),
        ("", ("generate", "out.jsonl", "--duration", "10", "--rate", "1"), 4, "gridctl init"),
        (MOONCAKE, ("overlay", "-", "out.jsonl"), 4, "gridctl init"),
    ],
)
def test_failures_leave_stdout_empty_and_no_file(
    tmp_path: Path, data: str, arguments: tuple[str, ...], code: int, message: str
) -> None:
    done = gridctl(*arguments, cwd=tmp_path, data=data)
    assert (done.returncode, done.stdout) == (code, "")
    assert message in done.stderr
    assert not (tmp_path / "out.jsonl").exists()


def test_generate_without_a_grid_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    options = ("--duration", "20s", "--rate", "10", "--no-grid", "--turns", "2", "--seed")
    one, two, other = (gridctl("generate", "-", *options, seed, cwd=tmp_path) for seed in ("5", "5", "6"))
    assert one.returncode == 0
    assert one.stdout == two.stdout != other.stdout


def test_overlay_takes_origins_and_workloads_from_the_grid(tmp_path: Path) -> None:
    from gridctl.registry import Registry
    from gridctl.resources import Metadata, Objective, Site, SiteSpec, Workload, WorkloadSpec

    grid = tmp_path / "grid"
    (grid / ".gridctl").mkdir(parents=True)
    (grid / "gridctl.yaml").write_text("")
    spec = WorkloadSpec(objectives=(Objective(metric="ttft_ms", threshold_ms=500.0),), models=("m",), tenants=("acme",))
    with Registry.open(grid / ".gridctl" / "grid.db", create=True) as registry:
        registry.apply(
            [
                Site(
                    metadata=Metadata(name="s1"), spec=SiteSpec(lat=0, lon=0, country="FR", tier="edge", population=9)
                ),
                Workload(metadata=Metadata(name="voice"), spec=spec),
            ],
            cause="test",
        )
    done = gridctl("overlay", "-", "-", cwd=grid, data=MOONCAKE)
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout.splitlines()[1])
    assert (row["origin"], row["workload"], row["tenant"]) == ("s1", "voice", "acme")
