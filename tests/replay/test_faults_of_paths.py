"""Paths, telemetry, crowds and prices in replay: what is so at once, what the router learns later, and what is lost."""

from __future__ import annotations

import random

import numpy as np
import pytest
from smallgrids import cluster, gpu, make_grid, make_policy, make_trace, model, site, trace, workload

from gridctl.accounts.facts import FOREVER_NS
from gridctl.accounts.rows import COMPLETED, FAILED, LOST, OUTAGE, REJECTED
from gridctl.errors import InputError
from gridctl.grid.image import GridImage, build_image
from gridctl.network.jitter import JITTER_PPM
from gridctl.replay.digest import digest_rows
from gridctl.replay.origins import origins_of
from gridctl.replay.replay import Replayed, replay
from gridctl.replay.resolving import resolve_faults
from gridctl.resources import Link, LinkSpec, PolicySpec, PriceBook, PriceBookSpec, Resource
from gridctl.resources.gameday import (
    Blindness,
    Crowd,
    FaultSpec,
    GameDaySpec,
    Path,
    PriceChange,
    Slow,
    Whence,
    Where,
)
from gridctl.resources.policy import Telemetry
from gridctl.resources.resource import Metadata
from gridctl.traces.crowd import crowded
from gridctl.traces.trace import Trace

NS = 1_000_000_000
MS = 1_000_000
TWO = [site("paris"), site("lyon", lat=45.8, lon=4.8), cluster("p", "paris"), cluster("l", "lyon"), workload()]
ONE_EVERY_50_MS = [{"at_ms": 50 * number, "input": 120, "output": 10} for number in range(300)]
NEAREST = PolicySpec(algorithm="nearest")
FROM_PARIS = Whence(origin="paris")


def grid(*parts: Resource) -> GridImage:
    return build_image([gpu(), model(), *(parts or TWO)])


def play(
    image: GridImage, told: Trace, *faults: FaultSpec, policy: PolicySpec = NEAREST, after: str = "1s"
) -> Replayed:
    spec = GameDaySpec(faults=faults, noticed_after=after)
    origins = origins_of(image.view, told)
    found = resolve_faults(spec, image, origins=origins)
    for fault in found:
        if fault.kind == "crowd":
            told = crowded(told, fault.origins, fault.at_ns, fault.until_ns, fault.amount)
    found = resolve_faults(spec, image, origins=origins_of(image.view, told))
    return replay(image, told, policy, faults=found)


def longer(at: str, lasts: str, add_ms: float, to: str = "paris") -> FaultSpec:
    return FaultSpec(at=at, lasts=lasts, link=Path(whence=FROM_PARIS, to=Where(site=to), add_ms=add_ms))


def cut(at: str, lasts: str, to: str = "paris") -> FaultSpec:
    return FaultSpec(at=at, lasts=lasts, link=Path(whence=FROM_PARIS, to=Where(site=to), lost=True))


def served_at(result: Replayed, name: str) -> np.ndarray:
    sites = np.array([one.site for one in result.engines])
    return (sites[result.rows.engine] == name) & (result.rows.outcome == COMPLETED)


def test_a_longer_path_is_longer_at_once_and_left_when_the_router_knows() -> None:
    """From 5 s on 30 ms more to Paris, by which Lyon is nearer, but only from 6 s on does the router know."""
    calm = replay(grid(), trace(ONE_EVERY_50_MS), NEAREST)
    away = play(grid(), trace(ONE_EVERY_50_MS), longer("5s", "4s", 30.0))
    unknown = (away.rows.arrival_ns >= 5 * NS) & (away.rows.arrival_ns < 6 * NS)
    known = (away.rows.arrival_ns >= 6 * NS) & (away.rows.arrival_ns < 9 * NS)
    assert served_at(away, "paris")[unknown].all()
    assert served_at(away, "lyon")[known].all()
    assert served_at(away, "paris")[away.rows.arrival_ns >= 9 * NS].all()
    # Jitter stretches a round trip by at most what its own quantiles say.
    stretch = (away.rows.rtt_ns - calm.rows.rtt_ns)[unknown] / (30 * MS)
    assert stretch.min() >= 1 + min(JITTER_PPM) / 1e6
    assert stretch.max() <= 1 + max(JITTER_PPM) / 1e6
    before = away.rows.arrival_ns < 5 * NS
    assert np.array_equal(away.rows.rtt_ns[before], calm.rows.rtt_ns[before])


