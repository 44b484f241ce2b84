"""Dollars of replays with caches: what was spent and what was saved are what the same requests cost without."""

from __future__ import annotations

import random

import numpy as np
import pytest
from smallgrids import cluster, gpu, model, site, trace, with_columns, workload

from gridctl.accounts.caching import savings
from gridctl.accounts.clock import client_clock
from gridctl.accounts.facts import RunInfo
from gridctl.accounts.rows import COMPLETED, Run, RunRows
from gridctl.accounts.sla import sla
from gridctl.accounts.tokenomics import tokenomics
from gridctl.accounts.usd import request_usd
from gridctl.grid.image import build_image
from gridctl.replay.caching import CachePlan, replay_cached
from gridctl.replay.replay import replay
from gridctl.replay.stage import Played
from gridctl.resources import PolicySpec, Resource
from gridctl.resources.workload import CachePolicy
from gridctl.traces.trace import Trace


def described(played: Played, rows: RunRows, requests: Trace) -> Run:
    """The rows as a run."""
    done = [int((rows.outcome == outcome).sum()) for outcome in range(3)]
    info = RunInfo(
        name="run", trace="hand", policy="default", algorithm="grid", seed=1, created_ns=0, wall_s=0.0,
        requests=len(rows), completed=done[0], rejected=done[1], failed=done[2],
        input_tokens=int(rows.input_tokens.sum()), output_tokens=int(rows.output_tokens.sum()),
        window_ns=played.window_ns, digest="", gridctl_version="0", engines=played.engines, origins=played.origins,
        workloads=played.workloads, workload_names=requests.workloads, tenant_names=requests.tenants,
    )  # fmt: skip
    return Run(info, rows)


def drawn(seed: int) -> Trace:
    """300 requests for 12 answers, half of them in one of two texts, bunched so that some come while one is under
    way."""
    coin = random.Random(seed)
    at, rows, texts, keys = 0.0, [], [], []
    for number in range(300):
        at += coin.expovariate(1 / 40.0)
        key = coin.randrange(12)
        rows.append({"at_ms": at, "input": coin.randrange(20, 200), "output": coin.randrange(2, 30)})
        texts.append(
            f"answer {key} in words {coin.randrange(2)}" if coin.random() < 0.5 else f"{key} asked as {number}"
        )
        keys.append(key)
    return with_columns(trace(rows), prompts=tuple(texts), answers=np.array(keys))


def grid(cache: CachePolicy) -> list[Resource]:
    """One GPU, so that routing is forced, and a cache beside it."""
    return [gpu(), model(), site("paris", cache_gib=1.0), cluster("c", "paris"), workload(cache=cache)]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("stale_s", [0.0, 3.0], ids=["fresh", "stale"])
def test_spent_and_saved_add_up_to_what_the_same_requests_cost_without_caches(seed: int, stale_s: float) -> None:
    resources, requests, kept = grid(CachePolicy(mode="semantic", ttl_s=2.0, stale_s=stale_s)), drawn(seed), []
    played, facts, without = replay_cached(kept.append, build_image(resources), requests, PolicySpec(), CachePlan())
    run = described(played, kept[0], requests)
    plain = replay(build_image(resources), requests, PolicySpec())
    alone = Run(run.info, plain.rows)  # the same engines under the same numbers
    saved = savings(run, without)
    spent = float(request_usd(run).sum())
    assert spent + sum(usd for usd, _ in saved.values()) == pytest.approx(float(request_usd(alone).sum()), rel=1e-12)
    one = facts[0]
    assert one.exact_hits > 10
    assert one.shared_hits > 0
    assert (one.stale_hits > 0) is (stale_s > 0)
    table = tokenomics(run)
    assert sum(row.requests for row in table.rows) == 300
    assert sum(row.usd for row in table.rows) == pytest.approx(table.total.usd, rel=1e-12)
    levels = {row.variant: row.requests for row in table.rows}
    assert levels["cache/exact"] == one.exact_hits
    assert levels["cache/shared"] == one.shared_hits


@pytest.mark.parametrize("seed", range(2))
def test_the_sla_counts_hits_at_the_times_their_clients_saw(seed: int) -> None:
    resources, requests, kept = grid(CachePolicy(mode="exact", ttl_s=60.0)), drawn(seed), []
    played, _, _ = replay_cached(kept.append, build_image(resources), requests, PolicySpec(), CachePlan())
    run = described(played, kept[0], requests)
    clock, rows = client_clock(run), run.rows
    is_exact = np.array([engine.variant == "exact" for engine in played.engines])[rows.engine]
    assert is_exact.sum() > 10
    assert (rows.outcome == COMPLETED).all()
    ttft_ms = clock.ttft_ns / 1e6
    # the look is 0.1 ms, the last mile 10 ms, and Paris is in Paris
    assert ttft_ms[is_exact].max() < 12.0
    objective = next(row for row in sla(run).rows if row.objective.startswith("ttft"))
    expected = float((ttft_ms <= objective.threshold_ms).mean())
    assert objective.requests == 300
    assert objective.attained == pytest.approx(expected)
