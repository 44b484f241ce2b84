"""Phases of a game day: who belongs to which, what they cost, and when a fault is over, by hand."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from gridctl.accounts.facts import EngineFacts, FaultFacts, Origin, RunInfo
from gridctl.accounts.losses import Loss, ranked
from gridctl.accounts.phases import game_day
from gridctl.accounts.rows import COMPLETED, FAILED, LOST, Run, empty_rows

NS = 1_000_000_000
ENGINE = EngineFacts(
    kind="gpu",
    cluster="c",
    site="paris",
    tier="edge",
    region="EU",
    model="m",
    variant="v",
    gpus=2,
    usd_per_gpu_hour=1.8,
)


def fault(at_s: int, until_s: int) -> FaultFacts:
    return FaultFacts(
        kind="lose",
        text="lose site paris",
        at_ns=at_s * NS,
        until_ns=until_s * NS,
        noticed_ns=until_s * NS,
        engines=1,
        sites=("paris",),
    )


def run(bad: set[int], *faults: FaultFacts, requests: int = 1000, name: str = "g") -> Run:
    """A request every second, ten tokens each; those of `bad` failed, all others are good."""
    rows = empty_rows(requests)
    rows.arrival_ns[:] = np.arange(requests) * NS
    rows.output_tokens[:] = 10
    rows.input_tokens[:] = 1
    for number in bad:
        rows.outcome[number], rows.reason[number] = FAILED, LOST
    good = int((rows.outcome == COMPLETED).sum())
    info = RunInfo(
        name=name,
        trace="t",
        policy="p",
        algorithm="grid",
        seed=1,
        created_ns=0,
        wall_s=0.0,
        requests=requests,
        completed=good,
        rejected=0,
        failed=requests - good,
        input_tokens=requests,
        output_tokens=10 * requests,
        window_ns=requests * NS,
        digest="",
        gridctl_version="",
        engines=(ENGINE,),
        origins=(Origin(name="paris", country="FR", region="EU", jurisdiction="EU"),),
        workloads={},
        workload_names=("chat",),
        tenant_names=("default",),
        faults=faults,
    )
    return Run(info, rows)


def test_every_request_is_in_one_phase_and_the_dollars_add_up() -> None:
    """1,000 s of two GPUs at 1.8 dollars an hour are a dollar: a third of one hour, 0.1 dollars for each 100 s."""
    (report,) = game_day(run(set(range(300, 310)), fault(300, 500)), None).faults
    assert [(one.phase, one.requests, one.good) for one in report.phases] == [
        ("before", 300, 300),
        ("during", 200, 190),
        ("after", 500, 500),
    ]
    assert [one.usd for one in report.phases] == pytest.approx([0.3, 0.2, 0.5])
    assert report.phases[1].usd_per_mtok_goodput == pytest.approx(0.2 / 1900 * 1e6)


def test_phases_end_where_the_next_fault_begins() -> None:
    one, other = game_day(run(set(), fault(100, 200), fault(400, 500)), None).faults
    assert [(part.from_s, part.until_s) for part in one.phases] == [(0, 100), (100, 200), (200, 400)]
    assert [(part.from_s, part.until_s) for part in other.phases] == [(200, 400), (400, 500), (500, 1000)]


def test_a_fault_is_over_with_the_first_request_whose_last_hundred_are_as_good_as_in_calm() -> None:
    """All are good but those from 300 to 309. One of a hundred may be bad, so the watched share is too low while it
    holds two of them or more: from request 301 until 408 has left … 407 holds 308 and 309, 408 holds only 309."""
    calm = run(set(), name="calm")
    (report,) = game_day(run(set(range(300, 310)), fault(300, 500)), calm).faults
    assert report.felt
    assert report.recovered_s == 408 - 300
    assert report.good_lost == 10


def test_a_fault_that_costs_one_request_is_not_felt_and_one_at_the_end_is_never_over() -> None:
    (light,) = game_day(run({350}, fault(300, 500)), None).faults
    (late,) = game_day(run(set(range(950, 1000)), fault(950, 990)), None).faults
    assert (light.felt, light.recovered_s) == (False, 0.0)
    assert (late.felt, late.recovered_s) == (True, None)


def test_what_is_bad_in_calm_too_is_not_the_fault_s_doing() -> None:
    bad = set(range(400, 440))
    (report,) = game_day(run(bad, fault(300, 500)), run(bad, name="calm")).faults
    assert not report.felt
    assert report.good_lost == 0


def test_a_calm_run_of_other_requests_is_no_calm_run() -> None:
    report = game_day(run(set(), fault(1, 2)), run(set(), requests=900, name="calm"))
    assert report.calm == ""
    assert report.faults[0].good_lost is None


def test_losses_are_ranked_by_good_requests_then_dollars() -> None:
    plain = Loss(site="a", tier="edge", region="EU", requests=5, replayed=True, good_lost=1, usd_more=0.0)
    dear = msgspec.structs.replace(plain, site="b", usd_more=2.0)
    worst = msgspec.structs.replace(plain, site="c", good_lost=2, usd_more=-1.0)
    assert [loss.site for loss in ranked([plain, dear, worst])] == ["c", "b", "a"]