def test_what_is_under_way_on_a_path_that_is_lost_begins_again_elsewhere_when_it_is_noticed() -> None:
    """Lost at 1 s, noticed at 3 s: from there it takes what it would take alone in Lyon."""
    one = [{"at_ms": 0, "input": 100, "output": 200}]
    away = play(grid(), trace(one), cut("1s", "60s"), after="2s")
    from_lyon = grid(site("paris"), site("lyon", lat=45.8, lon=4.8), cluster("l", "lyon"), workload())
    there = replay(from_lyon, trace(one), NEAREST)
    for name in ("rtt_ns", "compute_ns", "decode_ns"):
        assert getattr(away.rows, name)[0] == getattr(there.rows, name)[0], name
    assert away.rows.queue_ns[0] == 3 * NS
    (fault,) = away.faults
    assert (fault.lost, fault.restarted, fault.failed, fault.begun) == (1, 1, 0, 1)
    paris = next(one for one in away.engines if one.site == "paris")
    alone = replay(grid(), trace(one), NEAREST)
    # The engine is not told: it finishes what nobody waits for.
    assert paris.busy_ns == next(one for one in alone.engines if one.site == "paris").busy_ns


def test_what_is_sent_on_a_lost_path_is_given_up_by_a_policy_that_gives_up() -> None:
    policy = PolicySpec(algorithm="nearest", on_loss="fail")
    result = play(grid(), trace(ONE_EVERY_50_MS), cut("5s", "4s"), policy=policy)
    failed = result.rows.outcome == FAILED
    (fault,) = result.faults
    assert fault.failed == fault.lost == failed.sum() >= 20
    assert set(result.rows.reason[failed]) == {LOST}
    sent = (result.rows.arrival_ns >= 5 * NS) & (result.rows.arrival_ns < 6 * NS)
    assert failed[sent].all()
    assert not failed[result.rows.arrival_ns >= 6 * NS].any()


def test_who_has_no_way_to_anybody_is_refused_until_there_is_one_again() -> None:
    image = grid(site("paris"), cluster("p", "paris"), workload())
    result = play(image, trace(ONE_EVERY_50_MS), cut("5s", "4s"))
    known = (result.rows.arrival_ns >= 6 * NS) & (result.rows.arrival_ns < 9 * NS)
    assert (result.rows.outcome[known] == REJECTED).all()
    assert set(result.rows.reason[known]) == {OUTAGE}
    assert (result.rows.outcome[result.rows.arrival_ns >= 9 * NS] == COMPLETED).all()


def test_only_those_who_come_from_there_lose_the_path() -> None:
    result = play(grid(), _from_both(), cut("5s", "4s", to="lyon"))
    lyon = np.array([origin.name == "lyon" for origin in result.origins])[result.rows.origin]
    assert served_at(result, "lyon")[lyon].all()
    assert served_at(result, "paris")[~lyon].all()


def _from_both() -> Trace:
    """Every second request comes from Lyon."""
    requests = [{**one, "origin": number % 2} for number, one in enumerate(ONE_EVERY_50_MS)]
    return trace(requests, origins=("paris", "lyon"))


