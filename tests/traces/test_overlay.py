"""Overlays: what they fill in, in which proportions, and what they leave alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from gridctl.resources import Site, Workload
from gridctl.traces.generate import GenerateSpec, generate
from gridctl.traces.overlay import overlay
from gridctl.traces.slicing import cut
from gridctl.traces.trace import UNSAID, Trace

MakeSite = Callable[..., Site]
MakeWorkload = Callable[..., Workload]


def bare(turns: float = 1.0, rate: float = 40.0) -> Trace:
    return generate(GenerateSpec(duration_s=500.0, rate_rps=rate, turns=turns, block_tokens=0), [], [], 21)


def chi_squared(counts: np.ndarray, shares: list[float]) -> float:
    expected = counts.sum() * np.array(shares) / sum(shares)
    return float(np.sum((counts - expected) ** 2 / expected))


def test_origins_follow_population(make_site: MakeSite) -> None:
    sites = [make_site("c", 500), make_site("a", 200), make_site("b", 300), make_site("empty", 0)]
    trace = overlay(bare(), sites, [], seed=1)
    assert trace.origins == ("a", "b", "c")
    assert chi_squared(np.bincount(trace.origin), [200, 300, 500]) < 13.8  # 2 degrees of freedom, 0.1 %
    assert set(trace.workload.tolist()) == {UNSAID}
    assert set(trace.model.tolist()) == {UNSAID}


def test_without_population_every_edge_site_counts_alike(make_site: MakeSite) -> None:
    sites = [make_site("e1", 0), make_site("e2", 0), make_site("core", 0, tier="core")]
    trace = overlay(bare(), sites, [], seed=1)
    assert trace.origins == ("e1", "e2")
    assert chi_squared(np.bincount(trace.origin), [1, 1]) < 10.8


def test_workloads_follow_share_among_those_that_hold_the_request(make_workload: MakeWorkload) -> None:
    workloads = [
        make_workload("any", share=1.0),
        make_workload("short", share=3.0, max_input_tokens=300, max_output_tokens=10_000),
        make_workload("never", share=0.0),
    ]
    trace = overlay(bare(), [], workloads, seed=2)
    names = np.array(trace.workloads)[trace.workload]
    short = trace.input_tokens <= 300
    assert short.any()
    assert not short.all()
    assert set(names[~short]) == {"any"}
    counts = np.array([np.sum(names[short] == "any"), np.sum(names[short] == "short")])
    assert chi_squared(counts, [1, 3]) < 10.8
    assert "never" not in names


def test_a_request_no_limit_holds_goes_to_the_widest(make_workload: MakeWorkload) -> None:
    workloads = [
        make_workload("small", max_input_tokens=10, max_output_tokens=10),
        make_workload("wide", max_input_tokens=20, max_output_tokens=5),
    ]
    trace = replace(bare(), input_tokens=np.full(len(bare()), 5000))
    assert set(np.array(overlay(trace, [], workloads, 3).workloads)) == {"wide"}


def test_a_request_no_limit_holds_prefers_workloads_without_limits(make_workload: MakeWorkload) -> None:
    workloads = [make_workload("idle", share=0.0), make_workload("tiny", max_input_tokens=2)]
    trace = replace(bare(), input_tokens=np.full(len(bare()), 5000))
    # a share of 0 is never drawn, so the limited one takes it
    assert overlay(trace, [], workloads, 3).workloads == ("tiny",)
    free = [*workloads, make_workload("free", share=2.0)]
    assert overlay(trace, [], free, 3).workloads == ("free",)


def test_tenants_share_a_workload_evenly(make_workload: MakeWorkload) -> None:
    trace = overlay(bare(), [], [make_workload("w", ("t1", "t2", "t3"))], seed=4)
    assert sorted(trace.tenants) == ["t1", "t2", "t3"]
    assert chi_squared(np.bincount(trace.tenant), [1, 1, 1]) < 13.8


def test_a_session_keeps_origin_tenant_and_workload(make_site: MakeSite, make_workload: MakeWorkload) -> None:
    sites = [make_site(f"s{n}", 100 + n) for n in range(20)]
    workloads = [make_workload("long", ("a", "b")), make_workload("short", ("c", "d"), max_input_tokens=900)]
    trace = overlay(bare(turns=5.0), sites, workloads, seed=5)
    for column in (trace.origin, trace.workload, trace.tenant):
        pairs = set(zip(trace.session.tolist(), column.tolist(), strict=True))
        assert len(pairs) == len(set(trace.session.tolist()))


def test_what_the_trace_says_stays(make_site: MakeSite, make_workload: MakeWorkload) -> None:
    plain = bare(turns=4.0)
    said = plain.session % 3 == 0
    given = replace(
        plain,
        origin=np.where(said & (np.arange(len(plain)) % 2 == 0), 0, UNSAID).astype(np.int32),
        origins=("mars",),
        workload=np.where(said, 0, UNSAID).astype(np.int32),
        workloads=("w2",),
    )
    workloads = [make_workload("w1", ("t1",)), make_workload("w2", ("t2",))]
    trace = overlay(given, [make_site("earth", 1)], workloads, seed=6)
    origins = np.array(trace.origins)[trace.origin]
    assert set(origins[given.origin == 0]) == {"mars"}
    tenants = np.array(trace.tenants)[trace.tenant]
    assert set(tenants[said]) == {"t2"}
    # a session that says its origin once has it throughout
    pairs = set(zip(trace.session.tolist(), origins.tolist(), strict=True))
    assert len(pairs) == len(set(trace.session.tolist()))


def test_an_unknown_workload_keeps_its_tenant_unsaid(make_workload: MakeWorkload) -> None:
    plain = bare()
    given = replace(plain, workload=np.zeros(len(plain), np.int32), workloads=("strange",))
    assert set(overlay(given, [], [make_workload("w")], 7).tenant.tolist()) == {UNSAID}


def test_the_first_part_of_a_trace_gets_the_same_overlay(make_site: MakeSite, make_workload: MakeWorkload) -> None:
    sites, workloads = [make_site("a", 1), make_site("b", 2)], [make_workload("w"), make_workload("v")]
    whole = overlay(bare(), sites, workloads, seed=8)
    part = overlay(cut(bare(), limit=1000), sites, workloads, seed=8)
    assert [whole.origins[n] for n in whole.origin[:1000]] == [part.origins[n] for n in part.origin]
    assert [whole.workloads[n] for n in whole.workload[:1000]] == [part.workloads[n] for n in part.workload]


def test_another_seed_gives_another_overlay(make_site: MakeSite) -> None:
    sites = [make_site("a", 1), make_site("b", 1)]
    one, two = overlay(bare(), sites, [], 1), overlay(bare(), sites, [], 2)
    assert np.mean(one.origin == two.origin) == pytest.approx(0.5, abs=0.02)


def test_the_order_of_the_grid_does_not_matter(make_site: MakeSite, make_workload: MakeWorkload) -> None:
    sites, workloads = [make_site("a", 1), make_site("b", 2)], [make_workload("w"), make_workload("v")]
    one = overlay(bare(), sites, workloads, 9)
    other = overlay(bare(), sites[::-1], workloads[::-1], 9)
    assert one.origin.tolist() == other.origin.tolist()
    assert one.workload.tolist() == other.workload.tolist()
