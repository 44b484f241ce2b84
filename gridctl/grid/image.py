"""GridImage: a grid's resources resolved into engines, the one picture replay and gateway both read.

Decides which engines exist, what each costs and whether it takes traffic; knows no trace, no clock and no policy.
Engines are ordered by cluster, deployment and replica, then functions by site, then the fallback API: the order of
every array that has a row per engine.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count

from gridctl.accounts.facts import EngineFacts
from gridctl.accounts.usd import EGRESS_BYTES_PER_TOKEN
from gridctl.engine.fleet import EngineSpec
from gridctl.engine.memory import plan_memory
from gridctl.engine.state import API, GPU, SERVERLESS, UNUSED
from gridctl.errors import InputError, NotFoundError, did_you_mean
from gridctl.geography.place import Place, place_of
from gridctl.geography.regions import region_of
from gridctl.grid.stepprofiles import StepProfiles
from gridctl.grid.view import GridView, jurisdiction_at
from gridctl.resources import Cluster, Deployment, PriceBookSpec, Resource, Site
from gridctl.units import BYTES_PER_GB, PS_PER_MS, PS_PER_S, TOKENS_PER_MTOK

CPU_CHUNK_TOKENS = 512
IDLE_POWER_SHARE = 0.15
"""Idle power of a GPU as a share of its limit when a cluster does not say: an assumption, typical of
data-centre cards."""

PS_PER_HOUR = 3600 * PS_PER_S

FALLBACK_PRICES: dict[str, float] = {
    # US dollars per GPU-hour, median of the on-demand offers listed publicly in autumn 2026.
    "rtx-pro-6000": 1.69,
    "rtx-4090": 0.69,
    "l40s": 1.91,
    "l4": 1.14,
    "a30": 1.0,
    "a100-pcie": 1.79,
    "a100-sxm": 1.79,
    "h100-pcie": 2.4,
    "h100-sxm": 3.99,
    "h200-sxm": 3.98,
    "b200-sxm": 5.5,
    "b300-sxm": 6.5,
    "gb200": 6.5,
    "gb300": 7.5,
}


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine: what the twin needs, what the accounts need, and what decides who may use it.

    of billed function time; the per-token prices are egress and, for the API, its list price.
    """

    spec: EngineSpec
    facts: EngineFacts
    deployment: int
    place: Place | None
    model: str
    quality: float | None
    country: str
    jurisdictions: tuple[str, ...]
    takes_traffic: bool
    gpu_usd_per_ps: float = 0.0
    cash_usd_per_ps: float = 0.0
    usd_per_input_token: float = 0.0
    usd_per_output_token: float = 0.0


@dataclass(frozen=True, slots=True)
class GridImage:
    """Every engine of the grid, and the declarations they came from."""

    view: GridView
    engines: tuple[Engine, ...]
    prices: PriceBookSpec
    notes: tuple[str, ...] = ()


def build_image(resources: Iterable[Resource], *, price_book: str = "default") -> GridImage:
    """Resolve a consistent set of resources (see `check_grid`) under one price book.

    Raises NotFoundError when a book other than `default` is named and missing, InputError when no engine exists.
    """
    view = GridView(resources)
    prices, notes = _prices(view, price_book)
    engines: list[Engine] = []
    number = count()
    profiles = StepProfiles(view)
    for name in sorted(view.clusters):
        cluster = view.clusters[name]
        for deployment in cluster.spec.deployments:
            engines.extend(_cluster_engines(view, prices, profiles, cluster, deployment, next(number)))
        spare = cluster.spec.gpus - sum(deployment.gpus for deployment in cluster.spec.deployments)
        if spare > 0:
            engines.append(_unused(view, prices, cluster, spare))
    for name in sorted(view.sites):
        site = view.sites[name]
        if site.spec.serverless is not None:
            engines.extend(
                _function(view, prices, profiles, site, reference, next(number))
                for reference in site.spec.serverless.variants
            )
    if not any(engine.spec.kind != UNUSED for engine in engines):
        raise InputError(
            "the grid has no engine: no cluster deploys a model and no site runs functions",
            where="registry",
            fix="gridctl cluster register NAME --site SITE --gpu GPU --gpus N --deploy MODEL/VARIANT",
        )
    if prices.fallback is not None:
        engines.append(_api(view, prices, next(number)))
    return GridImage(view, tuple(engines), prices, (*notes, *profiles.notes()))


