"""Replays of one, two or three requests whose every nanosecond and outcome is worked out by hand.

The engine of `smallgrids`: 4 layers, 256 wide, 8 heads of 64, MLPs of 512, on a GPU that reads 10 GB/s · 0.8 and
computes 1 TFLOPS · 0.75. Weights are 134,217,728 bytes, 1,024,000 of them in the two vocabulary matrices.
"""

from __future__ import annotations

import numpy as np
import pytest
from smallgrids import api, cluster, deployment, gpu, model, named, price_book, site, trace, workload

from gridctl.accounts.rows import COMPLETED, FAILED, OUTAGE, QUEUE_FULL, REJECTED, TOO_LONG
from gridctl.grid.image import build_image
from gridctl.network.jitter import JITTER_PPM
from gridctl.replay.replay import Replayed, replay
from gridctl.resources import Link, LinkSpec, PolicySpec, Resource, Serverless, Telemetry
from gridctl.resources.policy import ALGORITHMS

WEIGHTS_READ_PS = 16_649_216_000  # 133,193,728 bytes at 8 bytes/ns
OVERHEAD_PS = 350_000_000  # 250 µs a step, and 2.5 for each of 4 · 10 kernels
HEAD_PS = 64_000_000  # 2 · 256,000 bytes at 8 bytes/ns, once a step that samples
PAIR_FS = 10_922_667  # 4 · 4 layers · 8 heads · 64 FLOPs at 0.75 TFLOPS
KV_PS = 1_024_000  # 8,192 bytes a token

# 100 tokens are one step of 5,050 pairs; memory-bound, as 100 · 7,340,032 FLOPs take 0.98 ms
PREFILL_100_PS = WEIGHTS_READ_PS + OVERHEAD_PS + HEAD_PS + PAIR_FS * 5050 // 1000
# nine more tokens read 101 … 109 tokens of KV
DECODE_9_PS = 9 * (WEIGHTS_READ_PS + OVERHEAD_PS + HEAD_PS) + KV_PS * sum(range(101, 110))


def run(resources: list[Resource], requests: list[dict], policy: PolicySpec | None = None, **values) -> Replayed:
    seed = values.pop("seed", 1)
    parts = [gpu(), model(), *resources]
    return replay(build_image(parts), trace(requests, **values), policy or PolicySpec(), seed=seed)


def alone(**engine: object) -> list[Resource]:
    """One GPU in Paris."""
    return [site("paris"), cluster("c", "paris", deployment(**engine)), workload()]


def linked(rtt_ms: float) -> list[Resource]:
    """The GPU stands in Lyon, a measured link away."""
    link = Link(metadata=named("l"), spec=LinkSpec(source="paris", target="lyon", rtt_ms=rtt_ms))
    return [site("paris"), site("lyon", lat=45.8, lon=4.8), link, cluster("c", "lyon"), workload(access_rtt_ms=10.0)]


@pytest.mark.parametrize("algorithm", [one for one in ALGORITHMS if one != "centralized"])
def test_a_request_alone_takes_what_the_roofline_says_to_the_nanosecond(algorithm: str) -> None:
    rows = run(linked(20.0), [{"input": 100, "output": 10}], PolicySpec(algorithm=algorithm)).rows
    assert rows.outcome[0] == COMPLETED
    assert rows.queue_ns[0] == 0
    assert rows.compute_ns[0] == PREFILL_100_PS // 1000
    assert rows.decode_ns[0] == DECODE_9_PS // 1000
    assert rows.gpu_ns[0] in range(
        (PREFILL_100_PS + DECODE_9_PS) // 1000 - 1, (PREFILL_100_PS + DECODE_9_PS) // 1000 + 1
    )
    wire_ns = rows.rtt_ns[0] - 10_000_000  # less the last mile
    jitter_ppm, rest = divmod(int(wire_ns) - 20_000_000, 20)
    assert rest == 0
    assert JITTER_PPM[0] <= jitter_ppm <= JITTER_PPM[-1]


