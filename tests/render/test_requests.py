"""Requests as rows: the columns in their order, times only where there are any, every request exactly once."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "grid"))

from smallgrids import api, cluster, deployment, gpu, model, price_book, site, trace, workload

from gridctl.accounts.facts import RunInfo
from gridctl.accounts.rows import Run
from gridctl.errors import NotFoundError
from gridctl.grid.image import build_image
from gridctl.render import requests as module
from gridctl.render.requests import FIELDS, REQUEST_COLUMNS, chosen_rows, csv_pieces, items, jsonl_pieces
from gridctl.replay.replay import replay
from gridctl.resources import PolicySpec

CONTRACT = [
    *("id", "t_ms", "origin", "workload", "tenant", "site", "cluster", "variant", "outcome"),
    *("input_tokens", "cached_tokens", "output_tokens"),
    *("rtt_ms", "queue_ms", "ttft_ms", "tpot_ms", "e2e_ms", "usd"),
]
SERVED, ONE_TOKEN, FULL, TOO_LONG, BOUGHT = range(5)


@pytest.fixture(scope="module")
def run() -> Run:
    """Five requests: one served, one of a single token, one refused by a full queue, one too long, one bought."""
    resources = [
        gpu(),
        model(max_context=150),
        site("paris"),
        cluster("c", "paris", deployment(max_num_seqs=1, max_waiting=0)),
        workload("chat", overhead_ms=35.0, access_rtt_ms=10.0, ttft_ms=60_000.0),
        workload("bought", when_infeasible="fallback", access_rtt_ms=10.0, ttft_ms=60_000.0),
        price_book(api(usd_per_mtok_input=2.0, usd_per_mtok_output=8.0)),
    ]
    asked = trace(
        [
            {"input": 100, "output": 5},
            {"at_ms": 5000.5, "input": 100, "output": 1},
            {"at_ms": 5000.5},
            {"at_ms": 5000.5, "input": 150, "output": 1},
            {"at_ms": 5000.5, "input": 1000, "output": 101, "workload": 1, "tenant": 1},
        ],
        workloads=("chat", "bought"),
        tenants=("acme", 'caffè, "b"'),
    )
    result = replay(build_image(resources), asked, PolicySpec())
    outcomes = [int((result.rows.outcome == code).sum()) for code in range(3)]
    info = RunInfo(
        name="base",
        trace="hand",
        policy="grid",
        algorithm="grid",
        seed=1,
        created_ns=0,
        wall_s=0.0,
        requests=5,
        completed=outcomes[0],
        rejected=outcomes[1],
        failed=outcomes[2],
        input_tokens=0,
        output_tokens=0,
        window_ns=result.window_ns,
        digest="",
        gridctl_version="0",
        engines=result.engines,
        origins=result.origins,
        workloads=result.workloads,
        workload_names=asked.workloads,
        tenant_names=asked.tenants,
    )
    return Run(info, result.rows)


def everything(run: Run) -> list[dict]:
    return items(run, chosen_rows(run, None, None, slowest=False))


def test_the_contract_s_columns_come_first_and_in_order() -> None:
    assert list(FIELDS[: len(CONTRACT)]) == CONTRACT
    assert {column.key for column in REQUEST_COLUMNS} == set(FIELDS)


def test_times_add_up_as_the_client_sees_them(run: Run) -> None:
    row, columns = everything(run)[SERVED], run.rows
    assert row["ttft_ms"] == pytest.approx(row["rtt_ms"] + 35.0 + row["queue_ms"] + columns.compute_ns[0] / 1e6)
    assert row["e2e_ms"] == pytest.approx(row["ttft_ms"] + columns.decode_ns[0] / 1e6)
    assert row["tpot_ms"] == pytest.approx(columns.decode_ns[0] / 4 / 1e6, abs=1e-6)  # five tokens, four gaps
    assert row["usd"] == pytest.approx(columns.gpu_ns[0] / 3.6e12 * 1.0 + 5 * 4 / 1e9 * 0.02)
    assert (row["site"], row["cluster"], row["variant"]) == ("paris", "c", "m/bf16")
    assert (row["t_ms"], everything(run)[ONE_TOKEN]["t_ms"]) == (0.0, 5000.5)


def test_an_answer_of_one_token_has_no_time_per_token(run: Run) -> None:
    row = everything(run)[ONE_TOKEN]
    assert (row["outcome"], row["tpot_ms"], row["output_tokens"]) == ("completed", None, 1)
    assert row["e2e_ms"] == row["ttft_ms"]


@pytest.mark.parametrize(
    ("number", "outcome", "reason"), [(FULL, "rejected", "queue-full"), (TOO_LONG, "failed", "too-long")]
)
def test_who_was_not_served_has_no_place_time_or_cost(run: Run, number: int, outcome: str, reason: str) -> None:
    row = everything(run)[number]
    assert (row["outcome"], row["reason"]) == (outcome, reason)
    assert (row["site"], row["cluster"], row["variant"]) == ("", "", "")
    assert [row[key] for key in ("rtt_ms", "queue_ms", "ttft_ms", "tpot_ms", "e2e_ms")] == [None] * 5
    assert (row["usd"], row["output_tokens"], row["cached_tokens"]) == (0.0, 0, 0)


def test_what_the_api_served_costs_its_list_price(run: Run) -> None:
    row = everything(run)[BOUGHT]
    assert (row["site"], row["variant"], row["rtt_ms"]) == ("", "m/api", 10.0)
    assert row["usd"] == pytest.approx((1000 * 2.0 + 101 * 8.0) / 1e6)


def test_csv_and_json_lines_say_the_same(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PIECE_ROWS", 2)
    numbers = chosen_rows(run, None, None, slowest=False)
    table = list(csv.DictReader(io.StringIO("".join(csv_pieces(run, numbers)))))
    lines = [json.loads(line) for line in "".join(jsonl_pieces(run, numbers)).splitlines()]
    assert len(table) == len(lines) == 5
    for cells, line in zip(table, lines, strict=True):
        assert list(cells) == list(line) == list(FIELDS)
        assert cells == {key: "" if value is None else str(value) for key, value in line.items()}
    assert table[BOUGHT]["tenant"] == 'caffè, "b"'


def test_names_from_a_trace_cannot_become_formulas_or_move_the_cursor(run: Run) -> None:
    renamed = Run(msgspec.structs.replace(run.info, tenant_names=("=HYPERLINK(1)", "a\x1b[2J")), run.rows)
    table = list(csv.DictReader(io.StringIO("".join(csv_pieces(renamed, chosen_rows(run, None, None, slowest=False))))))
    assert table[SERVED]["tenant"] == "'=HYPERLINK(1)"
    assert table[BOUGHT]["tenant"].isprintable()


def test_filters_choose_and_an_empty_choice_is_a_header(run: Run) -> None:
    assert chosen_rows(run, "bought", None, slowest=False).tolist() == [BOUGHT]
    assert chosen_rows(run, "chat", "completed", slowest=False).tolist() == [SERVED, ONE_TOKEN]
    nobody = chosen_rows(run, "bought", "failed", slowest=False)
    assert "".join(csv_pieces(run, nobody)) == ",".join(FIELDS) + "\n"
    assert "".join(jsonl_pieces(run, nobody)) == ""


def test_the_slowest_come_first_and_the_unserved_before_them(run: Run) -> None:
    numbers = chosen_rows(run, None, None, slowest=True).tolist()
    assert sorted(numbers[:2]) == [FULL, TOO_LONG]
    ttft = [everything(run)[number]["ttft_ms"] for number in numbers[2:]]
    assert ttft == sorted(ttft, reverse=True)
    assert numbers[2] == BOUGHT  # 800 ms to its first token


def test_a_workload_the_run_does_not_have_is_not_found(run: Run) -> None:
    with pytest.raises(NotFoundError) as raised:
        chosen_rows(run, "chatt", None, slowest=False)
    assert raised.value.fix == "did you mean chat?"


def test_a_tenant_the_trace_left_unsaid_is_empty(run: Run) -> None:
    rows = dataclasses.replace(run.rows, tenant=np.full(5, -1, np.int32))
    assert {row["tenant"] for row in everything(Run(run.info, rows))} == {""}
