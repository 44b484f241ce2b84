"""Generated traces against the distributions they were asked for, and against themselves in another process."""

from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from gridctl.errors import UsageError
from gridctl.resources import Site, Workload
from gridctl.traces.generate import GenerateSpec, generate, generate_parts
from gridctl.traces.statistics import interarrival_cv, statistics
from gridctl.traces.trace import UNSAID, Trace

MakeSite = Callable[..., Site]
MakeWorkload = Callable[..., Workload]
SPEC = GenerateSpec(duration_s=1000.0, rate_rps=40.0)


def digest(trace: Trace) -> str:
    text = hashlib.sha256()
    for column in ("arrival_ns", "input_tokens", "output_tokens", "session", "origin", "block_offsets", "block_ids"):
        text.update(getattr(trace, column).tobytes())
    return text.hexdigest()


def test_poisson_arrivals_keep_their_rate_and_their_cv() -> None:
    trace = generate(SPEC, [], [], seed=1)
    assert len(trace) == pytest.approx(40_000, abs=4 * 200)  # four standard deviations of a Poisson count
    assert interarrival_cv(trace.arrival_ns) == pytest.approx(1.0, abs=0.02)
    assert statistics(trace).dispersion_1s == pytest.approx(1.0, abs=0.15)
    assert trace.arrival_ns[0] == 0


@pytest.mark.parametrize("cv", [0.0, 0.5, 3.0])
def test_gamma_gaps_keep_the_cv_asked_for(cv: float) -> None:
    trace = generate(replace(SPEC, arrival_cv=cv, block_tokens=0), [], [], seed=2)
    assert interarrival_cv(trace.arrival_ns) == pytest.approx(cv, rel=0.06, abs=1e-6)
    assert len(trace) == pytest.approx(40_000, abs=4 * 200 * max(cv, 0.01) + 1)


def test_lengths_keep_mean_and_95th_percentile() -> None:
    trace = generate(replace(SPEC, input_tokens=2000, output_tokens=300, p95_over_mean=3.0), [], [], seed=3)
    assert trace.input_tokens.mean() == pytest.approx(2000, rel=0.04)
    assert np.percentile(trace.input_tokens, 95) == pytest.approx(6000, rel=0.06)
    assert trace.output_tokens.mean() == pytest.approx(300, rel=0.04)


def test_origins_follow_population(make_site: MakeSite) -> None:
    sites = [make_site("b", 300), make_site("a", 100), make_site("c", 0), make_site("d", 600, tier="core")]
    trace = generate(SPEC, sites, [], seed=4)
    assert trace.origins == ("a", "b", "d")
    counts = np.bincount(trace.origin, minlength=3)
    expected = len(trace) * np.array([0.1, 0.3, 0.6])
    assert np.sum((counts - expected) ** 2 / expected) < 13.8  # chi-squared, 2 degrees of freedom, 0.1 %


def test_the_day_moves_with_longitude(make_site: MakeSite) -> None:
    sites = [make_site("greenwich", 1000, lon=0.0), make_site("noon", 1000, lon=180.0)]
    spec = replace(SPEC, duration_s=86_400.0, rate_rps=1.0, diurnal=0.8, peak_hour=20.0, block_tokens=0)
    trace = generate(spec, sites, [], seed=5)
    for origin, peak_utc in ((0, 20.0), (1, 8.0)):
        hours = trace.arrival_ns[trace.origin == origin] / 3.6e12
        # the mean direction of a density 1 + 0.8·cos(x − peak) is its peak, the mean length 0.8 / 2
        angle = hours / 24 * 2 * math.pi
        c, s = np.cos(angle).mean(), np.sin(angle).mean()
        assert math.hypot(c, s) == pytest.approx(0.4, abs=0.03)
        peak = math.atan2(s, c) / (2 * math.pi) * 24 % 24
        assert abs((peak - peak_utc + 12) % 24 - 12) < 0.4


