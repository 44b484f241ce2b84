"""Distributions: which bucket a time is in, what is left out, what two runs share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gridctl.accounts.distribution import bucket_edges_ms, ttft_distributions


def test_every_answered_request_is_in_the_bucket_that_holds_its_time(make_run: Callable) -> None:
    times_ms = (1.0, 1.2, 3.3, 10.0, 10.1, 99.0)
    run = make_run([{"compute_ms": at, "output_tokens": 1} for at in times_ms] + [{"outcome": "rejected"}])
    (found,) = ttft_distributions(run).items
    edges = ttft_distributions(run).edges_ms
    assert (edges[0], edges[-1]) == (1.0, 100.0)
    assert (found.requests, found.answered) == (7, 6)
    expected = [0] * (len(edges) - 1)
    for at in times_ms:
        (bucket,) = [i for i in range(len(expected)) if edges[i] < at <= edges[i + 1]] or [0]
        expected[bucket] += 1
    assert list(found.counts) == expected
    assert (found.p50_ms, found.p99_ms) == (3.3, 99.0)  # nearest rank: the 3rd and the 6th of six


def test_workloads_share_buckets_and_carry_their_own_promises(make_run: Callable, make_workload: Callable) -> None:
    workloads = {"b": make_workload(("ttft_ms", 50)), "a": make_workload(("e2e_ms", 9), ("ttft_ms", 500))}
    requests = [{"workload": 0, "compute_ms": 20}, {"workload": 1, "compute_ms": 2_000}]
    found = ttft_distributions(make_run(requests, workloads=workloads))
    assert [item.workload for item in found.items] == ["a", "b"]
    assert [[limit.threshold_ms for limit in item.limits] for item in found.items] == [[500], [50]]
    assert {len(item.counts) for item in found.items} == {len(found.edges_ms) - 1}


def test_another_runs_buckets_hold_what_lies_beyond_them_at_their_ends(make_run: Callable) -> None:
    run = make_run([{"compute_ms": at} for at in (0.01, 5, 90_000)])
    (found,) = ttft_distributions(run, (1.0, 10.0, 100.0)).items
    assert found.counts == (2, 1)


def test_a_run_that_answered_nobody_has_axes_and_no_times(make_run: Callable) -> None:
    found = ttft_distributions(make_run([{"outcome": "failed"}]))
    assert (found.items[0].answered, found.items[0].p50_ms, sum(found.items[0].counts)) == (0, None, 0)
    assert len(found.edges_ms) > 1


def test_edges_are_ten_to_a_decade_and_hold_any_time() -> None:
    edges = np.array(bucket_edges_ms(0.0, 1e30))
    assert np.allclose(np.diff(np.log10(edges)), 0.1, atol=1e-5)
    assert (edges[0], edges[-1]) == (0.1, 1e8)
