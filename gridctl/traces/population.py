"""Population: where requests come from and what they ask for: sites by population, workloads by share, tenants evenly.

Shared by the generator and the overlay, so that both mean the same by "population-weighted". Knows no trace columns.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gridctl.resources import Site, Workload
from gridctl.traces.randomness import cos_turn, sin_turn

Floats = NDArray[np.float64]

HOURS = 24.0
DEGREES = 360.0


def origin_sites(sites: Sequence[Site]) -> tuple[tuple[str, ...], Floats, Floats]:
    """Names, weights and longitudes of the sites requests come from, by name.

    Every site that serves a population, weighted by it; when none declares one, every edge site (or site) alike.
    """
    ordered = sorted(sites, key=lambda site: site.name)
    populated = [site for site in ordered if site.spec.population > 0]
    chosen = populated or [site for site in ordered if site.spec.tier == "edge"] or ordered
    return (
        tuple(site.name for site in chosen),
        np.array([float(site.spec.population) if populated else 1.0 for site in chosen]),
        np.array([site.spec.lon for site in chosen]),
    )


def workload_shares(workloads: Sequence[Workload]) -> tuple[tuple[Workload, ...], Floats]:
    """The workloads by name and their traffic shares; shares that are all 0 count alike."""
    ordered = tuple(sorted(workloads, key=lambda workload: workload.name))
    shares = np.array([workload.spec.traffic.share for workload in ordered])
    return ordered, shares if shares.any() else np.ones(len(ordered))


def tenant_table(workloads: Sequence[Workload]) -> tuple[tuple[str, ...], list[NDArray[np.int32]]]:
    """All tenant names in order of first use, and each workload's tenants as indices into them."""
    names = tuple(dict.fromkeys(tenant for workload in workloads for tenant in workload.spec.tenants))
    index = {name: number for number, name in enumerate(names)}
    return names, [np.array([index[tenant] for tenant in w.spec.tenants], np.int32) for w in workloads]


def activity(hour_utc: Floats, longitudes: Floats, swing: float, peak_hour: float) -> Floats:
    """How active each place is at an hour of UTC, 1 on the day's average: 1 + swing · cos(2π(local − peak)/24).

    Local time is solar: UTC plus an hour per 15° of longitude. Shapes broadcast.
    """
    turns = (hour_utc - peak_hour) / HOURS + longitudes / DEGREES
    level: Floats = 1.0 + swing * cos_turn(turns)
    return level


def total_activity(hour_utc: Floats, weights: Floats, longitudes: Floats, swing: float, peak_hour: float) -> Floats:
    """The weighted mean of `activity` over all places: cosines of one period add up to one, so O(places + hours).

    cos(a + b) = cos a · cos b − sin a · sin b, with a the hour's turn and b the longitude's.
    """
    share = weights / np.cumsum(weights)[-1]
    east = longitudes / DEGREES
    across = np.cumsum(share * cos_turn(east))[-1]
    along = np.cumsum(share * sin_turn(east))[-1]
    turns = (hour_utc - peak_hour) / HOURS
    level: Floats = 1.0 + swing * (cos_turn(turns) * across - sin_turn(turns) * along)
    return level
