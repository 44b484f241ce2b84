"""Any small grid, any trace, any policy: the books balance, nothing is breached, and jumping equals stepping."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from books import assert_equal_runs, audit
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from smallgrids import make_grid, make_policy, make_trace

from gridctl.accounts.rows import OUTCOMES, REASONS
from gridctl.grid.centralized import centralize
from gridctl.grid.image import build_image
from gridctl.replay import stage as stage_module
from gridctl.replay.replay import replay
from gridctl.resources.policy import ALGORITHMS


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 10**9), requests=st.integers(1, 40))
def test_books_balance_and_jumping_equals_stepping(seed: int, requests: int) -> None:
    pick = random.Random(seed).randint
    resources = make_grid(pick)
    trace, policy = make_trace(pick, resources, requests), make_policy(pick)
    image = build_image(resources)
    result = replay(image, trace, policy, seed=seed)
    audit(image, trace, policy, result)
    assert_equal_runs(result, replay(image, trace, policy, seed=seed, longest_jump=1))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_overloaded_grid_keeps_its_books_under_every_policy(algorithm: str) -> None:
    """Fixed seeds, so that every outcome and reason, preemption and reuse is known to occur."""
    seen: Counter[str] = Counter()
    for seed in range(25):
        pick = random.Random(seed).randint
        resources = make_grid(pick)
        trace, policy = make_trace(pick, resources, 120), make_policy(pick, algorithm)
        image = build_image(resources)
        result = replay(image, trace, policy)
        audit(image, trace, policy, result)
        assert_equal_runs(result, replay(image, trace, policy, longest_jump=1))
        seen.update(OUTCOMES[code] for code in result.rows.outcome)
        seen.update(REASONS[code] for code in result.rows.reason)
        seen["preempted"] += int(result.rows.preemptions.sum())
        seen["reused"] += int((result.rows.cached_tokens > 0).sum())
    expected = {"completed", "rejected", "no-model", "jurisdiction", "quality", "outage", "preempted"}
    assert expected <= {word for word, count in seen.items() if count}, seen
    if algorithm != "centralized":
        assert min(seen["failed"], seen["queue-full"], seen["reused"]) > 0, seen


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 10**9))
def test_the_centralised_alternative_keeps_its_books_too(seed: int) -> None:
    pick = random.Random(seed).randint
    resources = make_grid(pick)
    trace, policy = make_trace(pick, resources, 40), make_policy(pick, "centralized")
    image = build_image(centralize(resources))
    audit(image, trace, policy, replay(image, trace, policy))


@pytest.mark.parametrize("chunk", [1, 7, 60])
def test_the_size_of_chunks_changes_nothing(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(8):
        pick = random.Random(seed).randint
        resources = make_grid(pick)
        trace, policy = make_trace(pick, resources, 60), make_policy(pick)
        image = build_image(resources)
        whole = replay(image, trace, policy)
        parts: list[int] = []
        with monkeypatch.context() as patched:
            patched.setattr(stage_module, "CHUNK_REQUESTS", chunk)
            assert_equal_runs(whole, replay(image, trace, policy, advanced=parts.append))
        assert sum(parts) == 60
        assert max(parts) == min(chunk, 60)