def test_a_declared_link_fails_in_both_directions() -> None:
    link = Link(metadata=Metadata(name="paris-lyon"), spec=LinkSpec(source="paris", target="lyon", rtt_ms=7.0))
    image = grid(*TWO[:2], cluster("l", "lyon"), workload(), link)
    fault = FaultSpec(at="5s", lasts="4s", link=Path(between="paris-lyon", lost=True))
    result = play(image, _from_both(), fault)
    lyon = np.array([origin.name == "lyon" for origin in result.origins])[result.rows.origin]
    known = (result.rows.arrival_ns >= 6 * NS) & (result.rows.arrival_ns < 9 * NS)
    assert (result.rows.outcome[known & ~lyon] == REJECTED).all()
    assert (result.rows.outcome[known & lyon] == COMPLETED).all()


def test_a_path_changed_by_nothing_or_after_everything_changes_nothing() -> None:
    calm = replay(grid(), trace(ONE_EVERY_50_MS), PolicySpec())
    late = play(grid(), trace(ONE_EVERY_50_MS), cut("10d", "1s"), longer("20d", "1s", 9.0), policy=PolicySpec())
    assert digest_rows(late) == digest_rows(calm)
    away = play(grid(), trace(ONE_EVERY_50_MS), cut("3s", "5s", to="lyon"))  # where nobody is sent by `nearest`
    assert np.array_equal(away.rows.rtt_ns, replay(grid(), trace(ONE_EVERY_50_MS), NEAREST).rows.rtt_ns)


@pytest.mark.parametrize(("state", "shown"), [("stale", True), ("missing", False)])
def test_a_router_without_counters_of_its_own_goes_by_what_it_saw_last(state: str, shown: bool) -> None:
    """Two replicas in one place, by least load. Engine 0 holds a long answer. Seen, it is avoided; once what was seen
    is gone, it looks as idle as the other, and chance decides."""
    long = {"at_ms": 0, "input": 100, "output": 2000}
    short = [{"at_ms": 5000 + 100 * number, "input": 100, "output": 2} for number in range(20)]
    image = grid(site("paris"), cluster("p", "paris"), cluster("q", "paris"), workload())
    policy = PolicySpec(algorithm="least-loaded", telemetry=Telemetry(period_ms=100.0, delay_ms=0.0, in_flight="none"))
    blind = FaultSpec(at="3s", lasts="60s", telemetry=Blindness(state=state))
    rows = play(image, trace([long, *short]), blind, policy=policy).rows
    busy = rows.engine[0]
    assert (rows.engine[1:] != busy).all() == shown
    own = PolicySpec(algorithm="least-loaded", telemetry=Telemetry(period_ms=100.0, delay_ms=0.0))
    assert (play(image, trace([long, *short]), blind, policy=own).rows.engine[1:] != busy).all()


def test_stale_telemetry_herds_and_own_counters_do_not() -> None:
    """Forty at once on two replicas, of which one was last seen with one answer and the other idle: all go to that
    one, or half to each."""
    burst = [{"at_ms": 0, "input": 100, "output": 2000}]
    burst += [{"at_ms": 5000 + number, "input": 100, "output": 50} for number in range(40)]
    image = grid(site("paris"), cluster("p", "paris"), cluster("q", "paris"), workload())
    blind = FaultSpec(at="1s", lasts="60s", telemetry=Blindness())

    def share(in_flight: str) -> float:
        telemetry = Telemetry(period_ms=1.0, delay_ms=0.0, in_flight=in_flight)
        rows = play(image, trace(burst), blind, policy=PolicySpec(algorithm="least-loaded", telemetry=telemetry)).rows
        return float(np.bincount(rows.engine[1:], minlength=2).max() / 40)

    assert share("none") == 1.0
    assert share("local") <= 0.55


def test_a_crowd_adds_requests_and_leaves_those_that_were_there() -> None:
    told = _from_both()
    image = grid(*TWO)
    quiet = replay(image, told, NEAREST)
    fault = FaultSpec(at="5s", lasts="5s", crowd=Crowd(origin="lyon", times=3.0))
    result = play(image, told, fault)
    (facts,) = result.faults
    there = (told.arrival_ns >= 5 * NS) & (told.arrival_ns < 10 * NS) & (np.array(told.origins)[told.origin] == "lyon")
    assert facts.added == 2 * there.sum() == len(result.rows) - len(told)
    names = np.array([origin.name for origin in result.origins])[result.rows.origin]
    own = names != "lyon (crowd)"
    for name in ("arrival_ns", "input_tokens", "output_tokens", "rtt_ns"):
        assert np.array_equal(getattr(result.rows, name)[own], getattr(quiet.rows, name)), name
    added = result.rows.arrival_ns[~own]
    assert added.min() >= 5 * NS
    assert added.max() < 10 * NS


