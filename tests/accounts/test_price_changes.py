"""Dollars of runs whose prices changed meanwhile, and tables of their phases, by hand."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
import pytest

from gridctl.accounts.facts import FOREVER_NS, EngineFacts, FaultFacts
from gridctl.accounts.phased import phased
from gridctl.accounts.phases import game_day
from gridctl.accounts.rows import Run
from gridctl.accounts.series import series
from gridctl.accounts.tokenomics import tokenomics
from gridctl.accounts.usd import egress_usd, gpu_busy_usd, ledger, request_usd
from gridctl.errors import InputError, UsageError

NS = 1_000_000_000
HOUR_S = 3600.0
ENGINE = EngineFacts(
    kind="gpu",
    cluster="c",
    site="s",
    tier="edge",
    region="EU",
    model="m",
    variant="v",
    gpus=2,
    usd_per_gpu_hour=3600.0,  # a dollar a GPU-second
    egress_usd_per_gb=1e9 / 4,  # a dollar a token
)


def change(what: str, factor: float, at_s: float, until_s: float | None) -> FaultFacts:
    until_ns = FOREVER_NS if until_s is None else round(until_s * NS)
    return FaultFacts(
        kind="price",
        text=f"price of {what}",
        at_ns=round(at_s * NS),
        until_ns=until_ns,
        noticed_ns=round(at_s * NS),
        engines=1,
        sites=("s",),
        amount=factor,
        what=what,
        priced=(0,),
    )


@pytest.fixture
def dear(make_run: Callable[..., Run]) -> Callable[..., Run]:
    """Ten seconds; one request from 2 s to 6 s with 4 GPU-seconds and ten tokens; prices as told."""

    def build(*changes: FaultFacts) -> Run:
        request = {"engine": 0, "arrival_ms": 0, "output_tokens": 10, "input_tokens": 5}
        late = {"queue_ms": 2000, "compute_ms": 1000, "decode_ms": 3000, "gpu_ms": 4000}
        run = make_run([{**request, **late}], engines=[ENGINE], window_s=10.0)
        return Run(msgspec.structs.replace(run.info, faults=changes), run.rows)

    return build


def paid(run: Run) -> float:
    spent = ledger(run)
    return float((spent.gpu_busy_usd + spent.gpu_idle_usd).sum() + sum(part.gpu_idle_usd for part in spent.stranded))


def test_owned_gpus_cost_what_they_cost_at_each_moment(dear: Callable[..., Run]) -> None:
    """2 GPUs for 10 s are 20 dollars; three times that for the last 5 s are 10 + 30."""
    assert paid(dear()) == pytest.approx(20.0)
    assert paid(dear(change("gpu-hour", 3.0, 5.0, None))) == pytest.approx(40.0)
    assert paid(dear(change("gpu-hour", 3.0, 5.0, 7.0))) == pytest.approx(28.0)
    assert paid(dear(change("gpu-hour", 0.0, 0.0, None))) == pytest.approx(0.0)


def test_a_request_pays_the_mean_price_of_its_time(dear: Callable[..., Run]) -> None:
    """On its engine from 2 s to 6 s, one of the four seconds at three times the price: 4 × 1.5."""
    assert gpu_busy_usd(dear())[0] == pytest.approx(4.0)
    assert gpu_busy_usd(dear(change("gpu-hour", 3.0, 5.0, None)))[0] == pytest.approx(6.0)
    assert gpu_busy_usd(dear(change("gpu-hour", 3.0, 6.0, None)))[0] == pytest.approx(4.0)
    assert egress_usd(dear(change("egress", 5.0, 0.0, 4.0)))[0] == pytest.approx(10 * (1 + 4 * 0.5))
    assert request_usd(dear(change("serverless", 5.0, 0.0, None)))[0] == pytest.approx(14.0)


def test_every_table_over_time_agrees_on_the_dollars(dear: Callable[..., Run]) -> None:
    run = dear(change("gpu-hour", 3.0, 5.0, 7.0))
    assert sum(series(run, most_bins=10).gpu_usd) == pytest.approx(28.0)
    (fault,) = game_day(run, None).faults
    # 5 s at 2 dollars and the egress; 2 s at 6; 3 s at 2.
    assert [phase.usd for phase in fault.phases] == pytest.approx([10.0 + 10.0, 12.0, 6.0])


def test_phases_are_tables_of_their_own(make_run: Callable[..., Run]) -> None:
    """Faults from 2 s to 4 s and from 6 s to 7 s of ten; a request a second, on the half second."""
    requests = [{"engine": 0, "arrival_ms": 1000 * number, "output_tokens": 2} for number in range(10)]
    run = make_run(requests, engines=[ENGINE], window_s=10.0)
    faults = (change("egress", 1.0, 6.0, 7.0), change("egress", 1.0, 2.0, 4.0))
    run = Run(msgspec.structs.replace(run.info, faults=faults), run.rows)
    found = {phase: phased(run, phase) for phase in ("before", "during", "after")}
    arrivals = {phase: (part.rows.arrival_ns // NS).tolist() for phase, part in found.items()}
    assert arrivals == {"before": [0, 1], "during": [2, 3, 6], "after": [4, 5, 7, 8, 9]}
    assert [part.info.window_ns // NS for part in found.values()] == [2, 3, 5]
    assert sum(tokenomics(part).total.usd for part in found.values()) == pytest.approx(tokenomics(run).total.usd)
    # Of a run without faults, the phases of another's.
    calm = Run(msgspec.structs.replace(run.info, faults=()), run.rows)
    assert np.array_equal(phased(calm, "during", run).rows.arrival_ns, found["during"].rows.arrival_ns)
    with pytest.raises(InputError, match="no phases"):
        phased(calm, "during")
    with pytest.raises(UsageError, match="no phase"):
        phased(run, "durin")