def test_one_longitude_has_quiet_nights(make_site: MakeSite) -> None:
    spec = replace(SPEC, duration_s=86_400.0, rate_rps=1.0, diurnal=1.0, peak_hour=12.0, block_tokens=0)
    trace = generate(spec, [make_site("one", 5)], [], seed=6)
    per_hour = np.bincount((trace.arrival_ns // (3600 * 10**9)).astype(int), minlength=24)
    assert per_hour[11] + per_hour[12] > 30 * (per_hour[0] + per_hour[23])
    assert len(trace) == pytest.approx(86_400, abs=4 * 294)


def test_workloads_follow_share_and_keep_their_lengths_and_tenants(make_workload: MakeWorkload) -> None:
    workloads = [
        make_workload(
            "voice", ("t1", "t2"), share=3.0, mean_input_tokens=300, max_input_tokens=400, max_output_tokens=50
        ),
        make_workload("batch", ("t3",), share=1.0, mean_input_tokens=3000),
    ]
    trace = generate(SPEC, [], workloads, seed=7)
    voice = trace.workload == trace.workloads.index("voice")
    assert voice.mean() == pytest.approx(0.75, abs=0.01)
    assert trace.input_tokens[voice].max() <= 400
    assert trace.output_tokens[voice].max() <= 50
    assert trace.input_tokens[~voice].mean() == pytest.approx(3000, rel=0.05)
    tenants = np.array(trace.tenants)[trace.tenant]
    assert set(tenants[~voice]) == {"t3"}
    assert np.mean(tenants[voice] == "t1") == pytest.approx(0.5, abs=0.015)


def test_sessions_grow_and_share_what_was_said_before() -> None:
    trace = generate(
        replace(SPEC, duration_s=100.0, turns=4.0, turn_gap_s=5.0, system_blocks=2, block_tokens=16), [], [], 8
    )
    for session in range(50):
        rows = np.flatnonzero(trace.session == session)
        blocks = [trace.block_ids[trace.block_offsets[i] : trace.block_offsets[i + 1]].tolist() for i in rows]
        for before, after, row, following in zip(blocks, blocks[1:], rows, rows[1:], strict=False):
            assert after[: len(before)] == before
            assert trace.input_tokens[following] > trace.input_tokens[row] + trace.output_tokens[row]


def test_turns_come_about_the_gap_apart() -> None:
    trace = generate(replace(SPEC, turns=5.0, turn_gap_s=20.0, block_tokens=0), [], [], 9)
    # each of the 800 lanes cuts a session at the trace's end
    assert len(trace) / len(np.unique(trace.session)) == pytest.approx(40_000 / (8_000 + 800 * 0.8), rel=0.03)
    order = np.lexsort((trace.arrival_ns, trace.session))
    same = np.diff(trace.session[order]) == 0
    assert np.diff(trace.arrival_ns[order])[same].mean() / 1e9 == pytest.approx(20.0, rel=0.05)


def test_block_ids_are_prefixes_of_one_content(make_workload: MakeWorkload) -> None:
    workloads = [make_workload("a", ("x", "y")), make_workload("b", ("x",))]
    spec = replace(SPEC, duration_s=60.0, turns=2.0, prompts=20, system_blocks=3, block_tokens=16)
    trace = generate(spec, [], workloads, seed=10)
    place: dict[int, tuple[int, int]] = {}
    first: dict[tuple[int, int], set[int]] = {}
    for row in range(len(trace)):
        ids = trace.block_ids[trace.block_offsets[row] : trace.block_offsets[row + 1]].tolist()
        assert len(ids) == trace.input_tokens[row] // 16
        parent = -1
        for position, block in enumerate(ids):
            # an id stands at one place, behind one parent
            assert place.setdefault(block, (position, parent)) == (position, parent)
            parent = block
        first.setdefault((int(trace.workload[row]), int(trace.tenant[row])), set()).update(ids[:3])
    assert all(len(ids) == 3 for ids in first.values())
    assert len({block for ids in first.values() for block in ids}) == 3 * len(first)


def test_prompts_follow_zipf_and_are_the_same_prompt_each_time() -> None:
    spec = replace(SPEC, prompts=50, zipf=1.2, prompt_text=True, block_tokens=16)
    trace = generate(spec, [], [], seed=11)
    assert trace.prompts is not None
    rank = np.array([int(text.split()[-1]) for text in trace.prompts])
    weights = np.arange(1, 51) ** -1.2
    expected = len(trace) * weights / weights.sum()
    counts = np.bincount(rank, minlength=51)[1:]
    assert np.sum((counts - expected) ** 2 / expected) < 85.4  # chi-squared, 49 degrees of freedom, 0.1 %
    for chosen in (1, 2, 17):
        assert len(set(trace.input_tokens[rank == chosen].tolist())) == 1


def test_without_sites_or_workloads_nothing_is_said() -> None:
    trace = generate(replace(SPEC, duration_s=2.0), [], [], seed=12)
    for column in (trace.origin, trace.workload, trace.tenant, trace.model, trace.session):
        assert set(column.tolist()) == {UNSAID}
    assert trace.prompts is None


def test_a_seed_gives_the_same_trace_in_another_process() -> None:
    # the test's own digest, told again because the other process cannot import this file
    source = (
        "import hashlib\n"
        "from gridctl.traces.generate import GenerateSpec, generate\n"
        "spec = GenerateSpec(duration_s=50.0, rate_rps=20.0, turns=3.0, prompts=9, diurnal=0.5)\n"
        "trace = generate(spec, [], [], 13)\n"
        "text = hashlib.sha256()\n"
        "for c in ('arrival_ns','input_tokens','output_tokens','session','origin','block_offsets','block_ids'):\n"
        "    text.update(getattr(trace, c).tobytes())\n"
        "print(text.hexdigest())\n"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", source],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": salt},
        ).stdout.strip()
        for salt in ("0", "4711")
    }
    spec = GenerateSpec(duration_s=50.0, rate_rps=20.0, turns=3.0, prompts=9, diurnal=0.5)
    assert outputs == {digest(generate(spec, [], [], 13))}
    assert digest(generate(spec, [], [], 14)) not in outputs


