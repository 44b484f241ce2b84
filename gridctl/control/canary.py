"""Canary: what the workers counted, as samples of the sites that have a new version and of those that do not.

Decides who is compared with whom: sites of the same tiers that serve the same model, at the same time, first; any that
serve it, else; and where none is left, the same sites before the rollout began. Times are compared with those of sites
of the same tiers and GPUs only: of others a ratio says nothing of the version.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gridctl.broker.plan import Plan
from gridctl.resources import Cluster, Site
from gridctl.rollout.analysis import Sample
from gridctl.rollout.state import Rollout
from gridctl.signals.finished import EXPIRED, FAILED
from gridctl.signals.layout import BAD_AT, GOOD_AT
from gridctl.signals.series import Key, Series
from gridctl.signals.totals import Totals

BEFORE_S = 3600.0
Probes = Mapping[str, Mapping[str, float]]


class Counts(NamedTuple):
    """Requests of a site for a model since the board was made."""

    good: int = 0
    bad: int = 0
    failed: int = 0


class Reading(NamedTuple):
    """What was counted for a model until now, by site: requests, and TTFTs and TPOTs in cells of `buckets`."""

    counts: Mapping[str, Counts]
    ttft: Mapping[str, NDArray[np.int64]]
    tpot: Mapping[str, NDArray[np.int64]] = {}


def reading_of(totals: Totals, model: str) -> Reading:
    """One reading of the meters."""
    rows: dict[str, list[int]] = {}
    for row, backend in enumerate(totals.directory.backends):
        if backend.model == model and backend.site:
            rows.setdefault(backend.site, []).append(row)
    return Reading(
        counts_of(totals, model),
        {site: totals.place_ttft(places).counts for site, places in rows.items()},
        {site: totals.place_tpot(places).counts for site, places in rows.items()},
    )


def counts_of(totals: Totals, model: str) -> dict[str, Counts]:
    """Requests for a model by site, over all workloads and all of its variants."""
    counts = totals.engine_counts().sum(axis=0)
    found: dict[str, Counts] = {}
    for row, backend in enumerate(totals.directory.backends):
        if backend.model == model and backend.site:
            words, before = counts[row], found.get(backend.site, Counts())
            failed = int(words[FAILED] + words[EXPIRED])
            found[backend.site] = Counts(
                before.good + int(words[GOOD_AT]), before.bad + int(words[BAD_AT]), before.failed + failed
            )
    return found


def sample_of(sites: Collection[str], now: Reading, then: Reading, probes: Probes) -> Sample:
    """What was counted at these sites between two readings. A row that went to another engine meanwhile counts from
    nought."""
    good = bad = failed = 0
    for site in sites:
        late, early = now.counts.get(site, Counts()), then.counts.get(site, Counts())
        if any(after < before for after, before in zip(late, early, strict=True)):
            early = Counts()
        good += late.good - early.good
        bad += late.bad - early.bad
        failed += late.failed - early.failed
    known = {site: probes[site] for site in sites if site in probes}
    ttft, tpot = _between(sites, now.ttft, then.ttft), _between(sites, now.tpot, then.tpot)
    return Sample(valid=good + bad, bad=bad, failed=failed, sites=len(sites), ttft=ttft, tpot=tpot, probes=known)


_Times = Mapping[str, NDArray[np.int64]]


def _between(sites: Collection[str], now: _Times, then: _Times) -> tuple[int, ...]:
    """TTFTs or TPOTs of these sites between two readings, in cells."""
    parts = []
    for site in sites:
        late, early = now.get(site), then.get(site)
        if late is not None:
            parts.append(late if early is None or (late < early).any() else late - early)
    return tuple(np.sum(parts, axis=0).tolist()) if parts else ()


def canary_sites(rollout: Rollout) -> list[str]:
    """The sites of the wave that serve the version."""
    return [site.site for site in rollout.in_wave() if site.phase == "committed"]


def control_sites(rollout: Rollout, plan: Plan) -> list[str]:
    """The sites to compare with: they serve the model, and nothing of the rollout."""
    touched = {site.site for site in rollout.sites.values() if site.is_touched or site.has_it}
    others = sorted({one.site for one in plan.backends if one.model == rollout.model and one.site not in touched})
    tiers = {one.name: one.spec.tier for one in plan.resources if isinstance(one, Site)}
    wanted = {tiers.get(site) for site in canary_sites(rollout)}
    alike = [site for site in others if tiers.get(site) in wanted]
    return alike or others


def like_sites(rollout: Rollout, plan: Plan, others: Collection[str]) -> tuple[list[str], list[str]]:
    """Sites whose times may be compared: of the canary's sites, and of the others, those of one tier with the same
    GPUs. Of several such kinds the one with the most sites of the canary; nobody where there is none."""
    tiers = {one.name: one.spec.tier for one in plan.resources if isinstance(one, Site)}
    gpus: dict[str, set[str]] = {}
    for one in plan.resources:
        if isinstance(one, Cluster) and any(
            deployment.variant.partition("/")[0] == rollout.model for deployment in one.spec.deployments
        ):
            gpus.setdefault(one.spec.site, set()).add(one.spec.gpu)
    kinds: dict[tuple[str, tuple[str, ...]], tuple[list[str], list[str]]] = {}
    for place, sites in enumerate((canary_sites(rollout), sorted(others))):
        for site in sites:
            kind = tiers.get(site, ""), tuple(sorted(gpus.get(site, ())))
            kinds.setdefault(kind, ([], []))[place].append(site)
    both = [(len(here), kind) for kind, (here, there) in kinds.items() if here and there]
    return kinds[max(both)[1]] if both else ([], [])


def sample_before(rollout: Rollout, series: Series) -> Sample:
    """The canary's own sites in the hour before the rollout began: with nobody left to compare with, they are all
    there is. What failed then was not counted apart from what was bad."""
    good = bad = 0
    for site in canary_sites(rollout):
        found = series.between_times(Key("", site), rollout.created_s - BEFORE_S, rollout.created_s)
        good, bad = good + found.good, bad + found.bad
    return Sample(valid=good + bad, bad=bad, failed=bad, sites=len(canary_sites(rollout)))
