"""Two ways to each number: the tables', and sums or percentiles of columns, over random runs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gridctl.accounts.columns import Quantile
from gridctl.accounts.measures import PROMISES, Measures
from gridctl.accounts.percentiles import nearest_rank
from gridctl.accounts.sla import sla
from gridctl.accounts.tokenomics import tokenomics
from gridctl.resources.gate import METRICS

REQUESTS = st.fixed_dictionaries(
    {
        "engine": st.integers(0, 1),
        "workload": st.integers(0, 1),
        "outcome": st.sampled_from(("completed", "completed", "completed", "rejected", "failed")),
        "input_tokens": st.integers(1, 5000),
        "cached_tokens": st.integers(0, 1),
        "output_tokens": st.integers(1, 400),
        "queue_ms": st.integers(0, 900),
        "compute_ms": st.integers(1, 400),
        "decode_ms": st.integers(0, 9000),
        "gpu_ns": st.integers(0, 10**9),
        "preemptions": st.integers(0, 2),
    }
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(st.lists(REQUESTS, min_size=1, max_size=30))
def test_columns_and_tables_agree_on_every_metric(
    make_run: Callable, make_engine: Callable, make_workload: Callable, requests: list
) -> None:
    engines = [make_engine(gpus=2, usd_per_gpu_hour=3.0, busy_watts=300.0, idle_watts=80.0), make_engine(tier="edge")]
    specs = {
        "voice": make_workload(("ttft_ms", 500.0), ("tpot_ms", 30.0)),
        "batch": make_workload(("e2e_ms", 5000.0), attainment=0.9),
    }
    run = make_run(requests, engines=engines, workloads=specs, window_s=60.0)
    measures = Measures(run)
    members = measures.members({})
    for metric in METRICS:
        column = measures.column_of(metric)
        value = measures.reading(metric, {}).value
        if column is None:
            continue
        if isinstance(column, Quantile):
            chosen = np.sort(column.values[members][column.applies[members]])
            again = chosen[nearest_rank(len(chosen), column.percentile) - 1] / 1e6 if len(chosen) else None
        else:
            below = column.per if column.denominator is None else column.denominator.sum()
            again = column.numerator.sum() / below if below else None
            if metric == "budget_left_share":
                again = None if again is None else 1 - again
        # Idle GPUs of a tier that served nobody are no request's: then the table's dollars are more than the columns'.
        busy = {engines[one["engine"]].tier for one in requests if one["gpu_ns"]}
        if "usd" in metric and "core" not in busy:
            continue
        if metric.startswith("energy") and "core" not in busy:
            continue
        assert (value is None) == (again is None), metric
        assert value is None or value == pytest.approx(again), metric


def test_scoped_numbers_are_those_of_the_tables_rows(
    make_run: Callable, make_engine: Callable, make_workload: Callable
) -> None:
    source = np.random.default_rng(1)
    engines = [
        make_engine(tier="edge", gpus=1, usd_per_gpu_hour=2.0),
        make_engine(gpus=4, usd_per_gpu_hour=3.0),
        make_engine(tier="metro", gpus=2, usd_per_gpu_hour=9.0),
    ]
    specs = {"voice": make_workload(("ttft_ms", 500.0)), "batch": make_workload(("e2e_ms", 5000.0))}
    requests = [
        {
            "engine": int(source.integers(0, 2)), "workload": int(source.integers(0, 2)), "gpu_ns": 10**8,
            "input_tokens": 100, "output_tokens": 10, "queue_ms": int(source.integers(0, 1000)), "decode_ms": 50,
        }
        for _ in range(200)
    ]  # fmt: skip
    run = make_run(requests, engines=engines, workloads=specs, window_s=50.0)
    measures = Measures(run)
    table = tokenomics(run)
    for row, scope in [
        (table.total, {}),
        *((row, {"workload": row.workload}) for row in table.workloads if row.workload != "(idle)"),
        *((row, {"tier": row.tier}) for row in table.tiers if row.workload != "(idle)"),
        *((row, {"workload": row.workload, "tier": row.tier}) for row in table.rows if row.workload != "(idle)"),
    ]:
        for metric in ("usd", "usd_per_mtok", "gpus", "gpu_utilization", "attainment", "goodput_tok_s_per_gpu"):
            assert measures.reading(metric, scope).value == getattr(row, metric), (scope, metric)
        assert measures.reading("ttft_ms.p95", scope).value == row.ttft_p95_ms
        assert measures.reading("e2e_ms.p99", scope).value == row.e2e_p99_ms
    promised = sla(run, ["workload"]).workloads
    for word in PROMISES:
        status = word.removeprefix("promises_")
        assert measures.reading(word, {}).value == sum(row.status == status for row in promised)
