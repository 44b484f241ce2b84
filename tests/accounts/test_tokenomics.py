"""Tokens, speed and dollars of tiny runs worked out by hand, and what must hold for every run."""

from __future__ import annotations

import dataclasses
import math

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gridctl.accounts.comparison import compare
from gridctl.accounts.rows import OUTCOMES
from gridctl.accounts.tokenomics import tokenomics, total_row
from gridctl.accounts.usd import ledger, request_usd
from gridctl.errors import UsageError

HOUR_MS = 3_600_000
SUMMED = (
    "requests",
    "completed",
    "rejected",
    "failed",
    "good",
    "input_tokens",
    "served_input_tokens",
    "cached_tokens",
    "output_tokens",
    "good_output_tokens",
)
DOLLARS = ("gpu_busy_usd", "gpu_idle_usd", "serverless_usd", "egress_usd", "fallback_usd", "energy_usd")


@pytest.fixture
def run(make_run, make_workload, make_engine):
    """One hour: two core GPUs at 3.60 $, an edge GPU and an unused one at 1.80 $, functions and the fallback API."""
    engines = (
        make_engine(
            gpus=2,
            usd_per_gpu_hour=3.6,
            busy_watts=700,
            idle_watts=100,
            usd_per_kwh=0.1,
            egress_usd_per_gb=0.02,
        ),
        make_engine(tier="edge", variant="int8", gpus=1, usd_per_gpu_hour=1.8),
        make_engine(kind="unused", tier="edge", model="", variant="", gpus=1, usd_per_gpu_hour=1.8),
        make_engine(kind="serverless", tier="edge", variant="w4", usd_per_serverless_ms=1e-6, egress_usd_per_gb=0.1),
        make_engine(kind="api", tier="api", variant="", usd_per_mtok_input=1.0, usd_per_mtok_output=4.0),
    )
    chat_core = {"input_tokens": 1000, "cached_tokens": 400, "output_tokens": 101, "gpu_ms": 0.5 * HOUR_MS}
    requests = (
        chat_core | {"rtt_ms": 10, "queue_ms": 20, "compute_ms": 70, "decode_ms": 1000},
        {"input_tokens": 500, "output_tokens": 1, "gpu_ms": 0.25 * HOUR_MS, "rtt_ms": 10, "queue_ms": 590},
        {
            "engine": 1,
            "input_tokens": 200,
            "output_tokens": 11,
            "gpu_ms": 0.1 * HOUR_MS,
            "compute_ms": 50,
            "decode_ms": 200,
        },
        {
            "workload": 1,
            "engine": 3,
            "input_tokens": 100,
            "output_tokens": 10,
            "serverless_ms": 1500,
            "compute_ms": 900,
        },
        {"workload": 1, "engine": 4, "input_tokens": 2000, "output_tokens": 1000, "compute_ms": 800},
        {"engine": -1, "outcome": "rejected", "input_tokens": 300, "output_tokens": 77},
    )
    workloads = {"chat": make_workload(("ttft_ms", 500)), "batch": make_workload(("ttft_ms", 10_000))}
    return make_run(requests, engines=engines, workloads=workloads, window_s=3600)


def row(run, workload: str, tier: str):
    (found,) = [row for row in tokenomics(run).rows if (row.workload, row.tier) == (workload, tier)]
    return found


def test_total_counts_requests_and_tokens(run) -> None:
    total = total_row(run)
    assert (total.requests, total.completed, total.rejected, total.failed, total.good) == (6, 5, 1, 0, 4)
    assert (total.input_tokens, total.served_input_tokens, total.cached_tokens) == (4100, 3800, 400)
    assert (total.output_tokens, total.good_output_tokens) == (1123, 1122)
    assert total.attainment == pytest.approx(4 / 6)
    assert total.prefix_cache_share == pytest.approx(400 / 3800)


