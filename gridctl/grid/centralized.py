"""The centralised alternative: the same GPUs and deployments, all standing in core sites.

Every cluster moves to the nearest core site of its own jurisdiction, else to the nearest core site, so that the
alternative keeps serving jurisdiction-bound workloads; it pays core prices (the core's cluster price for the same GPU,
else the book's, else its own) and there are no functions at the edge. This is the strongest centralised grid the same
hardware makes, not the weakest.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gridctl.geography.place import distance_km, place_of
from gridctl.grid.image import FALLBACK_PRICES
from gridctl.grid.view import GridView, jurisdiction_at
from gridctl.resources import Cluster, Resource, Site


def centralize(resources: Sequence[Resource]) -> list[Resource]:
    """The resources with every cluster at a core site. Unchanged when the grid has no core site."""
    view = GridView(resources)
    cores = [site for site in view.sites.values() if site.spec.tier == "core" and site.spec.state == "active"]
    if not cores:
        return list(resources)
    hosts = {cluster.spec.site for cluster in view.clusters.values()}
    # A core that already has GPUs is a data centre; one without is a location.
    cores = [core for core in cores if core.name in hosts] or cores
    prices = {
        (cluster.spec.site, cluster.spec.gpu): cluster.spec.usd_per_gpu_hour for cluster in view.clusters.values()
    }
    moved: list[Resource] = []
    for resource in resources:
        if isinstance(resource, Cluster):
            moved.append(_moved(resource, view, cores, prices))
        elif isinstance(resource, Site) and resource.spec.serverless is not None:
            moved.append(
                msgspec.structs.replace(resource, spec=msgspec.structs.replace(resource.spec, serverless=None))
            )
        else:
            moved.append(resource)
    return moved


def _moved(cluster: Cluster, view: GridView, cores: list[Site], prices: dict[tuple[str, str], float | None]) -> Cluster:
    home = view.sites[cluster.spec.site]
    if home.spec.tier == "core":
        return cluster
    lawful = [core for core in cores if jurisdiction_at(core) == jurisdiction_at(home)] or cores
    target = min(lawful, key=lambda core: (distance_km(place_of(home), place_of(core)), core.name))
    price = prices.get((target.name, cluster.spec.gpu))
    if price is None and not _is_in_books(cluster.spec.gpu, view):
        price = cluster.spec.usd_per_gpu_hour
    # GPUs that take no traffic at home take none in the core either: the alternative has the same hardware.
    state = cluster.spec.state if home.spec.state == "active" else home.spec.state
    spec = msgspec.structs.replace(cluster.spec, site=target.name, usd_per_gpu_hour=price, state=state)
    return msgspec.structs.replace(cluster, spec=spec)


def _is_in_books(gpu: str, view: GridView) -> bool:
    """Whether an hour of the GPU has a price whichever book is used."""
    books = [book.spec.gpu_hour_usd for book in view.prices.values()]
    return gpu in FALLBACK_PRICES or (bool(books) and all(gpu in book for book in books))
