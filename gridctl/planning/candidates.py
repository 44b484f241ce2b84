"""Candidates: which of many sites a placement needs to look at.

Decides by dominance: a site is left out when another is at least as near to every place (in the classes of round trip
that capacities are told apart by), under the same law where law matters, and no dearer for any GPU. Leaving those out
changes no cost the program can reach. Where more than `most` remain, those that reach the most demand stay, with the
best for each place: that is a cut, and a note says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gridctl.grid.view import jurisdiction_at
from gridctl.planning.capacity import BINS_MS, bin_of
from gridctl.planning.demand import Demand, lawful_sites
from gridctl.resources import Site

MOST_CANDIDATES = 160


@dataclass(frozen=True, slots=True)
class Candidates:
    """Sites that stay, in order of preference among equals; round trips and their classes, `(places, sites)`; who may
    serve whom, `(places, classes, sites)`; dollars a GPU-hour with power, `(sites, gpus)`."""

    sites: tuple[Site, ...]
    rtt_ms: NDArray[np.float64]
    bins: NDArray[np.int64]
    lawful: NDArray[np.bool_]
    usd: NDArray[np.float64]
    considered: int
    notes: tuple[str, ...]


def choose_candidates(
    demand: Demand,
    sites: Sequence[Site],
    rtt_ms: NDArray[np.float64],
    usd: NDArray[np.float64],
    most: int = MOST_CANDIDATES,
) -> Candidates:
    """The sites worth looking at. `rtt_ms` is `(places, sites)`, `usd` `(sites, gpus)`. O(sites · kept · places)."""
    bins = bin_of(rtt_ms)
    binds = any(one.workload.spec.jurisdiction.rule != "any" for one in demand.classes)
    law = [(site.spec.country, jurisdiction_at(site)) if binds else ("", "") for site in sites]
    # What the site runs by itself: functions are used where they stand.
    functions = [site.spec.serverless for site in sites]
    weight = demand.rate.sum(axis=1)
    reach = (weight[:, None] * (len(BINS_MS) - np.minimum(bins, len(BINS_MS)))).sum(axis=0)
    order = sorted(
        range(len(sites)), key=lambda index: (float(usd[index].sum()), -float(reach[index]), sites[index].name)
    )
    kept: list[int] = []
    groups: dict[tuple[str, str], list[int]] = {}
    for index in order:
        rivals = groups.setdefault(law[index], [])
        if functions[index] is None and rivals:
            others = np.array(rivals)
            nearer = (bins[:, others] <= bins[:, [index]]).all(axis=0)
            cheaper = (usd[others] <= usd[index]).all(axis=1)
            if bool((nearer & cheaper).any()):
                continue
        rivals.append(index)
        kept.append(index)
    notes: list[str] = []
    if len(kept) > most:
        notes.append(
            f"{len(kept)} sites are dominated by no other; the {most} that reach the most demand and the nearest of"
            " each place were looked at, so a cheaper placement may exist"
        )
        kept = _cut(kept, bins, reach, demand, sites, most)
    chosen = sorted(kept, key=lambda index: (-float(reach[index]), sites[index].name))
    named = tuple(sites[index] for index in chosen)
    lawful = np.stack([lawful_sites(one, demand.zones, named) for one in demand.classes], axis=1)
    return Candidates(named, rtt_ms[:, chosen], bins[:, chosen], lawful, usd[chosen], len(sites), tuple(notes))


def _cut(
    kept: Sequence[int],
    bins: NDArray[np.int64],
    reach: NDArray[np.float64],
    demand: Demand,
    sites: Sequence[Site],
    most: int,
) -> list[int]:
    """The sites with the widest reach, and for every place and law the best that is near it, and
    the best with functions."""
    ranked = np.array(sorted(kept, key=lambda index: (-float(reach[index]), sites[index].name)))
    stays = dict.fromkeys(ranked[:most].tolist())
    has_function = np.array([sites[index].spec.serverless is not None for index in ranked.tolist()])
    for wanted in {one.workload.spec.jurisdiction: one for one in demand.classes}.values():
        allowed = lawful_sites(wanted, demand.zones, [sites[index] for index in ranked.tolist()])
        for group in (allowed, allowed & has_function):
            # The first of the nearest class is, in this order, the one that reaches the most.
            near = np.where(group, bins[:, ranked], len(BINS_MS) + 1)
            best = np.argmin(near, axis=1)
            stays.update(dict.fromkeys(ranked[best[group.any(axis=1)]].tolist()))
    return list(stays)