def test_total_dollars_hold_idle_and_unused_gpus(run) -> None:
    total = total_row(run)
    assert total.gpu_busy_usd == pytest.approx(0.75 * 3.6 + 0.1 * 1.8)
    assert total.gpu_idle_usd == pytest.approx(1.25 * 3.6 + 0.9 * 1.8 + 1.0 * 1.8)
    assert total.gpu_busy_usd + total.gpu_idle_usd == pytest.approx(10.8)  # 2 × 3.60 + 2 × 1.80 for one hour
    assert total.serverless_usd == pytest.approx(0.0015)
    assert total.egress_usd == pytest.approx(102 * 4 * 0.02e-9 + 10 * 4 * 0.1e-9)
    assert total.fallback_usd == pytest.approx(0.002 + 0.004)
    assert total.energy_kwh == pytest.approx(0.75 * 0.7 + 1.25 * 0.1)
    assert total.energy_usd == pytest.approx(0.065)
    assert total.usd == pytest.approx(10.8 + 0.0015 + 0.006 + 0.065 + 1.216e-8, rel=1e-12)


def test_dollars_per_million_tokens_divide_by_what_was_served(run) -> None:
    total = total_row(run)
    assert total.usd_per_mtok == pytest.approx(total.usd / 4923 * 1e6)  # 3800 in + 1123 out; the refused 300 do not
    assert total.usd_per_mtok_output == pytest.approx(total.usd / 1123 * 1e6)
    assert total.usd_per_mtok_goodput == pytest.approx(total.usd / 1122 * 1e6)


def test_rates_divide_by_the_window_and_by_owned_gpus(run) -> None:
    total = total_row(run)
    assert total.throughput_tok_s == pytest.approx(1123 / 3600)
    assert total.goodput_tok_s == pytest.approx(1122 / 3600)
    assert (total.throughput_rps, total.goodput_rps) == (pytest.approx(5 / 3600), pytest.approx(4 / 3600))
    assert total.gpus == 4
    assert total.throughput_tok_s_per_gpu == pytest.approx((101 + 1 + 11) / 3600 / 4)  # not functions, not the API
    assert total.goodput_tok_s_per_gpu == pytest.approx((101 + 11) / 3600 / 4)
    assert total.gpu_utilization == pytest.approx(0.85 / 4)


def test_how_busy_the_gpus_of_a_live_run_were_is_unknown_and_not_a_guess(run) -> None:
    live = dataclasses.replace(run, info=msgspec.structs.replace(run.info, live="http://127.0.0.1:8080"))
    total = total_row(live)
    assert total.gpu_utilization is None
    assert row(live, "chat", "core").gpu_utilization is None
    assert total.usd == total_row(run).usd


def test_row_holds_its_own_latencies_and_gpus(run) -> None:
    core = row(run, "chat", "core")
    assert core.variant == "m/fp8"
    assert (core.ttft_p50_ms, core.ttft_p95_ms, core.ttft_p99_ms) == (100.0, 600.0, 600.0)
    assert (core.tpot_p50_ms, core.tpot_p99_ms) == (10.0, 10.0)  # the answer of one token has no TPOT
    assert (core.e2e_p50_ms, core.e2e_p99_ms) == (600.0, 1100.0)
    assert (core.gpus, core.gpu_utilization) == (2, pytest.approx(0.375))
    edge = row(run, "chat", "edge")
    assert (edge.gpus, edge.gpu_utilization, edge.gpu_idle_usd) == (1, pytest.approx(0.1), pytest.approx(3.42))


def test_serverless_and_api_rows_cost_no_gpu(run) -> None:
    functions, api = row(run, "batch", "edge"), row(run, "batch", "api")
    assert (functions.variant, functions.gpus, functions.gpu_utilization) == ("m/w4", 0, None)
    assert functions.usd == pytest.approx(0.0015 + 4e-9)
    assert (api.variant, api.usd, api.gpus) == ("m", pytest.approx(0.006), 0)
    assert api.usd_per_mtok == pytest.approx(0.006 / 3000 * 1e6)


def test_rejected_requests_stand_in_a_row_of_their_own_and_cost_nothing(run) -> None:
    refused = row(run, "chat", "-")
    assert (refused.variant, refused.requests, refused.rejected) == ("-", 1, 1)
    assert (refused.input_tokens, refused.output_tokens, refused.usd) == (300, 0, 0.0)
    assert (refused.ttft_p50_ms, refused.usd_per_mtok, refused.prefix_cache_share) == (None, None, None)


def test_tier_subtotal_counts_its_unused_gpus(run) -> None:
    gpus = {tier.tier: tier.gpus for tier in tokenomics(run).tiers}
    assert gpus == {"core": 2, "edge": 2, "api": 0, "-": 0}


