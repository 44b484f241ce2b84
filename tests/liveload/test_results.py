"""Replies as rows: times from the intended moment, dollars as stated, places as told; and when a load is void."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from liveparts import trace_of

from gridctl.accounts.facts import EngineFacts, RunInfo
from gridctl.accounts.rows import Run
from gridctl.accounts.usd import request_usd
from gridctl.liveload.connection import Reply
from gridctl.liveload.heard import Heard
from gridctl.liveload.lag import lag_of
from gridctl.liveload.results import Distances, Results, results_of
from gridctl.resources import Objective, WorkloadSpec
from gridctl.units import NS_PER_MS, NS_PER_S

START = 5_000 * NS_PER_S


def engine(cluster: str, **fields: Any) -> EngineFacts:
    given = {"kind": "gpu", "site": "paris", "tier": "edge", "region": "eu", "model": "m", "variant": "fp8", "gpus": 2,
             "usd_per_gpu_hour": 3.6, **fields}  # fmt: skip
    return EngineFacts(cluster=cluster, **given)


def answered(row: int, sent: float, first: float, last: float, *, tokens: int = 5, **headers: str) -> Reply:
    """A complete answer; moments in milliseconds from the start."""
    reply = Reply(row)
    reply.status = 200
    reply.sent_ns, reply.end_ns = START + round(sent * NS_PER_MS), START + round(last * NS_PER_MS)
    reply.answer.first_ns, reply.answer.last_ns = START + round(first * NS_PER_MS), reply.end_ns
    reply.answer.chunks, reply.answer.is_done = tokens, True
    reply.answer.prompt_tokens, reply.answer.output_tokens, reply.answer.cached_tokens = 8, tokens, 4
    reply.headers = {f"x-gridctl-{name.replace('_', '-')}".encode(): value.encode() for name, value in headers.items()}
    return reply


def heard(replies: list[Reply | None], intended_ms: list[float]) -> Heard:
    intended = np.array([START + round(ms * NS_PER_MS) for ms in intended_ms], np.int64)
    return Heard(replies, intended, START, 1.0, 0, 4, False)


AT_PARIS = {"site": "paris", "cluster": "a", "model_variant": "m/fp8"}


def made(replies: list[Reply | None], arrival_ms: list[float], engines: list[EngineFacts],
         distances: Distances | None = None, **columns: Any) -> Results:  # fmt: skip
    return results_of(heard(replies, arrival_ms), trace_of(arrival_ms, **columns), engines, "m", distances)


def test_times_count_from_the_intended_moment_and_the_network_is_added() -> None:
    distances = Distances(np.array([[7 * NS_PER_MS, 30 * NS_PER_MS]]), ("oslo", "paris"), np.array([2 * NS_PER_MS]))
    columns = {"origin": np.array([0], np.int32), "workload": np.array([0], np.int32)}
    results = made([answered(0, 12, 50, 90, **AT_PARIS)], [10.0], [engine("a")], distances, **columns)
    row = results.rows
    # By hand: first token 50 − 10 = 40 ms after the moment; 30 ms from origin to Paris and 2 ms of last mile.
    assert (row.compute_ns[0], row.decode_ns[0], row.rtt_ns[0], row.queue_ns[0]) == tuple(
        ms * NS_PER_MS for ms in (40, 40, 32, 0)
    )
    assert (row.arrival_ns[0], row.cached_tokens[0], row.output_tokens[0]) == (10 * NS_PER_MS, 4, 5)
    assert results.lag_ns.tolist() == [2 * NS_PER_MS]
    assert results.window_ns == 90 * NS_PER_MS
    measured = made([answered(0, 12, 50, 90, **AT_PARIS)], [10.0], [engine("a")], None, **columns)
    assert measured.rows.rtt_ns[0] == 0


def test_the_accounts_add_up_to_the_dollars_the_gateway_stated() -> None:
    engines = [engine("a", egress_usd_per_gb=50_000.0)]
    results = made([answered(0, 0, 50, 90_000, usd="0.0125", **AT_PARIS)], [0.0], engines)
    assert results.usd_stated == 1
    # Egress of 5 tokens of 4 bytes at 50,000 dollars a GB is 0.001; the rest is 0.0115 / 3.6 hours of a GPU.
    assert results.rows.gpu_ns[0] == pytest.approx(0.0115 / 3.6 * 3600 * NS_PER_S)
    run = Run(info_of(results), results.rows)
    assert request_usd(run)[0] == pytest.approx(0.0125)
    assert results.engines[0].busy_ns == int(results.rows.gpu_ns[0]) // 2


def info_of(results: Results) -> RunInfo:
    return RunInfo(
        name="r", trace="t", policy="live", algorithm="live", seed=1, created_ns=0, wall_s=1.0, requests=1, completed=1,
        rejected=0, failed=0, input_tokens=8, output_tokens=5, window_ns=results.window_ns, digest="",
        engines=results.engines, gridctl_version="0", origins=(), workloads={}, workload_names=(), tenant_names=(),
    )  # fmt: skip


def test_no_gpu_is_busier_than_the_window_is_long() -> None:
    results = made([answered(n, 0, 50, 100, usd="5", **AT_PARIS) for n in range(3)], [0.0] * 3, [engine("a")])
    assert int(results.rows.gpu_ns.sum()) <= 2 * results.window_ns
    assert int(results.rows.gpu_ns.sum()) == pytest.approx(2 * results.window_ns, rel=1e-6)


@pytest.mark.parametrize("usd", ["nan", "-1", "inf", "free", ""])
def test_dollars_that_are_none_count_as_unknown(usd: str) -> None:
    results = made([answered(0, 0, 50, 100, usd=usd, **AT_PARIS)], [0.0], [engine("a")])
    assert (results.usd_stated, results.rows.gpu_ns[0]) == (0, 0)


def test_replicas_are_dealt_their_requests_in_turn() -> None:
    engines = [engine("a"), engine("a"), engine("b")]
    results = made([answered(n, 0, 5, 9, **AT_PARIS) for n in range(4)], [0.0] * 4, engines)
    assert results.rows.engine.tolist() == [0, 1, 0, 1]


def test_an_endpoint_that_says_nothing_is_the_only_engine_of_its_model() -> None:
    one = made([answered(0, 0, 5, 9)], [0.0], [engine("a"), engine("b", model="other"), engine("a", kind="unused")])
    assert (one.rows.engine.tolist(), one.met) == ([0], ())
    two = made([answered(0, 0, 5, 9)], [0.0], [engine("a"), engine("b")])
    assert two.rows.engine.tolist() == [2]
    assert two.engines[2].kind == "api"
    assert two.engines[2].usd_per_mtok_input == 0
    assert len(two.met) == 1


def test_a_place_the_grid_does_not_have_is_kept_by_its_name() -> None:
    told = {"site": "paris", "cluster": "new", "model_variant": "x/int8"}
    results = made([answered(0, 0, 5, 9, usd="1", **told)], [0.0], [engine("a")])
    met = results.engines[1]
    assert (met.site, met.tier, met.cluster, met.model, met.variant) == ("paris", "edge", "new", "x", "int8")


def test_what_was_not_answered_has_no_times_and_what_was_not_sent_no_row() -> None:
    broken = Reply(1)
    broken.failure, broken.sent_ns, broken.end_ns = "the connection broke", START + NS_PER_MS, START + 2 * NS_PER_MS
    results = made([answered(0, 0, 5, 9, **AT_PARIS), broken, None], [0.0, 1.0, 2.0], [engine("a")])
    assert results.kept.tolist() == [0, 1]
    assert results.rows.outcome.tolist() == [0, 2]
    assert (results.rows.engine[1], results.rows.compute_ns[1], results.rows.output_tokens[1]) == (-1, 0, 2)
    assert dict(results.failures) == {"the connection broke": 1}


def test_tokens_nobody_counted_are_chunks() -> None:
    silent = answered(0, 0, 5, 9, **AT_PARIS)
    silent.answer.prompt_tokens = silent.answer.output_tokens = silent.answer.cached_tokens = -1
    silent.answer.chunks = 7
    results = made([silent], [0.0], [engine("a")])
    assert (results.rows.output_tokens[0], results.rows.cached_tokens[0], results.estimated) == (7, 0, 1)


def spec(*objectives: tuple[str, float, float]) -> WorkloadSpec:
    return WorkloadSpec(
        models=("m",),
        objectives=tuple(
            Objective(metric=metric, threshold_ms=limit, percentile=at)  # type: ignore[arg-type]
            for metric, limit, at in objectives
        ),
    )


def test_a_load_is_void_when_it_left_later_than_one_percent_of_an_objective() -> None:
    names = ("voice", "batch")
    specs = {"voice": spec(("ttft_ms", 500.0, 95.0)), "batch": spec(("e2e_ms", 600_000.0, 95.0))}
    workload = np.array([0] * 100 + [1] * 100, np.int32)
    lag = np.array([0] * 94 + [5_000_001] * 6 + [5_000_000_000] * 100, np.int64)
    # 5 ms are allowed to voice at p95: 94 of 100 are in time, and the 95th is not. Batch may be 6 s late, and is 5.
    judged = lag_of(lag, workload, names, specs)
    assert judged.broken == ("voice ttft_ms p95: 5.00 ms late, 5.00 ms allowed",)
    lag[94] = 5_000_000
    assert lag_of(lag, workload, names, specs).broken == ()
    assert (judged.p50_ms, judged.p99_ms, judged.most_ms) == (5.000001, 5000.0, 5000.0)


def test_times_that_sending_is_no_part_of_void_nothing() -> None:
    lag = np.full(10, 10**12, np.int64)
    specs = {"a": spec(("tpot_ms", 1.0, 95.0), ("network_ms", 1.0, 95.0))}
    assert lag_of(lag, np.zeros(10, np.int32), ("a",), specs).broken == ()
    assert lag_of(lag, np.full(10, -1, np.int32), (), {}).broken == ()
    assert lag_of(lag[:0], np.zeros(0, np.int32), (), {}).most_ms == 0.0