@pytest.mark.parametrize(
    ("change", "flag"),
    [
        ({"rate_rps": 0.0}, "--rate"),
        ({"rate_rps": float("nan")}, "--rate"),
        ({"duration_s": -1.0}, "--duration"),
        ({"arrival_cv": -0.1}, "--arrival-cv"),
        ({"p95_over_mean": 9.0}, "--p95-over-mean"),
        ({"turns": 0.5}, "--turns"),
        ({"diurnal": 1.5}, "--diurnal"),
        ({"rate_rps": 1e7, "duration_s": 1e6}, "--rate"),
        ({"rate_rps": 1e-6, "duration_s": 1.0}, "--duration"),
    ],
)
def test_a_spec_out_of_range_names_its_flag(change: dict[str, float], flag: str) -> None:
    with pytest.raises(UsageError) as caught:
        generate(replace(SPEC, **change), [], [], 1)  # type: ignore[arg-type]
    assert caught.value.where == flag
    assert caught.value.fix


def test_a_long_trace_is_drawn_in_pieces_that_continue_each_other(
    monkeypatch: pytest.MonkeyPatch, make_site: MakeSite, make_workload: MakeWorkload
) -> None:
    monkeypatch.setattr("gridctl.traces.generate.MOST_AT_ONCE", 2_000)
    monkeypatch.setattr("gridctl.traces.generate.PIECE_REQUESTS", 1_000)
    spec = GenerateSpec(duration_s=500.0, rate_rps=10.0, turns=3.0, turn_gap_s=2.0, diurnal=0.5, start_hour=2.0)
    sites = [make_site("paris", 5), make_site("tokyo", 2)]
    workloads = [make_workload("chat", tenants=("a", "b")), make_workload("code", tenants=("b", "c"))]
    parts = list(generate_parts(spec, sites, workloads, 4))
    assert len(parts) == 5
    whole = generate(spec, sites, workloads, 4)
    assert abs(len(whole) - 5_000) < 300
    assert whole.arrival_ns[0] == 0
    assert np.all(np.diff(whole.arrival_ns) >= 0)
    assert abs(whole.duration_ns / 1e9 - 500) < 5
    assert [part.workloads for part in parts] == [whole.workloads] * 5
    # sessions of two pieces are different ones, and each keeps its tenant
    seen = [set(part.session.tolist()) for part in parts]
    assert sum(map(len, seen)) == len(set.union(*seen))
    # the two system blocks hang on workload and tenant alone, over all pieces; a block has one predecessor
    firsts: dict[tuple[int, int], set[tuple[int, ...]]] = {}
    before: dict[int, int] = {}
    for row in range(len(whole)):
        blocks = whole.block_ids[whole.block_offsets[row] : whole.block_offsets[row + 1]].tolist()
        if len(blocks) >= 2:
            firsts.setdefault((int(whole.workload[row]), int(whole.tenant[row])), set()).add(tuple(blocks[:2]))
        for one, other in zip([-1, *blocks], blocks, strict=False):
            assert before.setdefault(other, one) == one
    assert all(len(starts) == 1 for starts in firsts.values())
    assert len(set.union(*firsts.values())) == len(firsts) == 4
    assert whole.block_ids.max() < 4 * len(whole.block_ids)
    again = generate(spec, sites, workloads, 4)
    assert np.array_equal(again.block_ids, whole.block_ids)
    assert np.array_equal(again.arrival_ns, whole.arrival_ns)