def test_workload_subtotals_split_the_total(run) -> None:
    chat, batch = sorted(tokenomics(run).workloads, key=lambda subtotal: -subtotal.requests)
    assert (chat.workload, chat.requests, batch.workload, batch.requests) == ("chat", 4, "batch", 2)
    assert chat.usd == pytest.approx(10.8 + 0.065 + 102 * 4 * 0.02e-9)
    assert batch.usd == pytest.approx(0.0075 + 4e-9)


def test_idle_dollars_of_a_tier_follow_gpu_time(make_run, make_engine, make_workload) -> None:
    engines = (make_engine(gpus=1, usd_per_gpu_hour=10.0), make_engine(gpus=1, usd_per_gpu_hour=2.0))
    requests = ({"gpu_ms": 0.3 * HOUR_MS}, {"workload": 1, "engine": 1, "gpu_ms": 0.1 * HOUR_MS})
    workloads = {"a": make_workload(("ttft_ms", 1)), "b": make_workload(("ttft_ms", 1))}
    a, b = tokenomics(make_run(requests, engines=engines, workloads=workloads, window_s=3600)).workloads
    idle = 0.7 * 10 + 0.9 * 2
    assert (a.gpu_idle_usd, b.gpu_idle_usd) == (pytest.approx(idle * 0.75), pytest.approx(idle * 0.25))


def test_tier_that_served_nothing_has_an_idle_row(make_run, make_engine) -> None:
    engines = (
        make_engine(gpus=1, usd_per_gpu_hour=2.0),
        make_engine(tier="edge", gpus=4, usd_per_gpu_hour=1.0, busy_watts=50, idle_watts=25, usd_per_kwh=0.2),
    )
    table = tokenomics(make_run([{"gpu_ms": HOUR_MS, "output_tokens": 5}], engines=engines, window_s=3600))
    (idle,) = [row for row in table.rows if row.workload == "(idle)"]
    assert (idle.tier, idle.variant, idle.requests, idle.gpus, idle.gpu_utilization) == ("edge", "-", 0, 4, 0.0)
    assert (idle.gpu_idle_usd, idle.energy_kwh, idle.energy_usd) == (4.0, pytest.approx(0.1), pytest.approx(0.02))
    assert table.total.usd == pytest.approx(2.0 + 4.0 + 0.02)


def test_energy_is_unknown_not_zero_where_no_watts_are_stated(make_run, make_engine) -> None:
    run = make_run([{"gpu_ms": 10}], engines=(make_engine(gpus=1),))
    assert total_row(run).energy_kwh is None


def test_failed_request_burns_gpu_but_serves_no_token(make_run, make_engine) -> None:
    request = {"outcome": "failed", "gpu_ms": 0.5 * HOUR_MS, "output_tokens": 9, "input_tokens": 3}
    total = total_row(make_run([request], engines=(make_engine(gpus=1, usd_per_gpu_hour=2.0),), window_s=3600))
    assert (total.failed, total.output_tokens, total.served_input_tokens) == (1, 0, 0)
    assert (total.gpu_busy_usd, total.usd_per_mtok) == (1.0, None)


def test_request_usd_is_busy_gpu_serverless_egress_and_fallback(run) -> None:
    wanted = [0.5 * 3.6 + 101 * 4 * 0.02e-9, 0.25 * 3.6 + 4 * 0.02e-9, 0.18, 0.0015 + 4e-9, 0.006, 0.0]
    assert request_usd(run).tolist() == pytest.approx(wanted)


def test_empty_run_has_idle_dollars_and_no_quotients(make_run, make_engine) -> None:
    table = tokenomics(make_run([], engines=(make_engine(gpus=1, usd_per_gpu_hour=3.0),), window_s=3600))
    assert [row.workload for row in table.rows] == ["(idle)"]
    assert (table.total.usd, table.total.requests, table.total.throughput_tok_s) == (3.0, 0, 0.0)
    assert (table.total.attainment, table.total.usd_per_mtok, table.total.ttft_p50_ms) == (None, None, None)


def test_run_without_engines_or_window_has_a_total(make_run) -> None:
    total = total_row(make_run([], window_s=0))
    assert (total.requests, total.usd, total.throughput_tok_s, total.gpu_utilization) == (0, 0.0, None, None)


