"""Losses: what the loss of one site costs, and losses ranked by harm: good requests lost first, dollars next."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import numpy as np

from gridctl.accounts.by_place import site_name
from gridctl.accounts.phases import GameDayReport
from gridctl.accounts.rows import COMPLETED, Run

USD_DIGITS = 9
"""Sums of dollars in another order differ beyond these digits."""


class Loss(msgspec.Struct, frozen=True, kw_only=True):
    """One site lost, or one region (`site` is then empty), beside the run in which it is not. The requests it served
    there are `requests`; what served nobody is not replayed, because its loss changes nothing."""

    site: str
    tier: str
    region: str
    requests: int
    replayed: bool
    good_lost: int = 0
    restarted: int = 0
    failed: int = 0
    rejected: int = 0
    attainment: float | None = None  # of requests during the loss
    calm_attainment: float | None = None
    usd_more: float = 0.0
    felt: bool = False
    recovered_s: float | None = 0.0


class Serving(msgspec.Struct, frozen=True, kw_only=True):
    """A site that could serve, and how many requests it did serve."""

    site: str
    tier: str
    region: str
    requests: int


def serving_sites(calm: Run) -> tuple[Serving, ...]:
    """Every site with engines or functions, by name, and what it served."""
    rows, engines = calm.rows, calm.info.engines
    served = np.bincount(rows.engine[(rows.outcome == COMPLETED) & (rows.engine >= 0)], minlength=len(engines))
    found: dict[str, Serving] = {}
    for engine, count in zip(engines, served.tolist(), strict=True):
        if engine.kind in ("gpu", "serverless"):
            name = site_name(engine)
            before = found[name].requests if name in found else 0
            found[name] = Serving(site=name, tier=engine.tier, region=engine.region, requests=before + count)
    return tuple(found[name] for name in sorted(found))


def serving_regions(calm: Run) -> tuple[Serving, ...]:
    """Every region with engines or functions, by name, and what its sites served; it has neither site nor tier."""
    found: dict[str, int] = {}
    for site in serving_sites(calm):
        found[site.region] = found.get(site.region, 0) + site.requests
    return tuple(Serving(site="", tier="", region=name, requests=found[name]) for name in sorted(found))


def loss_of(site: Serving, report: GameDayReport) -> Loss:
    """What came of losing the site, from the report of a game day that is that loss alone."""
    (fault,) = report.faults
    during = fault.phases[1]
    return Loss(
        site=site.site,
        tier=site.tier,
        region=site.region,
        requests=site.requests,
        replayed=True,
        good_lost=(report.calm_good or 0) - report.good,
        restarted=fault.fault.restarted,
        failed=report.failed,
        rejected=report.rejected,
        attainment=during.attainment,
        calm_attainment=during.calm_attainment,
        usd_more=round(report.usd - (report.calm_usd or 0.0), USD_DIGITS),
        felt=fault.felt,
        recovered_s=fault.recovered_s,
    )


def ranked(losses: Iterable[Loss]) -> tuple[Loss, ...]:
    """The most harmful first: by good requests lost, then dollars, then the requests it served."""
    return tuple(
        sorted(losses, key=lambda loss: (-loss.good_lost, -loss.usd_more, -loss.requests, loss.site, loss.region))
    )
