"""Faults in replay: everything is conserved, nothing serves what is lost, and nobody who is not hit notices."""

from __future__ import annotations

import itertools
import random
import re

import numpy as np
import pytest
from smallgrids import cluster, deployment, gpu, make_grid, make_policy, make_trace, model, site, trace, workload

from gridctl.accounts.rows import COMPLETED, FAILED, LOST, OUTAGE, REJECTED
from gridctl.engine.state import GPU
from gridctl.errors import InputError
from gridctl.grid.candidates import revised
from gridctl.grid.image import GridImage, build_image
from gridctl.replay.classes import find_classes
from gridctl.replay.digest import digest_rows
from gridctl.replay.origins import resolve_origins
from gridctl.replay.replay import Replayed, candidates_of, replay
from gridctl.replay.resolving import resolve_faults
from gridctl.replay.script import without
from gridctl.resources import PolicySpec, Resource, Site
from gridctl.resources.gameday import Brownout, FaultSpec, GameDaySpec, Slow, Where

NS = 1_000_000_000
TWO = [site("paris"), site("lyon", lat=45.8, lon=4.8), cluster("p", "paris"), cluster("l", "lyon"), workload()]
ONE_EVERY_50_MS = [{"at_ms": 50 * number, "input": 120, "output": 10} for number in range(300)]


def grid(*parts: Resource) -> GridImage:
    return build_image([gpu(), model(), *(parts or TWO)])


def play(
    image: GridImage,
    requests: list[dict],
    *faults: FaultSpec,
    policy: PolicySpec | None = None,
    after: str = "1s",
    block_tokens: int = 0,
) -> Replayed:
    found = resolve_faults(GameDaySpec(faults=faults, noticed_after=after), image) if faults else ()
    return replay(image, trace(requests, block_tokens=block_tokens), policy or PolicySpec(), faults=found)


def lose(at: str, lasts: str, **where: str) -> FaultSpec:
    return FaultSpec(at=at, lasts=lasts, lose=Where(**where))


def test_a_fault_long_after_the_last_token_changes_nothing() -> None:
    """Cut, drained and scaled otherwise, but the same to the bit."""
    calm = play(grid(), ONE_EVERY_50_MS)
    slow = FaultSpec(at="30d", lasts="1s", slow=Slow(site="paris", factor=3.0))
    late = play(grid(), ONE_EVERY_50_MS, lose("10d", "1s", site="lyon"), slow)
    assert digest_rows(late) == digest_rows(calm)
    assert [note for note in late.notes if "after the last request" in note] == [
        "lose site lyon begins after the last request",
        "slow site paris × 3 begins after the last request",
    ]


def test_a_slow_down_by_one_in_the_middle_changes_no_time() -> None:
    """Runs of decodes are cut where the pace changes; the pace is the same, so every time must be.

    Shares are rounded once more at the cut: a picosecond times the steps."""
    calm = play(grid(), ONE_EVERY_50_MS, policy=PolicySpec(algorithm="nearest"))
    slow = FaultSpec(at="3s", lasts="5s", slow=Slow(tier="edge", factor=1.0))
    same = play(grid(), ONE_EVERY_50_MS, slow, policy=PolicySpec(algorithm="nearest"))
    for name in ("engine", "outcome", "queue_ns", "compute_ns", "decode_ns", "cached_tokens", "preemptions"):
        assert np.array_equal(getattr(same.rows, name), getattr(calm.rows, name)), name
    assert np.abs(same.rows.gpu_ns - calm.rows.gpu_ns).max() <= 1


def test_a_request_alone_takes_twice_as_long_on_an_engine_half_as_fast() -> None:
    """Within a nanosecond for each of its ten steps, because times are whole."""
    one = [{"at_ms": 5000, "input": 100, "output": 10}]
    image = grid(site("paris"), cluster("p", "paris"), workload())
    calm = play(image, one)
    slow = play(image, one, FaultSpec(at="1s", lasts="60s", slow=Slow(site="paris", factor=2.0)))
    assert abs(slow.rows.compute_ns[0] - 2 * calm.rows.compute_ns[0]) <= 10
    assert abs(slow.rows.decode_ns[0] - 2 * calm.rows.decode_ns[0]) <= 10


