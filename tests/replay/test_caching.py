"""Replays with caches in front: who answers what when, by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from smallgrids import cluster, gpu, model, site, trace, with_columns, workload

from gridctl.accounts.rows import COMPLETED, REJECTED, CacheFacts, RunRows
from gridctl.errors import InputError
from gridctl.grid.image import build_image
from gridctl.replay.caching import EXACT_LOOKUP_NS, CachePlan, replay_cached
from gridctl.replay.replay import replay
from gridctl.replay.stage import Played
from gridctl.resources import PolicySpec, Resource, Workload
from gridctl.resources.workload import CachePolicy
from gridctl.traces.trace import Trace

EXACT = CachePlan(mode="exact")


def grid(*further: Resource, spec: Workload | None = None, **values: object) -> list[Resource]:
    """One GPU in Paris, where a cache is, too."""
    paris = site("paris", cache_gib=1.0, **values)
    return [gpu(), model(), paris, cluster("c", "paris"), spec or workload(), *further]


def asked(*requests: tuple[float, str, int]) -> Trace:
    """Requests by time in ms, text and key."""
    rows = [{"at_ms": at, "input": 100, "output": 10} for at, _, _ in requests]
    texts, keys = tuple(text for _, text, _ in requests), np.array([key for _, _, key in requests])
    return with_columns(trace(rows), prompts=texts, answers=keys)


def cached(
    resources: list[Resource], requests: Trace, plan: CachePlan = EXACT
) -> tuple[RunRows, Played, tuple[CacheFacts, ...]]:
    kept: list[RunRows] = []
    played, facts = replay_cached(kept.append, build_image(resources), requests, PolicySpec(), plan)
    assert len(kept) == 1
    return kept[0], played, facts


def levels(rows: RunRows, played: Played) -> list[str]:
    return [
        played.engines[engine].variant if played.engines[engine].kind == "cache" else "engine"
        for engine in rows.engine.tolist()
    ]


def test_without_repeats_a_cache_changes_no_number() -> None:
    requests = asked((0, "one", 1), (5, "two", 2), (900, "three", 3))
    rows, _, facts = cached(grid(), requests)
    plain = replay(build_image(grid()), requests, PolicySpec()).rows
    for field in dataclasses.fields(RunRows):
        assert np.array_equal(getattr(rows, field.name), getattr(plain, field.name)), field.name
    assert (facts[0].exact_hits, facts[0].shared_hits, facts[0].requests) == (0, 0, 3)


def test_a_repeat_waits_for_the_engine_and_is_answered_at_once_from_then_on() -> None:
    rows, played, facts = cached(grid(), asked((0, "Hello ", 1), (1, "hello", 1), (5000, "HELLO", 1)))
    assert levels(rows, played) == ["engine", "shared", "exact"]
    answered = int(rows.arrival_ns[0] + rows.rtt_ns[0] + rows.queue_ns[0] + rows.compute_ns[0] + rows.decode_ns[0])
    assert rows.queue_ns[1] == answered - rows.arrival_ns[1]
    assert rows.queue_ns[2] == 0
    assert rows.compute_ns.tolist()[1:] == [EXACT_LOOKUP_NS] * 2
    assert rows.gpu_ns.tolist()[1:] == [0, 0]
    # 10 ms of last mile, and the network within Paris, without jitter
    assert rows.rtt_ns[2] == rows.rtt_ns[1] >= 10_000_000
    assert (facts[0].shared_hits, facts[0].exact_hits, facts[0].wrong) == (1, 1, 0)


def test_what_nobody_answered_is_not_kept() -> None:
    nobody = grid(spec=workload(quality_floor=0.9))  # no variant's quality was measured
    rows, _, _ = cached(nobody, asked((0, "hello", 1), (5000, "hello", 1)))
    assert rows.outcome.tolist() == [REJECTED, REJECTED]


def test_a_cache_under_another_law_is_not_asked() -> None:
    berlin = site("berlin", "DE", lat=52.5, lon=13.4, cache_gib=1.0)
    strict = workload(rule="same-country")
    without = [gpu(), model(), site("paris"), cluster("c", "paris"), strict, berlin]
    rows, played, _ = cached(without, asked((0, "hello", 1), (5000, "hello", 1)))
    assert levels(rows, played) == ["engine", "engine"]
    free = [*without[:4], workload(), berlin]
    rows, played, _ = cached(free, asked((0, "hello", 1), (5000, "hello", 1)))
    assert levels(rows, played) == ["engine", "exact"]
    assert played.engines[int(rows.engine[1])].site == "berlin"


def test_regional_placement_asks_a_larger_site_and_needs_one() -> None:
    requests = asked((0, "hello", 1), (5000, "hello", 1))
    lyon = site("lyon", tier="regional", lat=45.8, lon=4.8, cache_gib=1.0)
    rows, played, _ = cached(grid(lyon), requests, CachePlan(mode="exact", placement="regional"))
    assert played.engines[int(rows.engine[1])].site == "lyon"
    with pytest.raises(InputError, match="no active site of a tier above edge has a cache"):
        cached(grid(), requests, CachePlan(mode="exact", placement="regional"))


def test_as_declared_asks_nothing_for_workloads_that_declare_nothing() -> None:
    requests = asked((0, "hello", 1), (5000, "hello", 1))
    rows, played, facts = cached(grid(), requests, CachePlan())
    assert levels(rows, played) == ["engine", "engine"]
    assert facts == ()
    declared = grid(spec=workload(cache=CachePolicy(mode="exact", ttl_s=1.0)))
    rows, played, _ = cached(declared, requests, CachePlan())
    assert levels(rows, played) == ["engine", "engine"]  # a second is over after five
    declared = grid(spec=workload(cache=CachePolicy(mode="exact", ttl_s=60.0)))
    rows, played, _ = cached(declared, requests, CachePlan())
    assert levels(rows, played) == ["engine", "exact"]


def test_prefix_blocks_alone_tell_word_for_word_repeats() -> None:
    rows_of = [
        {"at_ms": 0, "input": 100, "blocks": (1, 2)},
        {"at_ms": 5000, "input": 100, "blocks": (1, 2)},
        {"at_ms": 9000, "input": 100, "blocks": (1, 3)},
    ]
    rows, played, facts = cached(grid(), trace(rows_of, block_tokens=64), CachePlan(mode="semantic"))
    assert levels(rows, played) == ["engine", "exact", "engine"]
    assert (facts[0].told_by, facts[0].mode, facts[0].wrong) == ("blocks", "exact", None)


def test_a_trace_that_tells_nothing_of_repeats_is_refused() -> None:
    with pytest.raises(InputError, match="tells nothing of repeats"):
        cached(grid(), trace([{"at_ms": 0}, {"at_ms": 10}]))


def test_the_same_seed_gives_the_same_rows() -> None:
    draw = np.random.default_rng(2)
    keys = draw.integers(0, 12, 400)
    requests = [{"at_ms": 40.0 * row, "input": int(20 + key), "output": 8} for row, key in enumerate(keys.tolist())]
    told = with_columns(trace(requests), answers=keys)
    first, played, facts = cached(grid(), told, CachePlan(mode="semantic"))
    again, _, _ = cached(grid(), told, CachePlan(mode="semantic"))
    for field in dataclasses.fields(RunRows):
        assert np.array_equal(getattr(first, field.name), getattr(again, field.name))
    assert (first.outcome == COMPLETED).all()
    assert facts[0].requests == 400
    assert facts[0].told_by == "keys"
    assert "exact" in levels(first, played)