def test_the_router_goes_where_it_is_cheaper_once_prices_have_changed() -> None:
    """Two replicas at one price; from 5 s on the GPU-hour of the first is ten times as dear."""
    image = grid(site("paris"), cluster("p", "paris"), cluster("q", "paris"), workload(), _book())
    policy = PolicySpec(gpu_weight=1.0, miss_weight=0.0)
    # Of engines that cost the same the first is taken, so every request that meets nobody goes to the first.
    requests = [{"at_ms": 100 * number, "input": 120, "output": 60} for number in range(100)]
    fault = FaultSpec(at="5s", lasts="2s", price=PriceChange(of="gpu-hour", cluster="p", factor=10.0))
    calm, rows = replay(image, trace(requests), policy).rows, play(image, trace(requests), fault, policy=policy).rows
    dear = (rows.arrival_ns > 5 * NS) & (rows.arrival_ns < 7 * NS)
    assert np.array_equal(rows.engine[rows.arrival_ns < 5 * NS], calm.engine[calm.arrival_ns < 5 * NS])
    assert (rows.engine[dear] == 1).mean() > (calm.engine[dear] == 1).mean()


def _book() -> PriceBook:
    return PriceBook(metadata=Metadata(name="default"), spec=PriceBookSpec())


@pytest.mark.parametrize("case", range(30))
def test_whatever_fails_on_the_way_every_request_ends_once(case: int) -> None:
    """Random grids, policies, traces and faults of every kind; the same twice, in steps of one or in jumps."""
    pick = random.Random(case).randint
    resources = make_grid(pick)
    told = make_trace(pick, resources, 80)
    image = build_image(resources)
    span_ms = max(1, told.duration_ns // 1_000_000)
    sites = sorted({one.facts.site for one in image.engines if one.facts.kind in ("gpu", "serverless")})
    if not sites:
        pytest.skip("nobody in this grid can fail")
    origin = told.origins[pick(0, len(told.origins) - 1)]

    def when() -> dict[str, str]:
        return {"at": f"{pick(0, span_ms)}ms", "lasts": f"{pick(1, span_ms)}ms"}

    other = sites[pick(0, len(sites) - 1)]
    faults = [
        FaultSpec(
            **when(),
            link=Path(whence=Whence(origin=origin), to=Where(site=sites[0]), lost=True),
            noticed_after=f"{pick(0, span_ms)}ms",
        ),
        FaultSpec(**when(), telemetry=Blindness(site=other, state=("stale", "missing")[pick(0, 1)])),
        FaultSpec(**when(), crowd=Crowd(origin=origin, times=pick(11, 40) / 10)),
        FaultSpec(**when(), slow=Slow(site=other, factor=2.0)),
    ]
    if len(sites) > 1:
        path = Path(whence=Whence(origin=origin), to=Where(site=sites[1]), add_ms=float(pick(1, 99)))
        faults.append(FaultSpec(**when(), link=path))
    policy = make_policy(pick)
    spec = GameDaySpec(faults=tuple(faults))
    for fault in resolve_faults(spec, image, origins=origins_of(image.view, told)):
        if fault.kind == "crowd":
            told = crowded(told, fault.origins, fault.at_ns, fault.until_ns, fault.amount)
    found = resolve_faults(spec, image, origins=origins_of(image.view, told))
    result = replay(image, told, policy, faults=found)
    assert digest_rows(replay(image, told, policy, faults=found, longest_jump=1)) == digest_rows(result)
    rows = result.rows
    assert np.array_equal(rows.input_tokens, told.input_tokens)
    assert np.isin(rows.outcome, (COMPLETED, REJECTED, FAILED)).all()
    lost = sum(fault.lost for fault in result.faults)
    assert lost == sum(fault.restarted + fault.refused + fault.failed for fault in result.faults)
    assert (rows.reason == LOST).sum() == sum(fault.failed for fault in result.faults)
    busy = sum(e.busy_ns * max(1, e.gpus) for e in result.engines)
    assert busy >= int(rows.gpu_ns.sum() + rows.serverless_ns.sum())


@pytest.mark.parametrize(
    ("fault", "what"),
    [
        (FaultSpec(at="1s", lasts="1s", link=Path(whence=FROM_PARIS, to=Where(site="lyon"))), "lost or takes longer"),
        (FaultSpec(at="1s", lasts="1s", link=Path(whence=FROM_PARIS, lost=True)), "from clients to engines"),
        (FaultSpec(at="1s", lasts="1s", link=Path(between="paris-lyon", lost=True)), "no link paris-lyon"),
        (
            FaultSpec(at="1s", lasts="1s", link=Path(whence=Whence(origin="pari"), to=Where(site="lyon"), lost=True)),
            "no request of the trace comes from origin pari",
        ),
        (FaultSpec(at="1s", lasts="1s", crowd=Crowd(region="AS", times=2.0)), "comes from region AS"),
        (FaultSpec(at="1s", crowd=Crowd(origin="paris", times=2.0)), "does not say how long"),
        (FaultSpec(at="1s", price=PriceChange(of="api", site="paris", factor=2.0)), "stands at no place"),
        (FaultSpec(at="1s", price=PriceChange(of="serverless", factor=2.0)), "has a price of serverless"),
        (FaultSpec(at="1s", lasts="1s", telemetry=Blindness(site="paris", tier="edge")), "needs one place"),
    ],
)
def test_a_fault_that_cannot_be_is_refused(fault: FaultSpec, what: str) -> None:
    with pytest.raises(InputError, match=what):
        play(grid(), trace(ONE_EVERY_50_MS), fault)


def test_two_faults_of_one_path_telemetry_price_or_crowd_are_refused() -> None:
    pairs = [
        (cut("1s", "9s"), longer("5s", "1s", 9.0)),
        (cut("1s", "9s"), FaultSpec(at="2s", lasts="1s", lose=Where(site="paris"))),
        (
            FaultSpec(at="1s", lasts="9s", lose=Where(site="paris")),
            FaultSpec(at="5s", lasts="1s", telemetry=Blindness()),
        ),
        (
            FaultSpec(at="1s", price=PriceChange(of="egress", factor=2.0)),
            FaultSpec(at="9s", price=PriceChange(of="egress", tier="edge", factor=3.0)),
        ),
        (
            FaultSpec(at="1s", lasts="9s", crowd=Crowd(origin="paris", times=2.0)),
            FaultSpec(at="2s", lasts="1s", crowd=Crowd(country="FR", times=3.0)),
        ),
    ]
    for pair in pairs:
        with pytest.raises(InputError, match="begins while"):
            play(grid(), trace(ONE_EVERY_50_MS), *pair)
    apart = play(
        grid(),
        trace(ONE_EVERY_50_MS),
        longer("1s", "9s", 3.0),
        FaultSpec(at="2s", lasts="1s", lose=Where(site="paris")),
        FaultSpec(at="1s", price=PriceChange(of="egress", factor=2.0)),
        FaultSpec(at="1s", price=PriceChange(of="gpu-hour", factor=2.0)),
        FaultSpec(at="2s", lasts="1s", slow=Slow(site="lyon", factor=2.0)),
        FaultSpec(at="2s", lasts="1s", telemetry=Blindness(site="lyon")),
    )
    assert [fault.until_ns == FOREVER_NS for fault in apart.faults] == [False, False, True, True, False, False]