def test_the_step_in_flight_ends_as_planned_when_the_engine_slows_down() -> None:
    """The prefill takes 17 ms from its arrival, 5 ms and some after 5 s; from 5.015 s on all is ten times slower."""
    one = [{"at_ms": 5000, "input": 100, "output": 10}]
    image = grid(site("paris"), cluster("p", "paris"), workload())
    calm = play(image, one)
    slow = play(image, one, FaultSpec(at="5.015s", lasts="60s", slow=Slow(site="paris", factor=10.0)))
    assert calm.rows.compute_ns[0] > 1_000_000
    assert slow.rows.compute_ns[0] == calm.rows.compute_ns[0]
    assert abs(slow.rows.decode_ns[0] - 10 * calm.rows.decode_ns[0]) <= 100


def test_what_is_lost_with_a_site_starts_again_elsewhere_when_it_is_noticed() -> None:
    """A long answer in Paris, lost at 1 s, noticed at 3 s: from there it takes what it would take alone in Lyon."""
    one = [{"at_ms": 0, "input": 100, "output": 200}]
    policy = PolicySpec(algorithm="nearest")
    away = play(grid(), one, lose("1s", "60s", site="paris"), policy=policy, after="2s")
    from_lyon = grid(site("paris"), site("lyon", lat=45.8, lon=4.8), cluster("l", "lyon"), workload())
    there = play(from_lyon, one, policy=policy)
    assert away.engines[away.rows.engine[0]].site == "lyon"
    assert away.rows.rtt_ns[0] == there.rows.rtt_ns[0]
    assert away.rows.compute_ns[0] == there.rows.compute_ns[0]
    assert away.rows.decode_ns[0] == there.rows.decode_ns[0]
    assert away.rows.queue_ns[0] == 3 * NS
    (fault,) = away.faults
    assert (fault.lost, fault.restarted, fault.failed, fault.begun) == (1, 1, 0, 1)


def test_a_policy_may_give_lost_requests_up() -> None:
    result = play(
        grid(), ONE_EVERY_50_MS, lose("5s", "4s", site="paris"), policy=PolicySpec(algorithm="nearest", on_loss="fail")
    )
    failed = result.rows.outcome == FAILED
    (fault,) = result.faults
    assert fault.failed == fault.lost == failed.sum() > 0
    assert set(result.rows.reason[failed]) == {LOST}
    # What was sent there between the loss and its notice is lost, and nothing else but what was in flight.
    arrived = result.rows.arrival_ns[failed]
    assert arrived.max() < 6 * NS
    assert (result.rows.outcome[(result.rows.arrival_ns >= 5 * NS) & (result.rows.arrival_ns < 6 * NS)] == FAILED).all()


def test_a_request_fails_when_it_was_lost_as_often_as_the_policy_bears() -> None:
    one = [{"at_ms": 0, "input": 100, "output": 2000}]
    twice = (lose("1s", "10s", site="paris"), lose("20s", "10s", site="paris"))
    image = grid(site("paris"), cluster("p", "paris"), workload())
    # The loss is over before it is noticed, so the request starts again where it was.
    for retries, outcome in ((2, COMPLETED), (1, FAILED), (0, FAILED)):
        result = play(image, one, *twice, policy=PolicySpec(retries=retries), after="60s")
        assert result.rows.outcome[0] == outcome, retries