def _prices(view: GridView, name: str) -> tuple[PriceBookSpec, tuple[str, ...]]:
    if name in view.prices:
        return view.prices[name].spec, ()
    if name != "default":
        close = did_you_mean(name, view.prices)
        raise NotFoundError(
            f"price book {name} does not exist", fix=f"did you mean {close}?" if close else "gridctl price list"
        )
    return PriceBookSpec(), ("no price book named default: built-in GPU-hour prices are used",)


def _cluster_engines(
    view: GridView,
    prices: PriceBookSpec,
    profiles: StepProfiles,
    cluster: Cluster,
    deployment: Deployment,
    number: int,
) -> Iterable[Engine]:
    site = view.sites[cluster.spec.site]
    found = view.variant(deployment.variant)
    assert found is not None, "references are checked before an image is built"
    model, variant = found
    gpu = view.gpus[cluster.spec.gpu].spec
    limits, ranks = deployment.engine, deployment.data_parallel
    spec = EngineSpec(
        kind=GPU,
        profile=profiles.of_cluster(cluster.spec.gpu, model, variant, deployment),
        max_num_seqs=limits.max_num_seqs * ranks,
        max_num_batched_tokens=limits.max_num_batched_tokens * ranks,
        block_size=limits.block_size,
        kv_blocks=plan_memory(model.spec, variant, gpu, deployment).kv_blocks,
        max_context=model.spec.max_context,
        gpus=deployment.gpus_per_engine,
        prefix_caching=limits.enable_prefix_caching,
        priority_scheduling=limits.scheduling_policy == "priority",
        async_scheduling=limits.async_scheduling,
        max_waiting=limits.max_waiting,
    )
    facts = _owned_facts(view, prices, cluster, "gpu", deployment.gpus_per_engine, model.name, variant.name)
    engine = Engine(
        spec=spec,
        facts=facts,
        deployment=number,
        place=place_of(site),
        model=model.name,
        quality=variant.quality,
        country=site.spec.country,
        jurisdictions=(jurisdiction_at(site),),
        takes_traffic=site.spec.state == "active" and cluster.spec.state == "active",
        gpu_usd_per_ps=facts.usd_per_gpu_hour * deployment.gpus_per_engine / PS_PER_HOUR,
        usd_per_output_token=facts.egress_usd_per_gb * EGRESS_BYTES_PER_TOKEN / BYTES_PER_GB,
    )
    return [engine] * deployment.replicas


def _owned_facts(
    view: GridView, prices: PriceBookSpec, cluster: Cluster, kind: str, gpus: int, model: str = "", variant: str = ""
) -> EngineFacts:
    """What owned GPUs of a cluster cost: the cluster's own prices first, then the site's, then the book's."""
    site, gpu, spec = view.sites[cluster.spec.site], view.gpus[cluster.spec.gpu].spec, cluster.spec
    hour = spec.usd_per_gpu_hour
    if hour is None:
        hour = prices.gpu_hour_usd.get(spec.gpu, FALLBACK_PRICES.get(spec.gpu))
    if hour is None:
        raise InputError(
            f"no price for an hour of {spec.gpu}",
            where=f"cluster {cluster.name}",
            fix=f"add {spec.gpu} to gpu_hour_usd of the price book, or set spec.usd_per_gpu_hour",
        )
    idle = spec.idle_watts_per_gpu
    return EngineFacts(
        kind=kind,
        cluster=cluster.name,
        site=site.name,
        tier=site.spec.tier,
        region=region_of(site.spec.country),
        model=model,
        variant=variant,
        gpus=gpus,
        usd_per_gpu_hour=hour,
        busy_watts=float(gpu.watts),
        idle_watts=float(idle) if idle is not None else gpu.watts * IDLE_POWER_SHARE,
        usd_per_kwh=prices.usd_per_kwh if site.spec.usd_per_kwh is None else site.spec.usd_per_kwh,
        egress_usd_per_gb=_egress(site, prices),
    )


