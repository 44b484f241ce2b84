"""`gridctl tokenomics` and `gridctl sla`: what they print, where, and how they refuse."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import get_args

import msgspec
import numpy as np
import pytest

from gridctl.accounts.facts import EngineFacts, Origin, RunInfo
from gridctl.accounts.goodness import CAUSES
from gridctl.accounts.rows import Run, RunRows
from gridctl.accounts.tables import SlaRow, Status, TokenomicsRow
from gridctl.cli import sla as sla_command
from gridctl.cli import tokenomics as tokenomics_command
from gridctl.errors import NotFoundError, UsageError
from gridctl.resources import Objective, WorkloadSpec

MS = 1_000_000
HOUR_NS = 3_600_000 * MS


def made(name: str, usd_per_gpu_hour: float, centralized: str = "") -> Run:
    """One GPU for an hour, two requests: `voice` good, `batch` late by its queue; a third refused."""
    n = 3

    def column(*values: int, kind: type = np.int64) -> np.ndarray:
        return np.array(values or (0,) * n, dtype=kind)

    rows = RunRows(
        arrival_ns=column(),
        origin=column(0, 1, 1, kind=np.int32),
        workload=column(1, 0, 0, kind=np.int32),
        tenant=column(kind=np.int32),
        engine=column(0, 0, -1, kind=np.int32),
        outcome=column(0, 0, 1, kind=np.int8),
        reason=column(0, 0, 5, kind=np.int8),
        input_tokens=column(600_000, 300_000, 7),
        cached_tokens=column(),
        output_tokens=column(60_000, 40_000, 9),
        rtt_ns=column(),
        queue_ns=column(0, 2_000 * MS, 0),
        compute_ns=column(100 * MS, 100 * MS, 0),
        decode_ns=column(),
        preemptions=column(kind=np.int32),
        gpu_ns=column(HOUR_NS // 2, HOUR_NS // 4, 0),
        serverless_ns=column(),
    )
    objectives = (Objective(metric="ttft_ms", threshold_ms=500.0),)
    engine = EngineFacts(
        kind="gpu",
        cluster="c",
        site="fr-paris-01",
        tier="edge",
        region="EU",
        model="llama",
        variant="fp8",
        gpus=1,
        usd_per_gpu_hour=usd_per_gpu_hour,
    )
    info = RunInfo(
        name=name,
        trace="hand",
        policy="default",
        algorithm="grid",
        seed=1,
        created_ns=0,
        wall_s=0.0,
        requests=n,
        completed=2,
        rejected=1,
        failed=0,
        input_tokens=0,
        output_tokens=0,
        window_ns=HOUR_NS,
        digest="",
        gridctl_version="0",
        engines=(engine,),
        origins=(
            Origin(name="paris", country="FR", region="EU", jurisdiction="EU"),
            Origin(name="boston", country="US", region="NA", jurisdiction="US"),
        ),
        workloads={name_: WorkloadSpec(objectives=objectives, models=("llama",)) for name_ in ("batch", "voice")},
        workload_names=("batch", "voice"),
        tenant_names=("acme",),
        centralized=centralized,
    )
    return Run(info=info, rows=rows)


@pytest.fixture(autouse=True)
def stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store of two runs: `base`, and the centralised `base-central` at twice the price; `alone` has no such run."""
    runs = {
        "base": made("base", 1.0, "base-central"),
        "base-central": made("base-central", 2.0),
        "alone": made("alone", 1.0),
        "orphan": made("orphan", 1.0, "deleted"),
    }

    def load_run(name: str) -> Run:
        if name not in runs:
            raise NotFoundError(f"no run {name!r}")
        return runs[name]

    module = ModuleType("gridctl.orchestrator.runs")
    module.load_run = load_run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "gridctl.orchestrator.runs", module)
    monkeypatch.setattr("gridctl.orchestrator.context.current_grid", lambda: None)
    monkeypatch.setattr("gridctl.orchestrator.plan.load_ensemble", lambda info, home: None)


def test_tokenomics_table_sets_grid_and_centralised_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    tokenomics_command.command("base")
    out, err = capsys.readouterr()
    (cost,) = [line for line in out.splitlines() if line.startswith("$ per M tokens, all")]
    assert cost.split()[-3:] == ["1.00", "2.00", "50.0%"]  # one dollar for a million tokens, against two
    assert err == ""


def test_every_default_table_fits_120_columns(capsys: pytest.CaptureFixture[str]) -> None:
    tokenomics_command.command("base")
    sla_command.command("base")
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 120


def test_tokenomics_rows_carry_subtotals_and_the_total(capsys: pytest.CaptureFixture[str]) -> None:
    tokenomics_command.command("base")
    lines = [line.split() for line in capsys.readouterr().out.split("WORKLOAD")[1].splitlines()[1:]]
    assert [tuple(line[:4]) for line in lines] == [
        ("batch", "-", "-", "1"),
        ("batch", "edge", "llama/fp8", "1"),
        ("batch", "*", "*", "2"),
        ("voice", "edge", "llama/fp8", "1"),
        ("*", "-", "*", "1"),
        ("*", "edge", "*", "2"),
        ("*", "*", "*", "3"),
    ]


def test_tokenomics_json_is_one_object_with_units_in_its_keys(capsys: pytest.CaptureFixture[str]) -> None:
    tokenomics_command.command("base", output="json")
    document = json.loads(capsys.readouterr().out)
    assert (document["apiVersion"], document["kind"], document["run"]) == ("gridctl/v1", "Tokenomics", "base")
    assert document["total"]["usd_per_mtok"] == pytest.approx(1.0)
    assert document["centralized"]["total"]["usd"] == pytest.approx(2.0)
    assert document["comparison"][0]["workload"] == "*"
    assert sum(row["requests"] for row in document["items"]) == 3
    assert document["items"][0]["ttft_p99_ms"] is None  # the refused request