def test_nothing_is_sent_to_a_site_known_to_be_lost_and_its_users_are_refused_where_there_is_no_other() -> None:
    image = grid(site("paris"), cluster("p", "paris"), workload())
    result = play(image, ONE_EVERY_50_MS, lose("5s", "4s", site="paris"))
    known = (result.rows.arrival_ns >= 6 * NS) & (result.rows.arrival_ns < 9 * NS)
    assert (result.rows.outcome[known] == REJECTED).all()
    assert set(result.rows.reason[known]) == {OUTAGE}
    assert (result.rows.outcome[result.rows.arrival_ns >= 9 * NS] == COMPLETED).all()


def test_an_engine_comes_back_with_a_cold_cache() -> None:
    """The same prompt three times: the second finds it cached, the third comes after a loss."""
    shared = {"input": 64, "output": 2, "blocks": [1, 2, 3, 4]}
    requests = [{"at_ms": at, **shared} for at in (0, 2000, 20_000)]
    image = grid(site("paris"), cluster("p", "paris"), workload())
    cached = play(image, requests, lose("5s", "5s", site="paris"), block_tokens=16).rows.cached_tokens
    assert cached[0] == cached[2] == 0
    assert cached[1] > 0


def test_fewer_seats_run_fewer_requests_at_once() -> None:
    """Ten requests at once on one of four seats: each waits for all before it."""
    requests = [{"at_ms": 10_000, "input": 100, "output": 20} for _ in range(10)]
    image = grid(site("paris"), cluster("p", "paris", deployment(max_num_seqs=4)), workload())
    fault = FaultSpec(at="1s", lasts="100s", brownout=Brownout(cluster="p", keep=0.3))
    rows = play(image, requests, fault).rows
    arrived = rows.arrival_ns + rows.rtt_ns // 2
    spans = sorted(
        (int(start), int(start + busy))
        for start, busy in zip(arrived + rows.queue_ns, rows.compute_ns + rows.decode_ns, strict=True)
    )
    assert all(later[0] >= earlier[1] for earlier, later in itertools.pairwise(spans))