def test_two_gpus_of_one_engine_are_both_paid_for_the_time_they_work() -> None:
    rows = run(alone(tensor_parallel=2), [{"input": 100, "output": 1}]).rows
    assert abs(rows.gpu_ns[0] - 2 * rows.compute_ns[0]) <= 2


def test_jitter_has_the_quantiles_that_were_measured() -> None:
    """Of 4,000 draws the share below a knot is off by more than 0.04 once in a million (five standard deviations)."""
    requests = [{"at_ms": 10 * number, "input": 1, "output": 1} for number in range(4000)]
    rtt = run(linked(20.0), requests, PolicySpec(algorithm="nearest")).rows.rtt_ns
    ppm = (rtt - 30_000_000) / 20
    for knot in (8, 32, 56):
        assert abs((ppm < JITTER_PPM[knot]).mean() - knot / 64) < 0.04


def test_the_window_is_from_the_first_arrival_to_the_last_token() -> None:
    """Two requests a second apart do not meet; the second's answer reaches the last token half a round trip and the
    compute and decode times after its arrival."""
    result = run(linked(20.0), [{"at_ms": 500}, {"at_ms": 1500}])
    half = int(result.rows.rtt_ns[1]) // 2
    busy = PREFILL_100_PS // 1000 + DECODE_9_PS // 1000
    assert result.window_ns == 1_000_000_000 + half + busy
    assert result.engines[0].busy_ns == 2 * (PREFILL_100_PS + DECODE_9_PS) // 1000


def test_a_run_in_which_nobody_is_served_lasts_from_first_to_last_arrival() -> None:
    down = [site("paris", state="down"), cluster("c", "paris"), workload()]
    result = run(down, [{"at_ms": 0}, {"at_ms": 250}])
    assert result.window_ns == 250_000_000
    assert result.rows.reason.tolist() == [OUTAGE, OUTAGE]


def test_a_request_that_fills_the_engine_s_memory_is_served_and_one_token_more_is_too_long() -> None:
    """kv_tokens asked for less 128 of activations are blocks of 16: 1,136 tokens leave 63 blocks, 1,008 tokens."""
    parts = [gpu(kv_tokens=1136), model(), *alone()]
    image = build_image(parts)
    assert image.engines[0].spec.kv_blocks == 63
    for output, outcome, reason in ((8, COMPLETED, 0), (9, FAILED, TOO_LONG)):
        rows = replay(image, trace([{"input": 1000, "output": output}]), PolicySpec()).rows
        assert (rows.outcome[0], rows.reason[0], rows.preemptions[0]) == (outcome, reason, 0)


def test_the_model_s_context_limit_binds_where_memory_would_not() -> None:
    parts = [gpu(), model(max_context=128), *alone()]
    requests = [{"input": 100, "output": 28}, {"input": 100, "output": 29}]
    assert replay(build_image(parts), trace(requests), PolicySpec()).rows.outcome.tolist() == [COMPLETED, FAILED]


@pytest.mark.parametrize("algorithm", [one for one in ALGORITHMS if one != "centralized"])
def test_who_finds_the_queue_full_is_rejected(algorithm: str) -> None:
    """One runs, one waits; the others of the burst find both places taken, and somebody later does not."""
    requests = [{}, {}, {}, {}, {"at_ms": 60_000}]
    rows = run(alone(max_num_seqs=1, max_waiting=1), requests, PolicySpec(algorithm=algorithm)).rows
    assert rows.outcome.tolist() == [COMPLETED, COMPLETED, REJECTED, REJECTED, COMPLETED]
    assert rows.reason.tolist() == [0, 0, QUEUE_FULL, QUEUE_FULL, 0]