def test_csv_holds_every_column_and_only_the_finest_rows(capsys: pytest.CaptureFixture[str]) -> None:
    tokenomics_command.command("base", output="csv")
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert sum(float(row["usd"]) for row in rows) == pytest.approx(1.0)
    assert {"gpu_idle_usd", "tpot_p95_ms", "goodput_tok_s_per_gpu"} <= rows[0].keys()


def test_one_workload_is_compared_with_itself(capsys: pytest.CaptureFixture[str]) -> None:
    tokenomics_command.command("base", workload="voice", by="tier", output="json")
    document = json.loads(capsys.readouterr().out)
    assert {row["workload"] for row in document["items"]} == {"voice"}
    assert [part["workload"] for part in document["comparison"]] == ["voice"]
    assert document["total"]["requests"] == 1


def test_run_without_a_centralised_one_says_so_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    for name, said in (("alone", "no centralised alternative"), ("orphan", "deleted was deleted")):
        tokenomics_command.command(name, output="json")
        out, err = capsys.readouterr()
        assert json.loads(out)["centralized"] is None
        assert said in err


def test_any_run_may_be_compared_with_any_other(capsys: pytest.CaptureFixture[str]) -> None:
    tokenomics_command.command("base-central", against="alone", output="json")
    saved = {part["metric"]: part for part in json.loads(capsys.readouterr().out)["comparison"][0]["differences"]}
    assert saved["usd"]["saving_share"] == pytest.approx(-1.0)


def test_sla_prints_pooled_rows_then_regions_then_the_worst_site(capsys: pytest.CaptureFixture[str]) -> None:
    sla_command.command("base")
    out, err = capsys.readouterr()
    headline, pooled, finer, sites = out.split("\n\n")
    assert headline == ("run base: 1 of 3 requests good (33.3%), availability 66.7%; bad: queue 1, rejected 1")
    assert [line.split()[0] for line in pooled.splitlines()[1:]] == ["batch"] * 3 + ["voice"] * 3
    assert finer.splitlines()[1].split()[:3] == ["batch", "acme", "NA"]
    assert [line.split()[0] for line in sites.splitlines()[1:]] == ["-", "fr-paris-01"]
    assert "undecided" in err


def test_sla_by_workload_has_no_finer_rows(capsys: pytest.CaptureFixture[str]) -> None:
    sla_command.command("base", by="workload", worst=0)
    assert len(capsys.readouterr().out.split("\n\n")) == 2


def test_sla_json_names_causes_and_null_for_what_was_never_served(capsys: pytest.CaptureFixture[str]) -> None:
    sla_command.command("base", workload="batch", output="json")
    document = json.loads(capsys.readouterr().out)
    row = document["items"][0]
    assert (document["kind"], row["objective"], row["target"]) == ("Sla", "ttft_ms ≤ 500", 0.99)
    assert (row["observed_ms"], row["observed_unserved"], row["status"]) == (None, True, "missed")
    assert row["causes"] == {"queue": 1, "rejected": 1}
    assert [site["site"] for site in document["worst_sites"]] == ["-", "fr-paris-01"]


@pytest.mark.parametrize("output", ["wide", "markdown", "yaml", "jsonl", "csv", "name"])
def test_both_commands_print_every_format(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (tokenomics_command.command, sla_command.command):
        command("base", output=output)
        assert "batch" in capsys.readouterr().out


@pytest.mark.parametrize("command", [tokenomics_command.command, sla_command.command])
def test_unknown_words_are_refused_before_anything_is_printed(command, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(NotFoundError) as raised:
        command("base", workload="voise")
    assert "voice" in (raised.value.fix or "")
    with pytest.raises(UsageError):
        command("base", by="workload,colour")
    with pytest.raises(UsageError):
        command("base", output="tabel")
    with pytest.raises(NotFoundError):
        command("bsae")
    assert capsys.readouterr().out == ""


def test_latest_run_is_meant_when_none_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    latest: list[str | None] = ["base", None]
    grid = SimpleNamespace(open_runs=lambda: SimpleNamespace(latest=lambda: latest.pop(0)))
    monkeypatch.setattr("gridctl.orchestrator.context.current_grid", lambda: grid)
    sla_command.command(None)
    assert capsys.readouterr().out.startswith("run base:")
    with pytest.raises(NotFoundError, match="no runs yet"):
        sla_command.command(None)


@pytest.mark.parametrize(("topic", "table"), [("tokenomics", TokenomicsRow), ("sla", SlaRow)])
def test_topic_defines_every_number_and_invents_none(topic: str, table: type[msgspec.Struct]) -> None:
    text = (Path(sla_command.__file__).parent.parent / "topics" / f"{topic}.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`([a-z0-9_N…]+)`", row)}
    fields = {field.name for field in msgspec.structs.fields(table)}
    patterns = [re.compile(name.replace("NN", r"\d\d").replace("…", r"\w+")) for name in named]
    words = {"workload", "tier", "variant", "tenant", "region", "objective", "target", "percentile", "threshold_ms"}
    outcomes = {"completed", "rejected", "failed", "good", "bad", "requests", "observed_unserved", "requests_to_bound"}
    undefined = {name for name in fields if not any(pattern.fullmatch(name) for pattern in patterns)}
    assert undefined <= words | outcomes
    labels = {"valid", "left", *CAUSES, *get_args(Status)}
    assert [p.pattern for p in patterns if not any(p.fullmatch(name) for name in fields | labels)] == []