@pytest.mark.parametrize("case", range(40))
def test_whatever_fails_every_request_ends_once_and_gpu_time_is_conserved(case: int) -> None:
    """Random grids, policies and faults, some of them overlapping in time: the same twice, cut small or not."""
    pick = random.Random(case).randint
    resources = make_grid(pick)
    told = make_trace(pick, resources, 80)
    image = build_image(resources)
    policy = make_policy(pick)
    sites = [resource.name for resource in resources if isinstance(resource, Site)]
    span_ms = max(1, told.duration_ns // 1_000_000)
    faults = []
    for name in sites:
        at, lasts = pick(0, span_ms), pick(1, span_ms)
        word = {"at": f"{at}ms", "lasts": f"{lasts}ms"}
        kind = pick(0, 3)
        if kind == 0:
            faults.append(FaultSpec(**word, slow=Slow(site=name, factor=pick(5, 40) / 10)))
        elif kind == 1 and any(one.spec.kind == GPU and one.facts.site == name for one in image.engines):
            faults.append(FaultSpec(**word, brownout=Brownout(site=name, keep=pick(1, 10) / 10)))
        else:
            faults.append(FaultSpec(**word, lose=Where(site=name), noticed_after=f"{pick(0, span_ms)}ms"))
    hit = {one.facts.site for one in image.engines if one.facts.kind in ("gpu", "serverless")}
    faults = [one for one in faults if (one.slow or one.brownout or one.lose).site in hit]
    if not faults:
        pytest.skip("nobody in this grid can fail")
    found = resolve_faults(GameDaySpec(faults=tuple(faults)), image)
    result = replay(image, told, policy, faults=found)
    assert digest_rows(replay(image, told, policy, faults=found, longest_jump=1)) == digest_rows(result)
    rows = result.rows
    assert np.array_equal(rows.input_tokens, told.input_tokens)
    assert np.isin(rows.outcome, (COMPLETED, REJECTED, FAILED)).all()
    lost = sum(fault.lost for fault in result.faults)
    assert lost == sum(fault.restarted + fault.refused + fault.failed for fault in result.faults)
    assert (rows.reason == LOST).sum() == sum(fault.failed for fault in result.faults)
    busy = sum(e.busy_ns * max(1, e.gpus) for e in result.engines)
    spent = int(rows.gpu_ns.sum() + rows.serverless_ns.sum()) + sum(fault.gpu_ns for fault in result.faults)
    # Remainders of shares are carried, and lost with an engine: a picosecond a token at most.
    assert 0 <= busy - spent <= len(rows) * 20 + int(rows.output_tokens.sum())


@pytest.mark.parametrize(
    ("faults", "what", "fix"),
    [
        ([lose("1s", "1s", site="pari")], "the grid has no site pari", "did you mean paris?"),
        ([lose("1s", "1s", region="AS")], "region AS has no engine", ""),
        ([lose("1s", "0s", site="paris")], "lasts no time", "for: 5m"),
        ([lose("1s", "1s", site="paris", tier="edge")], "needs one place, not site and tier", "one of"),
        (
            [FaultSpec(at="1s", lasts="1s")],
            "link, telemetry, crowd, price, not none",
            "lose",
        ),
        (
            [lose("1s", "5s", site="paris"), FaultSpec(at="3s", lasts="1s", slow=Slow(tier="edge", factor=2.0))],
            "slow tier edge × 2 begins while lose site paris holds p",
            "let one end",
        ),
    ],
)
def test_a_game_day_that_cannot_be_is_refused(faults: list[FaultSpec], what: str, fix: str) -> None:
    with pytest.raises(InputError, match=re.escape(what)) as raised:
        resolve_faults(GameDaySpec(faults=tuple(faults)), grid())
    assert fix in (raised.value.fix or "")


def test_a_fault_may_begin_the_moment_another_ends() -> None:
    one, other = lose("5s", "2s", site="paris"), FaultSpec(at="7s", lasts="2s", slow=Slow(site="paris", factor=2.0))
    assert (play(grid(), ONE_EVERY_50_MS, other, one).rows.outcome == COMPLETED).all()


@pytest.mark.parametrize("case", range(20))
def test_candidates_without_lost_engines_are_those_found_anew(case: int) -> None:
    """Only lists that held a lost engine are found again; all must be what finding every one again gives."""
    pick = random.Random(case).randint
    resources = make_grid(pick)
    image = build_image(resources)
    told = make_trace(pick, resources, 40)
    policy = PolicySpec(candidates=pick(1, 4))
    lost = frozenset(number for number in range(len(image.engines)) if image.engines[number].spec.kind == GPU)
    kept = {image.engines[number].facts.site for number in sorted(lost)[: pick(0, 2)]}
    lost = frozenset(number for number in lost if image.engines[number].facts.site not in kept)
    faults = [lose("1ms", "1s", site=name) for name in sorted({image.engines[number].facts.site for number in lost})]
    if not faults:
        pytest.skip("nobody is lost")
    found = resolve_faults(GameDaySpec(faults=tuple(faults), noticed_after="0s"), image)
    gone = frozenset(number for fault in found for number in fault.engines)
    fresh = candidates_of(without(image, gone), told, policy)
    lists = candidates_of(image, told, policy)
    places, origins = resolve_origins(image.view, told)
    specs = [image.view.workloads[name].spec for name in told.workloads]
    described = find_classes(told).described(told, specs, policy)
    again = revised(lists, np.array(sorted(gone)), without(image, gone), places, origins, described, policy.candidates)
    for place in np.ndindex(fresh.of.shape):
        one, other = fresh.of[place], again.of[place]
        engines = [
            some.engine[some.offset[number] : some.offset[number + 1]].tolist()
            for some, number in ((fresh, one), (again, other))
        ]
        assert engines[0] == engines[1]
        assert fresh.reason[one] == again.reason[other]