def _egress(site: Site, prices: PriceBookSpec) -> float:
    return prices.egress_usd_per_gb if site.spec.egress_usd_per_gb is None else site.spec.egress_usd_per_gb


def _unused(view: GridView, prices: PriceBookSpec, cluster: Cluster, gpus: int) -> Engine:
    site = view.sites[cluster.spec.site]
    return Engine(
        spec=EngineSpec(kind=UNUSED, gpus=gpus),
        facts=_owned_facts(view, prices, cluster, "unused", gpus),
        deployment=-1,
        place=place_of(site),
        model="",
        quality=None,
        country=site.spec.country,
        jurisdictions=(jurisdiction_at(site),),
        takes_traffic=False,
    )


def _function(
    view: GridView,
    prices: PriceBookSpec,
    profiles: StepProfiles,
    site: Site,
    reference: str,
    number: int,
) -> Engine:
    cpu, found = site.spec.serverless, view.variant(reference)
    assert cpu is not None, "only sites with functions come here"
    assert found is not None, "references are checked before an image is built"
    model, variant = found
    price = prices.serverless_usd_per_ms if cpu.usd_per_ms is None else cpu.usd_per_ms
    egress = _egress(site, prices)
    return Engine(
        spec=EngineSpec(
            kind=SERVERLESS,
            profile=profiles.of_function(model, variant, cpu, CPU_CHUNK_TOKENS),
            max_num_seqs=cpu.concurrency,
            max_num_batched_tokens=CPU_CHUNK_TOKENS,
            max_context=model.spec.max_context,
            cold_start_ms=cpu.cold_start_ms,
            keep_warm_s=cpu.keep_warm_s,
        ),
        facts=EngineFacts(
            kind="serverless",
            cluster="",
            site=site.name,
            tier=site.spec.tier,
            region=region_of(site.spec.country),
            model=model.name,
            variant=variant.name,
            usd_per_serverless_ms=price,
            egress_usd_per_gb=egress,
        ),
        deployment=number,
        place=place_of(site),
        model=model.name,
        quality=variant.quality,
        country=site.spec.country,
        jurisdictions=(jurisdiction_at(site),),
        takes_traffic=site.spec.state == "active",
        cash_usd_per_ps=price / PS_PER_MS,
        usd_per_output_token=egress * EGRESS_BYTES_PER_TOKEN / BYTES_PER_GB,
    )


def _api(view: GridView, prices: PriceBookSpec, number: int) -> Engine:
    fallback = prices.fallback
    assert fallback is not None, "only called when the book has one"
    return Engine(
        spec=EngineSpec(kind=API, max_context=fallback.max_context, ttft_ms=fallback.ttft_ms, tpot_ms=fallback.tpot_ms),
        facts=EngineFacts(
            kind="api",
            cluster="",
            site="",
            tier="api",
            region="",
            model=fallback.model,
            variant="api",
            usd_per_mtok_input=fallback.usd_per_mtok_input,
            usd_per_mtok_output=fallback.usd_per_mtok_output,
        ),
        deployment=number,
        place=None,
        model=fallback.model,
        quality=fallback.quality,
        country="",
        jurisdictions=fallback.jurisdictions,
        takes_traffic=True,
        usd_per_input_token=fallback.usd_per_mtok_input / TOKENS_PER_MTOK,
        usd_per_output_token=fallback.usd_per_mtok_output / TOKENS_PER_MTOK,
    )
