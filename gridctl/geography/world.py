"""World: a whole grid, generated from city populations or around a table of sites.

Decides nothing itself: places come from `placement`, equipment from `capacity`, models and prices from `catalog`,
workloads from `classes`. The same arguments give equal resources in equal order on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence

from gridctl.errors import InputError
from gridctl.geography.capacity import equip
from gridctl.geography.catalog import models, policy, price_book
from gridctl.geography.classes import workloads
from gridctl.geography.placement import place_sites
from gridctl.geography.siterow import SiteRow, read_site_rows
from gridctl.resources import Resource

MAX_SITES = 50_000

__all__ = ["MAX_SITES", "SiteRow", "generate_world", "read_site_rows", "world_from_sites"]


def generate_world(sites: int = 4400, seed: int = 1) -> list[Resource]:
    """A grid of `sites` sites in the world's cities, with clusters, models, workloads, prices and a policy.

    Four in five sites are edge sites; about 20 metros of 4,400 have GPUs, and six core sites. `seed` moves sites within
    their cities, nothing else.

    Raises: InputError for fewer than 1 or more than 50,000 sites.
    """
    if not 1 <= sites <= MAX_SITES:
        raise InputError(f"cannot generate {sites} sites", where="--sites", fix=f"give a number from 1 to {MAX_SITES}")
    return _grid(place_sites(sites, seed), keep_tiers=False)


def world_from_sites(rows: Sequence[SiteRow]) -> list[Resource]:
    """The same grid around given sites. Their tiers stand, except that sites chosen for GPUs become metro or core.

    Raises: InputError when there are no rows, or more than 50,000.
    """
    if not 1 <= len(rows) <= MAX_SITES:
        raise InputError(
            f"cannot make a grid of {len(rows)} sites", where="--sites-file", fix=f"give 1 to {MAX_SITES} rows"
        )
    return _grid(list(rows), keep_tiers=True)


def _grid(rows: list[SiteRow], *, keep_tiers: bool) -> list[Resource]:
    capacity = equip(rows, keep_tiers=keep_tiers)
    return [*capacity.sites, *capacity.clusters, *models(), *workloads(), price_book(), policy()]
