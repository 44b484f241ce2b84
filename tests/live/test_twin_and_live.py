"""The central promise: what the replay says of a trace is what the orchestrator does with it.

One trace, twice: replayed in virtual time, then sent in real time to `gridctl up` before two mock engines that keep the
times of the same profile. The round trips between origin and site, which loopback has not, are added to the live
answers by the same model that the replay draws them from.
"""

from __future__ import annotations

import contextlib
import csv
import io
from pathlib import Path
from typing import Any

import pytest
from livegrid import write_grid
from liveprograms import MockEngine, Orchestrator, apply_grid, free_port, gridctl

ALIKE = 0.1
"""Share of decisions that may differ: where two sites cost nearly the same, milliseconds of queue decide."""
PROFILE = "rtx-pro-6000.llama-3.1-8b.bf16.tp1"
SITES = ("paris", "madrid")
CLOSE = 0.05
"""How far means may be apart. The time to the first token is some 130 ms here, the way through three processes 3 ms."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The grid's folder, with the runs `twin` and `live` of one trace in it."""
    folder = tmp_path_factory.mktemp("twin")
    store, trace, ports = folder / "store", folder / "trace.jsonl", {site: free_port() for site in SITES}
    (folder / "grid").mkdir()
    urls = {site: [f"http://127.0.0.1:{port}"] for site, port in ports.items()}
    write_grid(folder / "grid" / "grid.yaml", urls, profile=PROFILE)
    apply_grid(store, folder / "grid")
    shape = ["--duration", "20s", "--rate", "5", "--input-tokens", "2000", "--output-tokens", "60", "--seed", "5"]
    said(store, "trace", "generate", str(trace), *shape)
    said(store, "replay", "run", str(trace), "--name", "twin", "--no-centralized")
    with contextlib.ExitStack() as stack:
        for site, port in ports.items():
            options = ("--cluster", f"{site}-gpus", "--model-name", "tiny")
            engine = MockEngine.start_mock(folder / f"{site}.log", *options, port=port, store=store)
            stack.callback(engine.end)
        orchestrator = Orchestrator.start(folder, store, "--record", str(folder / "recording"))
        stack.callback(orchestrator.end)
        orchestrator.wait_until_ready()
        said(store, "replay", "run", str(trace), "--name", "live", "--live", orchestrator.url)
    return store


def said(store: Path, *arguments: str) -> str:
    """What a command prints; it has to succeed."""
    done = gridctl(*arguments, store=store)
    assert done.returncode == 0, done.stderr
    return done.stdout


def rows(store: Path, run: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(said(store, "replay", "requests", run, "-o", "csv"))))


def mean(found: list[dict[str, str]], column: str) -> float:
    values = [float(row[column]) for row in found if row[column]]
    return sum(values) / len(values)


@pytest.mark.slow
def test_every_request_is_answered_in_both(runs: Path) -> None:
    twin, live = rows(runs, "twin"), rows(runs, "live")
    assert len(twin) == len(live) > 80
    assert {row["outcome"] for row in (*twin, *live)} == {"completed"}
    for column in ("input_tokens", "output_tokens", "cached_tokens"):
        differing = sum(a[column] != b[column] for a, b in zip(twin, live, strict=True))
        assert differing <= len(twin) * CLOSE, column


@pytest.mark.slow
@pytest.mark.parametrize("column", ["ttft_ms", "tpot_ms", "e2e_ms"])
def test_mean_times_are_within_five_percent(runs: Path, column: str) -> None:
    twin, live = mean(rows(runs, "twin"), column), mean(rows(runs, "live"), column)
    assert live == pytest.approx(twin, rel=CLOSE)


@pytest.mark.slow
def test_decisions_are_alike(runs: Path) -> None:
    twin, live = rows(runs, "twin"), rows(runs, "live")
    moved = sum(a["cluster"] != b["cluster"] for a, b in zip(twin, live, strict=True))
    assert moved <= len(twin) * ALIKE
    assert {row["cluster"] for row in live} == {f"{site}-gpus" for site in SITES}


@pytest.mark.slow
def test_compare_puts_them_side_by_side(runs: Path) -> None:
    text = said(runs, "replay", "compare", "twin", "live")
    assert "live against twin: the same requests" in text
    assert "ttft_ms.p50" in text
