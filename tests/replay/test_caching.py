"""Replays with caches in front: who answers what when, by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from smallgrids import cluster, gpu, model, site, trace, with_columns, workload

from gridctl.accounts.facts import CacheFacts
from gridctl.accounts.rows import COMPLETED, REJECTED, RunRows
from gridctl.cache.rehearsal import Got
from gridctl.errors import InputError
from gridctl.grid.image import build_image
from gridctl.replay.cachedrows import EXACT_LOOKUP_NS, SEMANTIC_LOOKUP_NS, Answered, merged
from gridctl.replay.caching import CachePlan, check_cached, replay_cached
from gridctl.replay.repeats import Telling
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
    played, facts, _ = replay_cached(kept.append, build_image(resources), requests, PolicySpec(), plan)
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


def test_a_repeat_shares_the_tokens_as_they_come_and_is_answered_at_once_from_then_on() -> None:
    rows, played, facts = cached(grid(), asked((0, "Hello ", 1), (1, "hello", 1), (5000, "HELLO", 1)))
    assert levels(rows, played) == ["engine", "shared", "exact"]
    first_token = int(rows.arrival_ns[0] + rows.rtt_ns[0] + rows.queue_ns[0] + rows.compute_ns[0])
    assert rows.arrival_ns[1] + rows.queue_ns[1] == first_token
    assert rows.decode_ns[1] == rows.decode_ns[0] > 0
    assert (rows.queue_ns[2], rows.decode_ns[2]) == (0, 0)
    assert rows.compute_ns.tolist()[1:] == [EXACT_LOOKUP_NS] * 2
    assert rows.gpu_ns.tolist()[1:] == [0, 0]
    # 10 ms of last mile, and the network within Paris, without jitter
    assert rows.rtt_ns[2] == rows.rtt_ns[1] >= 10_000_000
    assert (facts[0].shared_hits, facts[0].exact_hits, facts[0].wrong) == (1, 1, 0)


def test_a_repeat_that_comes_between_two_tokens_gets_the_first_ones_at_once() -> None:
    rows, _, _ = cached(grid(), asked((0, "hello", 1), (5000, "other", 2)))
    first_token = int(rows.rtt_ns[0] + rows.queue_ns[0] + rows.compute_ns[0])
    between_ms = (first_token + int(rows.decode_ns[0]) // 2) / 1e6
    rows, played, _ = cached(grid(), asked((0, "hello", 1), (between_ms, "hello", 1)))
    assert levels(rows, played) == ["engine", "shared"]
    assert rows.queue_ns[1] == 0
    assert rows.arrival_ns[1] + rows.decode_ns[1] == first_token + rows.decode_ns[0]


def test_an_answer_past_its_time_goes_out_at_once_while_an_engine_is_asked_anew() -> None:
    """Fresh for a second at most, stale for ten more. At 3 s it goes out stale and is asked for again; 1 ms later that
    is under way; at 3.9 s the new answer is fresh; at 60 s all are gone."""
    kept = grid(spec=workload(cache=CachePolicy(mode="exact", ttl_s=1.0, stale_s=10.0)))
    requests = asked(*((at, "hello", 1) for at in (0, 3000, 3001, 3900, 60_000)))
    rows, played, facts = cached(kept, requests, CachePlan())
    assert levels(rows, played) == ["engine", "engine", "exact", "exact", "engine"]
    assert (facts[0].stale_hits, facts[0].exact_hits) == (1, 2)
    assert rows.gpu_ns.tolist()[1] > 0  # the engine's work is paid for,
    assert (rows.queue_ns[1], rows.compute_ns[1], rows.decode_ns[1]) == (0, EXACT_LOOKUP_NS, 0)  # not waited for
    without = grid(spec=workload(cache=CachePolicy(mode="exact", ttl_s=1.0)))
    rows, played, facts = cached(without, requests, CachePlan())
    assert levels(rows, played) == ["engine", "engine", "shared", "exact", "engine"]
    assert facts[0].stale_hits == 0


def test_by_second_admission_an_answer_is_kept_when_it_is_asked_for_again() -> None:
    declared = grid(spec=workload(cache=CachePolicy(mode="exact", admission="second")))
    rows, played, facts = cached(declared, asked(*((at, "hello", 1) for at in (0, 9000, 18_000))), CachePlan())
    assert levels(rows, played) == ["engine", "engine", "exact"]
    assert facts[0].exact_hits == 1


def test_an_audited_hit_has_the_times_of_the_cache_and_the_work_of_an_engine() -> None:
    resources, requests = grid(), asked((0, "one", 1), (9000, "two", 1))
    plain = replay(build_image(resources), requests, PolicySpec())
    answered = Answered([Got("miss"), Got("audit", looked=True)], np.zeros(2, np.int64), np.full((1, 1), 200), 7)
    specs = dict(plain.workloads)
    rows = merged(requests, plain.rows, np.arange(2), answered, specs)
    assert rows.engine.tolist() == plain.rows.engine.tolist()
    assert (rows.queue_ns[1], rows.compute_ns[1], rows.decode_ns[1]) == (0, SEMANTIC_LOOKUP_NS, 0)
    assert rows.gpu_ns[1] == plain.rows.gpu_ns[1] > 0
    assert rows.rtt_ns[1] == 200_000 + 10_000_000  # to the cache, and the last mile


def test_what_is_looked_for_in_vain_reaches_its_engine_that_look_later() -> None:
    requests = asked((0, "one thing", 1), (5000, "something else", 2))
    rows, played, _ = cached(grid(), requests, CachePlan(mode="semantic"))
    plain = replay(build_image(grid()), requests, PolicySpec()).rows
    assert levels(rows, played) == ["engine", "engine"]
    assert (rows.queue_ns - plain.queue_ns).tolist() == [SEMANTIC_LOOKUP_NS] * 2


def test_what_a_cached_replay_would_stumble_over_is_found_without_replaying() -> None:
    requests = asked((0, "hello", 1), (5000, "hello", 1))
    check_cached(build_image(grid()), requests, CachePlan(mode="semantic"))
    with pytest.raises(InputError, match="no active site of a tier above edge has a cache"):
        check_cached(build_image(grid()), requests, CachePlan(placement="regional"))
    with pytest.raises(InputError, match="tells nothing of repeats"):
        check_cached(build_image(grid()), trace([{"at_ms": 0}, {"at_ms": 10}]), EXACT)
    elsewhere = CachePlan(mode="semantic", telling=Telling(embedder="nowhere"))
    with pytest.raises(InputError, match="nowhere"):
        check_cached(build_image(grid()), requests, elsewhere)


def test_what_nobody_answered_is_not_kept() -> None:
    nobody = grid(spec=workload(quality_floor=0.9))  # no variant's quality was measured
    rows, _, facts = cached(nobody, asked((0, "hello", 1), (5000, "hello", 1)))
    assert rows.outcome.tolist() == [REJECTED, REJECTED]
    assert facts[0].shared_hits == facts[0].exact_hits == 0


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
