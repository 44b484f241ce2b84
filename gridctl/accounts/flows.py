"""Flows: where requests came from and where they were served, and what spilled over from the site next to them.

The home of an origin's requests of one workload is, of the sites that served any of them, the one with the smallest
mean round trip: it has the model, may serve them and is near. What was served elsewhere spilled over, for lack of room
there or because elsewhere was cheaper. Round trips hold jitter, so of two sites equally near either may be called home.
Refused and failed requests that no engine took flow nowhere.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from gridctl.accounts.by_place import site_name
from gridctl.accounts.goodness import judge
from gridctl.accounts.groups import grouped, labels
from gridctl.accounts.rows import COMPLETED, Run
from gridctl.units import NS_PER_MS


class Flow(msgspec.Struct, frozen=True, kw_only=True):
    """Requests of one origin (its region, or its country where all come from one region) served in one tier."""

    origin: str
    tier: str  # "-" where no engine took the request
    region: str  # of the engine; "-" likewise
    requests: int
    good: int


class Spill(msgspec.Struct, frozen=True, kw_only=True):
    """Requests whose home is one site and that another one served."""

    home: str
    site: str
    requests: int
    good: int
    extra_rtt_ms: float  # mean round trip less that of the same origins and workloads to their home


class Flows(msgspec.Struct, frozen=True, kw_only=True):
    """`items` add up to all requests; `spills`, largest first, to `spilled` of the `served` ones."""

    told_apart_by: str  # region or country
    items: tuple[Flow, ...]
    served: int
    spilled: int
    spills: tuple[Spill, ...]


def flows(run: Run) -> Flows:
    """The flows of a run. O(n log n)."""
    rows, engines, origins = run.rows, run.info.engines, run.info.origins
    good = judge(run).good
    by_country = len({origin.region for origin in origins}) <= 1
    columns = [
        labels([origin.country if by_country else origin.region for origin in origins], rows.origin),
        labels([engine.tier for engine in engines], rows.engine),
        labels([engine.region for engine in engines], rows.engine),
    ]
    items = []
    for group in grouped(columns, len(rows)):
        origin, tier, region = group.key
        well = int(good[group.members].sum())
        items.append(Flow(origin=origin, tier=tier, region=region, requests=len(group.members), good=well))
    spills, served = _spills(run, good)
    return Flows(
        told_apart_by="country" if by_country else "region",
        items=tuple(items),
        served=served,
        spilled=sum(spill.requests for spill in spills),
        spills=spills,
    )


def _spills(run: Run, good: NDArray[np.bool_]) -> tuple[tuple[Spill, ...], int]:
    """Completed requests served away from home, by home and site, most first; and how many were completed at all."""
    rows = run.rows
    members = np.flatnonzero((rows.outcome == COMPLETED) & (rows.engine >= 0))
    if not len(members):
        return (), 0
    sites = labels([site_name(engine) for engine in run.info.engines], rows.engine[members])
    n_sites, n_workloads = len(sites.names), len(run.info.workload_names) + 1
    classes = rows.origin[members].astype(np.int64) * n_workloads + rows.workload[members]
    keys, group_of, counts = np.unique(classes * n_sites + sites.codes, return_inverse=True, return_counts=True)
    rtt_ms = np.bincount(group_of, rows.rtt_ns[members]) / counts / NS_PER_MS
    well = np.bincount(group_of, good[members]).astype(np.int64)
    # Groups of one origin and workload stand together; the one with the smallest round trip is their home.
    order = np.lexsort((keys, rtt_ms, keys // n_sites))
    is_first = np.diff(keys[order] // n_sites, prepend=-1) != 0
    home = np.empty_like(order)
    home[order] = order[np.maximum.accumulate(np.where(is_first, np.arange(len(order)), 0))]
    away = np.flatnonzero(home != np.arange(len(keys)))
    pairs, pair_of = np.unique(keys[home[away]] % n_sites * n_sites + keys[away] % n_sites, return_inverse=True)
    extra_ms = np.bincount(pair_of, (rtt_ms[away] - rtt_ms[home[away]]) * counts[away])
    requests = np.bincount(pair_of, counts[away]).astype(np.int64)
    goods = np.bincount(pair_of, well[away]).astype(np.int64)
    spills = [
        Spill(
            home=sites.names[int(pair) // n_sites],
            site=sites.names[int(pair) % n_sites],
            requests=int(requests[index]),
            good=int(goods[index]),
            extra_rtt_ms=float(extra_ms[index] / requests[index]),
        )
        for index, pair in enumerate(pairs)
    ]
    return tuple(sorted(spills, key=lambda spill: (-spill.requests, spill.home, spill.site))), len(members)
