"""Capacity: which sites of a generated grid are core, metro and regional, and what each of them gets.

GPUs go where capacity is offered today: the hubs below, or the nearest city of the same region that the grid has.
Every jurisdiction without GPUs has at least one site with serverless CPU, so that work that may not leave it has
somewhere to go. Shares and sizes are those of a grid of 4,400 sites and shrink and grow with it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from gridctl.geography.catalog import LLAMA_1B, LLAMA_8B, LLAMA_70B, QWEN_30B, SITE_EGRESS_USD_PER_GB
from gridctl.geography.placement import squared_km
from gridctl.geography.regions import jurisdiction_of, region_of
from gridctl.geography.siterow import SiteRow
from gridctl.resources import (
    Cluster,
    ClusterSpec,
    Deployment,
    EngineLimits,
    Metadata,
    Serverless,
    Site,
    SiteSpec,
)
from gridctl.resources.site import Tier

_HUB_RADIUS_KM = 60
_SPACING_KM = 800
_CORE_UNIT = 16  # core clusters come in multiples of so many GPUs …
_SITES_PER_CORE_UNIT = 700  # … and stay at one multiple for each so many sites
_CORE_ENGINE = EngineLimits(max_num_seqs=256, max_num_batched_tokens=8192)
_CACHE_GIB: dict[Tier, float] = {"edge": 64.0, "metro": 256.0, "regional": 256.0, "core": 1024.0}


class Hub(NamedTuple):
    """Where GPUs are put, and which."""

    country: str
    lat: float
    lon: float
    gpu: str
    gpus: int


CORE_HUBS = (
    Hub("US", 39.04, -77.49, "h100-sxm", 64),  # Ashburn
    Hub("DE", 50.11, 8.68, "h100-sxm", 32),  # Frankfurt
    Hub("SG", 1.29, 103.85, "h200-sxm", 32),  # Singapore
    Hub("US", 32.78, -96.81, "h200-sxm", 32),  # Dallas
    Hub("BR", -23.55, -46.64, "h100-sxm", 16),  # São Paulo
    Hub("AE", 25.2, 55.27, "h100-sxm", 16),  # Dubai
)
METRO_HUBS = (
    Hub("GB", 51.51, -0.13, "rtx-pro-6000", 8),  # London
    Hub("JP", 35.69, 139.69, "rtx-pro-6000", 8),  # Tokyo
    Hub("US", 40.71, -74.01, "rtx-pro-6000", 8),  # New York
    Hub("IN", 19.07, 72.88, "l40s", 8),  # Mumbai
    Hub("FR", 48.85, 2.35, "rtx-pro-6000", 8),  # Paris
    Hub("AU", -33.87, 151.21, "rtx-pro-6000", 4),  # Sydney
    Hub("US", 34.05, -118.24, "rtx-pro-6000", 8),  # Los Angeles
    Hub("ZA", -26.2, 28.05, "l40s", 4),  # Johannesburg
    Hub("KR", 37.57, 126.98, "rtx-pro-6000", 8),  # Seoul
    Hub("MX", 19.43, -99.13, "l40s", 4),  # Mexico City
    Hub("NL", 52.37, 4.9, "rtx-pro-6000", 4),  # Amsterdam
    Hub("CN", 22.28, 114.17, "l40s", 8),  # Hong Kong's hinterland
    Hub("US", 41.88, -87.63, "l40s", 8),  # Chicago
    Hub("ES", 40.42, -3.7, "l40s", 4),  # Madrid
    Hub("ID", -6.21, 106.85, "l40s", 4),  # Jakarta
    Hub("CA", 43.65, -79.38, "rtx-pro-6000", 4),  # Toronto
    Hub("PL", 52.23, 21.01, "l40s", 4),  # Warsaw
    Hub("AR", -34.61, -58.38, "l40s", 4),  # Buenos Aires
    Hub("SA", 24.69, 46.72, "l40s", 4),  # Riyadh
    Hub("US", 25.76, -80.19, "l40s", 4),  # Miami
    Hub("SE", 59.33, 18.07, "l40s", 4),  # Stockholm
    Hub("IT", 45.46, 9.19, "l40s", 4),  # Milan
    Hub("US", 47.61, -122.33, "l40s", 4),  # Seattle
    Hub("IN", 13.09, 80.27, "l40s", 4),  # Chennai
    Hub("CL", -33.46, -70.65, "l40s", 4),  # Santiago
    Hub("KE", -1.28, 36.82, "l40s", 4),  # Nairobi
    Hub("TR", 41.01, 28.95, "l40s", 4),  # Istanbul
    Hub("JP", 34.69, 135.5, "l40s", 4),  # Osaka
    Hub("US", 33.75, -84.39, "l40s", 4),  # Atlanta
    Hub("IE", 53.33, -6.25, "l40s", 4),  # Dublin
    Hub("NG", 6.45, 3.39, "l40s", 4),  # Lagos
    Hub("EG", 30.06, 31.25, "l40s", 4),  # Cairo
    Hub("VN", 10.82, 106.63, "l40s", 4),  # Ho Chi Minh City
    Hub("CO", 4.61, -74.08, "l40s", 4),  # Bogotá
    Hub("NZ", -36.85, 174.76, "l40s", 4),  # Auckland
    Hub("CH", 47.37, 8.55, "l40s", 4),  # Zurich
    Hub("PH", 14.6, 120.98, "l40s", 4),  # Manila
    Hub("TH", 13.75, 100.5, "l40s", 4),  # Bangkok
    Hub("IL", 32.08, 34.78, "l40s", 4),  # Tel Aviv
    Hub("US", 39.74, -104.98, "l40s", 4),  # Denver
)


class Capacity(NamedTuple):
    """Sites with their tier and equipment, and the clusters at them."""

    sites: list[Site]
    clusters: list[Cluster]


def core_gpu_sites(sites: int) -> int:
    """How many core sites have GPUs: one in a small grid, six from 750 sites."""
    return min(len(CORE_HUBS), 1 + sites // 150)


def metro_gpu_sites(sites: int) -> int:
    """How many metro sites have GPUs: 0.3·√sites, 20 at 4,400."""
    return min(len(METRO_HUBS), (math.isqrt(9 * sites) + 5) // 10, max(0, sites - core_gpu_sites(sites)))


def core_sites(sites: int) -> int:
    """How many core sites there are: 30 of 4,400, never fewer than those with GPUs."""
    return max(core_gpu_sites(sites), min(30, sites * 30 // 4400))


def equip(rows: list[SiteRow], *, keep_tiers: bool) -> Capacity:
    """Turn places into sites and clusters.

    With `keep_tiers` the rows' own tiers stand, except that the sites chosen for GPUs become core or metro; without,
    tiers are assigned by population.
    """
    total = len(rows)
    core = _nearest_to(CORE_HUBS[: core_gpu_sites(total)], _candidates(rows, ("core",) if keep_tiers else ()))
    served = {(row.country, row.city) for row in rows if row.site in core}
    left = [row for row in rows if (row.country, row.city) not in served]
    ranked = _candidates(left, ("metro", "regional", "edge") if keep_tiers else ())
    metro = _nearest_to(METRO_HUBS[: metro_gpu_sites(total)], ranked)
    largest = _CORE_UNIT * max(1, total // _SITES_PER_CORE_UNIT)
    core = {site: hub._replace(gpus=min(hub.gpus, largest)) for site, hub in core.items()}
    gpus = core | metro
    tiers: dict[str, Tier] = {row.site: row.tier for row in rows} if keep_tiers else _tiers(rows, gpus)
    tiers.update(dict.fromkeys(core, "core"))
    tiers.update(dict.fromkeys(metro, "metro"))
    cpus = _serverless_sites(rows, tiers, gpus)
    return Capacity(
        sites=[_site(row, tiers[row.site], row.site in cpus) for row in rows],
        clusters=[_cluster(row.site, gpus[row.site], tiers[row.site]) for row in rows if row.site in gpus],
    )


def _candidates(rows: list[SiteRow], tiers: tuple[Tier, ...]) -> list[SiteRow]:
    """The first site of every city among the preferred tiers, or among all when none has such a tier."""
    preferred = [row for row in rows if row.tier in tiers] or rows
    firsts: dict[tuple[str, str], SiteRow] = {}
    for row in preferred:
        firsts.setdefault((row.country, row.city), row)
    return list(firsts.values())


def _nearest_to(hubs: Iterable[Hub], candidates: list[SiteRow]) -> dict[str, Hub]:
    """A site for each hub, none twice: the most populous within its radius, else the nearest of its region, else of
    all. Fewer when candidates run out."""
    chosen: dict[str, Hub] = {}
    for hub in hubs:
        best: tuple[int, int, str] | None = None
        for row in candidates:
            if row.site in chosen:
                continue
            away = squared_km(hub.lat, hub.lon, row.lat, row.lon)
            if away <= _HUB_RADIUS_KM**2:
                rank = (0, -row.served_population, row.site)
            else:
                rank = (1 if region_of(row.country) == region_of(hub.country) else 2, away, row.site)
            if best is None or rank < best:
                best = rank
        if best is not None:
            chosen[best[2]] = hub
    return chosen


def _tiers(rows: list[SiteRow], gpus: dict[str, Hub]) -> dict[str, Tier]:
    """Core sites far apart and regional sites (19 %) in the largest cities; edge elsewhere."""
    tiers: dict[str, Tier] = {row.site: "edge" for row in rows}
    firsts = _candidates(rows, ())
    core = [row for row in rows if row.site in gpus]
    wanted = core_sites(len(rows)) + metro_gpu_sites(len(rows))
    for row in firsts:
        if len(core) >= wanted:
            break
        if all(squared_km(row.lat, row.lon, other.lat, other.lon) > _SPACING_KM**2 for other in core):
            core.append(row)
            tiers[row.site] = "core"
    taken = {row.site for row in core}
    seconds = [row for row in rows if row.site.endswith("-02")]
    regional = [row.site for row in (*firsts, *seconds) if row.site not in taken][: len(rows) * 19 // 100]
    tiers.update(dict.fromkeys(regional, "regional"))
    return tiers


def _serverless_sites(rows: list[SiteRow], tiers: dict[str, Tier], gpus: dict[str, Hub]) -> set[str]:
    """A tenth of the edge and regional sites: first one in each jurisdiction without GPUs, then evenly spread."""
    able = [row for row in rows if tiers[row.site] in ("edge", "regional")]
    able.sort(key=lambda row: (-row.served_population, row.site))
    covered = {jurisdiction_of(row.country) for row in rows if row.site in gpus}
    chosen: set[str] = set()
    for row in able:
        law = jurisdiction_of(row.country)
        if law not in covered:
            covered.add(law)
            chosen.add(row.site)
    others = [row.site for row in able if row.site not in chosen]
    wanted = min(len(others), max(0, -(-len(able) // 10) - len(chosen)))
    chosen.update(others[index * len(others) // wanted] for index in range(wanted))
    return chosen


def _site(row: SiteRow, tier: Tier, has_cpu: bool) -> Site:
    regional = tier != "edge"
    serverless = Serverless(
        variants=(f"{LLAMA_1B}/int8",),
        concurrency=16 if regional else 4,
        memory_gib=32.0 if regional else 16.0,
        vcpus=32 if regional else 16,
        memory_bandwidth_gbs=120.0 if regional else 80.0,
        tflops=6.0 if regional else 3.0,
    )
    return Site(
        metadata=Metadata(name=row.site),
        spec=SiteSpec(
            lat=row.lat,
            lon=row.lon,
            country=row.country,
            tier=tier,
            city=row.city,
            population=row.served_population,
            cache_gib=_CACHE_GIB[tier],
            serverless=serverless if has_cpu else None,
            egress_usd_per_gb=SITE_EGRESS_USD_PER_GB.get(region_of(row.country)),
        ),
    )


def _cluster(site: str, hub: Hub, tier: Tier) -> Cluster:
    deployments = _core_deployments(hub.gpus) if tier == "core" else _metro_deployments(hub)
    return Cluster(
        metadata=Metadata(name=f"{site[:58]}-gpu"),
        spec=ClusterSpec(site=site, gpu=hub.gpu, gpus=hub.gpus, deployments=tuple(deployments)),
    )


def _core_deployments(gpus: int) -> list[Deployment]:
    """Half the GPUs for the largest model, a share of the rest for each of the others; sixteenths of 16 to 64 GPUs."""
    unit = gpus // _CORE_UNIT
    return [
        Deployment(variant=f"{LLAMA_70B}/fp8", replicas=4 * unit, tensor_parallel=2, engine=_CORE_ENGINE),
        Deployment(variant=f"{QWEN_30B}/fp8", replicas=3 * unit, engine=_CORE_ENGINE),
        Deployment(variant=f"{LLAMA_8B}/fp8", replicas=4 * unit, engine=_CORE_ENGINE),
        Deployment(variant=f"{LLAMA_1B}/bf16", replicas=unit, engine=_CORE_ENGINE),
    ]


def _metro_deployments(hub: Hub) -> list[Deployment]:
    """Interactive models on four or eight GPUs; the 30 B model in four bits where memory is 45 GiB."""
    unit = hub.gpus // 4
    wide = "fp8" if hub.gpu == "rtx-pro-6000" else "w4a16"
    return [
        Deployment(variant=f"{LLAMA_8B}/fp8", replicas=2 * unit),
        Deployment(variant=f"{QWEN_30B}/{wide}", replicas=unit),
        Deployment(variant=f"{LLAMA_1B}/bf16", replicas=unit),
    ]