def test_who_waits_for_the_one_place_waits_for_all_of_its_answer() -> None:
    rows = run(alone(max_num_seqs=1), [{}, {}]).rows
    first, second = np.argsort(rows.rtt_ns)  # who is nearer by jitter is there first
    ahead = PREFILL_100_PS + DECODE_9_PS - (int(rows.rtt_ns[second]) - int(rows.rtt_ns[first])) * 500
    assert rows.queue_ns[first] == 0
    assert abs(rows.queue_ns[second] - ahead // 1000) <= 1


def test_the_api_takes_what_a_full_queue_cannot_for_workloads_that_ask_for_it() -> None:
    parts = [
        *alone(max_num_seqs=1, max_waiting=0)[:2],
        workload(when_infeasible="fallback"),
        price_book(api(ttft_ms=700.0, tpot_ms=15.0)),
    ]
    result = run(parts, [{}, {}])
    kinds = [result.engines[engine].kind for engine in result.rows.engine]
    assert sorted(kinds) == ["api", "gpu"]
    bought = kinds.index("api")
    assert result.rows.compute_ns[bought] == 700_000_000
    assert result.rows.decode_ns[bought] == 9 * 15_000_000
    assert result.rows.rtt_ns[bought] == 10_000_000  # the last mile alone: its latency holds the round trip
    assert result.rows.gpu_ns[bought] == result.rows.queue_ns[bought] == 0


@pytest.mark.parametrize(
    ("when", "allow", "outcome"),
    [("fallback", True, COMPLETED), ("fallback", False, REJECTED), ("serve-late", True, REJECTED)],
)
def test_the_api_serves_when_all_else_is_down_only_if_workload_and_policy_allow(
    when: str, allow: bool, outcome: int
) -> None:
    parts = [
        site("paris", state="down"),
        cluster("c", "paris"),
        workload(when_infeasible=when),
        price_book(api()),
    ]
    assert run(parts, [{}], PolicySpec(allow_fallback=allow)).rows.outcome[0] == outcome


def test_an_api_the_policy_forbids_hides_no_engine_however_cheap_and_near_it_is() -> None:
    parts = [
        site("paris"),
        site("ashburn", "US", lat=39.0, lon=-77.5),
        cluster("c", "ashburn"),
        workload(when_infeasible="fallback"),
        price_book(api(usd_per_mtok_input=0.0, usd_per_mtok_output=0.0, ttft_ms=1.0, tpot_ms=1.0)),
    ]
    result = run(parts, [{}], PolicySpec(allow_fallback=False))
    assert result.rows.outcome[0] == COMPLETED
    assert result.engines[result.rows.engine[0]].site == "ashburn"


def test_a_cold_function_starts_once_and_is_billed_for_it() -> None:
    cpu = Serverless(variants=("m/bf16",), concurrency=2, cold_start_ms=1500.0, keep_warm_s=600.0)
    parts = [site("paris", serverless=cpu), workload(ttft_ms=60_000.0)]
    rows = run(parts, [{}, {"at_ms": 100_000}, {"at_ms": 100_000 + 601_000 + 10_000}]).rows
    assert rows.outcome.tolist() == [COMPLETED] * 3
    assert rows.compute_ns[0] - rows.compute_ns[1] == 1_500_000_000
    assert rows.compute_ns[2] == rows.compute_ns[0]  # cold again after ten minutes and more
    assert abs(rows.serverless_ns[1] - (rows.compute_ns[1] + rows.decode_ns[1])) <= 1
    assert abs(rows.serverless_ns[0] - rows.serverless_ns[1] - 1_500_000_000) <= 1


def test_a_prefix_that_was_computed_is_found_again_to_the_block() -> None:
    """80 tokens are five blocks of 16. The second asks for four of them and 20 others; the third repeats the first,
    of which the last block is computed again because something must be."""
    requests = [
        {"input": 80, "blocks": (0, 1, 2, 3, 4)},
        {"at_ms": 1000, "input": 84, "blocks": (0, 1, 2, 3, 9)},
        {"at_ms": 2000, "input": 80, "blocks": (0, 1, 2, 3, 4)},
        {"at_ms": 3000, "input": 80, "blocks": (5, 1, 2, 3, 4)},
    ]
    rows = run(alone(block_size=16), requests[:3], block_tokens=16).rows
    assert rows.cached_tokens.tolist() == [0, 64, 64]
    for off in ({"enable_prefix_caching": False}, {}):
        rows = run(alone(block_size=16, **off), requests, block_tokens=16).rows
        assert rows.cached_tokens.tolist() == ([0, 0, 0, 0] if off else [0, 64, 64, 0])


def test_what_was_computed_is_cheaper_the_second_time_by_hand() -> None:
    """16 of 80 tokens are computed after 64 cached ones: 16 · 64 + 16 · 17 / 2 = 1,160 pairs."""
    requests = [{"input": 80, "output": 1, "blocks": (0, 1, 2, 3, 4)}] * 2
    requests = [requests[0], {**requests[1], "at_ms": 1000}]
    rows = run(alone(block_size=16), requests, block_tokens=16).rows
    step = WEIGHTS_READ_PS + OVERHEAD_PS + HEAD_PS
    assert rows.compute_ns.tolist() == [(step + PAIR_FS * pairs // 1000) // 1000 for pairs in (80 * 81 // 2, 1160)]


def test_a_router_that_counts_nothing_and_is_never_told_sends_everything_to_one_engine() -> None:
    """Telemetry an hour old and no counters of its own: every decision is made as if all were idle."""
    parts = [
        site("paris"),
        site("lyon", lat=45.8, lon=4.8),
        cluster("near", "paris", deployment(max_num_seqs=4)),
        cluster("far", "lyon"),
        workload(),
    ]
    blind = Telemetry(period_ms=3_600_000.0, delay_ms=3_600_000.0, in_flight="none")
    sent = {}
    for telemetry in (blind, Telemetry()):
        result = run(parts, [{}] * 64, PolicySpec(algorithm="least-loaded", telemetry=telemetry))
        assert (result.rows.outcome == COMPLETED).all()
        sent[telemetry] = [result.engines[engine].cluster for engine in result.rows.engine].count("near")
    assert sent == {blind: 64, Telemetry(): 32}


def test_overhead_of_the_client_is_weighed_and_not_simulated() -> None:
    """Speech recognition takes 450 of 500 ms: what takes 17 ms to compute cannot wait for a 100 ms round trip."""
    strict = workload(overhead_ms=450.0, when_infeasible="reject")
    plain = [one for one in linked(100.0) if one.name != "chat"]
    assert run([*plain, workload(when_infeasible="reject")], [{}]).rows.outcome[0] == COMPLETED
    assert run([*plain, strict], [{}], PolicySpec(reject_ratio=1.0)).rows.outcome[0] == REJECTED
    rows = run([*plain, strict], [{}], PolicySpec(allow_reject=False)).rows
    assert rows.compute_ns[0] == PREFILL_100_PS // 1000


@pytest.mark.parametrize("algorithm", ["prefix-affinity", "grid"])
def test_the_router_knows_what_an_engine_cached_since_it_last_looked(algorithm: str) -> None:
    """Two engines that nobody looks at in between: each repeat, two seconds later, must find the one that is warm."""
    requests = [
        {"at_ms": 4000 * pair + later, "input": 80, "output": 2, "blocks": tuple(range(100 * pair, 100 * pair + 5))}
        for pair in range(12)
        for later in (0, 2000)
    ]
    rows = run(alone(replicas=2, block_size=16), requests, PolicySpec(algorithm=algorithm), block_tokens=16).rows
    assert rows.engine[0::2].tolist() == rows.engine[1::2].tolist()
    assert rows.cached_tokens.tolist() == [0, 64] * 12