def test_rows_may_tell_less_apart(run) -> None:
    rows = tokenomics(run, by=("tier",)).rows
    assert [(row.workload, row.tier, row.variant, row.requests) for row in rows] == [
        ("*", "-", "*", 1),
        ("*", "api", "*", 1),
        ("*", "core", "*", 2),
        ("*", "edge", "*", 2),
    ]


@pytest.mark.parametrize(("by", "fix"), [(("teir",), "tier"), (("tier", "tier"), "--by"), ((), "--by")])
def test_wrong_dimension_is_a_usage_error_with_a_fix(run, by: tuple[str, ...], fix: str) -> None:
    with pytest.raises(UsageError) as raised:
        tokenomics(run, by=by)
    assert fix in (raised.value.fix or "")


def test_comparison_states_saving_as_a_share_of_the_other(make_run, make_engine) -> None:
    def hourly(name: str, usd: float, output_tokens: int):
        engine = make_engine(gpus=1, usd_per_gpu_hour=usd)
        request = {"gpu_ms": HOUR_MS, "output_tokens": output_tokens, "compute_ms": 100}
        return tokenomics(make_run([request], engines=(engine,), window_s=3600, name=name))

    total, chat = compare(hourly("grid", 3.0, 200), hourly("central", 4.0, 100))
    assert (total.workload, total.run, total.other_run, chat.workload) == ("*", "grid", "central", "chat")
    found = {part.metric: part for part in total.differences}
    assert (found["usd"].value, found["usd"].other, found["usd"].difference) == (3.0, 4.0, -1.0)
    assert found["usd"].saving_share == pytest.approx(0.25)
    assert found["usd_per_mtok_output"].saving_share == pytest.approx(1 - (3 / 200) / (4 / 100))
    assert found["output_tokens"].saving_share is None  # more is not dearer
    assert (found["ttft_p50_ms"].saving_share, found["serverless_usd"].saving_share) == (0.0, None)
    assert found["energy_kwh"].difference is None


REQUESTS = st.lists(
    st.fixed_dictionaries(
        {
            "workload": st.integers(0, 1),
            "engine": st.integers(-1, 4),
            "outcome": st.sampled_from(OUTCOMES),
            "input_tokens": st.integers(1, 5000),
            "output_tokens": st.integers(1, 3000),
            "compute_ms": st.integers(0, 1000),
            "decode_ms": st.integers(0, 1000),
            "gpu_ms": st.integers(0, 10_000),
            "serverless_ms": st.integers(0, 2000),
        }
    ),
    max_size=25,
)


@given(REQUESTS, st.sampled_from([("workload", "tier", "variant"), ("workload",), ("tier",), ("variant",)]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_rows_conserve_requests_tokens_and_dollars(run, make_run, requests, by: tuple[str, ...]) -> None:
    shaped = []
    for request in requests:  # only GPUs spend GPU time
        gpu_ms = request["gpu_ms"] if request["engine"] in (0, 1) else 0
        shaped.append(request | {"gpu_ms": gpu_ms})
    made = make_run(shaped, engines=run.info.engines, workloads=run.info.workloads, window_s=3600)
    table = tokenomics(made, by=by)
    for lines in (table.rows, table.workloads, table.tiers):
        for column in SUMMED:
            assert sum(getattr(row, column) for row in lines) == getattr(table.total, column)
        for column in (*DOLLARS, "usd"):
            assert math.fsum(getattr(row, column) for row in lines) == pytest.approx(getattr(table.total, column))
    total = table.total
    assert total.requests == len(requests) == total.completed + total.rejected + total.failed
    assert total.input_tokens == sum(request["input_tokens"] for request in requests)
    assert total.gpu_busy_usd + total.gpu_idle_usd == pytest.approx(10.8)
    assert sum(request_usd(made)) == pytest.approx(
        total.gpu_busy_usd + total.serverless_usd + total.egress_usd + total.fallback_usd
    )


@given(REQUESTS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_goodput_never_exceeds_throughput(run, make_run, requests) -> None:
    made = make_run(requests, engines=run.info.engines, workloads=run.info.workloads, window_s=3600)
    table = tokenomics(made)
    for row in (*table.rows, *table.workloads, table.total):
        assert row.good <= row.completed
        assert row.goodput_tok_s <= row.throughput_tok_s
        assert row.goodput_rps <= row.throughput_rps


def test_ledger_strands_nothing_where_every_tier_worked(run) -> None:
    assert ledger(run).stranded == ()
