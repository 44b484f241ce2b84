"""Large runs are worked out block by block, on disk: the same tables, bit for bit."""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec
import numpy as np
import pytest

from gridctl.accounts.blocks import blank, blocks
from gridctl.accounts.facts import EngineFacts
from gridctl.accounts.groups import Labels, grouped, labels
from gridctl.accounts.rows import Run
from gridctl.accounts.site_misses import worst_sites
from gridctl.accounts.sla import sla
from gridctl.accounts.tokenomics import tokenomics
from gridctl.resources import Objective, WorkloadSpec


def test_blocks_cover_every_row_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gridctl.accounts.blocks.BLOCK_ROWS", 4)
    assert [(some.start, some.stop) for some in blocks(10)] == [(0, 4), (4, 8), (8, 10)]
    assert list(blocks(0)) == []


def test_a_large_column_lies_in_a_file_and_is_an_ordinary_array(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gridctl.accounts.blocks.LARGE_ROWS", 10)
    column = blank(10, np.int64)
    assert type(column) is np.ndarray
    assert isinstance(column.base, np.memmap)
    assert column.tolist() == [0] * 10
    column[3] = 7
    assert column.sum() == 7
    assert blank(9, np.int64).base is None


def random_run(make_run: Callable[..., Run]) -> Run:
    """Five hundred requests of every outcome over four engines, some of whose tiers serve nobody."""
    draw = random.Random(8)
    facts = {"cluster": "c", "region": "EU", "model": "m", "variant": "bf16", "usd_per_kwh": 0.21, "busy_watts": 600.0}
    engines = [
        EngineFacts(kind=kind, site=f"s{number}", tier=tier, gpus=gpus, usd_per_gpu_hour=1.7 * gpus, **facts)
        for number, (kind, tier, gpus) in enumerate(
            [("gpu", "edge", 1), ("gpu", "core", 4), ("unused", "metro", 2), ("serverless", "edge", 0)]
        )
    ]
    requests = []
    for _ in range(500):
        outcome = draw.choice(["completed", "completed", "completed", "rejected", "failed"])
        requests.append(
            {
                "outcome": outcome,
                "engine": draw.choice([0, 1, 3]) if outcome == "completed" else -1,
                "reason": "" if outcome == "completed" else draw.choice(["outage", "infeasible"]),
                "workload": draw.randint(0, 1),
                "tenant": draw.randint(0, 1),
                "origin": draw.randint(0, 1),
                "input_tokens": draw.randint(1, 4000),
                "output_tokens": draw.randint(1, 300),
                "rtt_ms": draw.uniform(1, 400),
                "queue_ms": draw.uniform(0, 300),
                "compute_ms": draw.uniform(1, 300),
                "decode_ms": draw.uniform(1, 9000),
                "gpu_ms": draw.uniform(0, 700) if outcome == "completed" else 0,
                "serverless_ms": draw.uniform(0, 9),
                "preemptions": draw.randint(0, 1),
            }
        )
    promises = (Objective(metric="ttft_ms", threshold_ms=500.0), Objective(metric="tpot_ms", threshold_ms=30.0))
    spec = WorkloadSpec(objectives=promises, models=("m",), overhead_ms=12.5)
    return make_run(
        requests, engines=engines, workloads={"chat": spec, "code": spec}, tenants=("a", "b"), regions=("EU", "NA")
    )


def test_the_tables_of_a_large_run_are_those_of_a_small_one(
    monkeypatch: pytest.MonkeyPatch, make_run: Callable[..., Run]
) -> None:
    run = random_run(make_run)

    def tables() -> bytes:
        return msgspec.json.encode((tokenomics(run), sla(run), worst_sites(run, 9)))

    expected = tables()
    monkeypatch.setattr("gridctl.accounts.blocks.BLOCK_ROWS", 37)
    monkeypatch.setattr("gridctl.accounts.blocks.LARGE_ROWS", 1)
    assert tables() == expected


@pytest.mark.parametrize("count", [3, 200, 40_000])
def test_groups_hold_every_request_once_in_order_whatever_the_width_of_their_codes(count: int) -> None:
    draw = np.random.default_rng(count)
    listed = [f"n{number:05}" for number in range(count)]
    first = labels(listed, draw.integers(-1, count, 3_000).astype(np.int32))
    second = Labels(("a", "b"), draw.integers(0, 2, 3_000).astype(np.int8))
    groups = grouped([first, second], 3_000)
    assert sorted(np.concatenate([group.members for group in groups]).tolist()) == list(range(3_000))
    assert [group.key for group in groups] == sorted({group.key for group in groups})
    for group in groups:
        assert group.members.tolist() == sorted(group.members.tolist())
        assert {(first.names[first.codes[row]], second.names[second.codes[row]]) for row in group.members} == {
            group.key
        }
