"""Whether a set of resources makes one consistent grid. Plain Python, no arrays: `apply` and `validate` ask it.

Checked together, reported together: every reference resolves, countries exist, nothing is declared twice, GPUs are
enough for the deployments, every deployed variant fits its GPUs with room for KV cache, and every workload can be
served somewhere once there are clusters.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from msgspec import structs

from gridctl.engine.memory import plan_memory
from gridctl.errors import InputError, did_you_mean, raise_all
from gridctl.geography.regions import is_country
from gridctl.grid.profiles import profile_errors, profile_reference_errors
from gridctl.grid.view import GridView, jurisdiction_at
from gridctl.network.overrides import Overrides
from gridctl.resources import Cluster, Deployment, GpuSpec, Model, PolicySpec, Resource, Serverless, key_of
from gridctl.units import GIB

SMALLEST_CONTEXT = 2048
"""An engine that cannot hold one request of this many tokens serves nobody."""


def check_grid(resources: Sequence[Resource]) -> None:
    """Raise InputError for every inconsistency of the grid that `resources` make; the others ride as `related`."""
    grid = GridView(resources)
    errors = [
        *_site_errors(grid),
        *_model_errors(grid),
        *_cluster_errors(grid),
        *_serverless_errors(grid),
        *_link_errors(grid),
        *_price_errors(grid),
        *_gate_errors(grid),
        *_policy_errors(grid),
        *profile_errors(grid),
    ]
    if not errors:
        errors = list(_workload_errors(grid))
    raise_all(errors)


def _unknown(what: str, name: str, known: Iterable[str], where: str, command: str) -> InputError:
    close = did_you_mean(name, known)
    fix = f"did you mean {close}?" if close else command
    return InputError(f"{what} {name} does not exist", where=where, fix=fix)


def _site_errors(grid: GridView) -> Iterator[InputError]:
    for site in grid.sites.values():
        if not is_country(site.spec.country):
            yield InputError(
                f"no country has the code {site.spec.country}",
                where=f"{key_of(site)}, spec.country",
                fix="use an ISO 3166-1 alpha-2 code, for example FR",
            )


def _model_errors(grid: GridView) -> Iterator[InputError]:
    for model in grid.models.values():
        names = [variant.name for variant in model.spec.variants]
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield InputError(
                f"variant {name} is declared {names.count(name)} times",
                where=f"{key_of(model)}, spec.variants",
                fix="give every variant a name of its own",
            )


def _cluster_errors(grid: GridView) -> Iterator[InputError]:
    for cluster in grid.clusters.values():
        where, spec = str(key_of(cluster)), cluster.spec
        if spec.site not in grid.sites:
            fix = f"gridctl site register {spec.site} --lat … --lon … --country … --tier …"
            yield _unknown("site", spec.site, grid.sites, f"{where}, spec.site", fix)
        gpu = grid.gpus.get(spec.gpu)
        if gpu is None:
            yield _unknown("gpu", spec.gpu, grid.gpus, f"{where}, spec.gpu", "gridctl gpu list")
        used = sum(deployment.gpus for deployment in spec.deployments)
        if used > spec.gpus:
            yield InputError(
                f"its deployments need {used} GPUs, it has {spec.gpus}",
                where=f"{where}, spec.deployments",
                fix="lower replicas or tensor_parallel, or raise spec.gpus",
            )
        yield from _endpoint_errors(cluster, where)
        for index, deployment in enumerate(spec.deployments):
            place = f"{where}, spec.deployments[{index}]"
            yield from _deployment_errors(grid, deployment, gpu.spec if gpu else None, cluster, place)


def _endpoint_errors(cluster: Cluster, where: str) -> Iterator[InputError]:
    """Endpoints that no engine could have: more than there are replicas, or of nobody knows which deployment."""
    spec = cluster.spec
    if spec.endpoints and len(spec.deployments) != 1:
        yield InputError(
            f"spec.endpoints are of the cluster's only deployment, and it has {len(spec.deployments)}",
            where=f"{where}, spec.endpoints",
            fix="give each deployment its own endpoints",
        )
    for index, deployment in enumerate(spec.deployments):
        endpoints = deployment.endpoints or (spec.endpoints if len(spec.deployments) == 1 else ())
        if len(endpoints) > deployment.replicas:
            yield InputError(
                f"{len(endpoints)} endpoints, but {deployment.replicas} replicas: each engine has one",
                where=f"{where}, spec.deployments[{index}].endpoints",
                fix=f"set replicas: {len(endpoints)}, and gpus to match, or list fewer endpoints",
            )
        twice = next((url for url in endpoints if endpoints.count(url) > 1), None)
        if twice is not None:
            yield InputError(
                f"{twice} is listed twice: it would be counted as two engines",
                where=f"{where}, spec.deployments[{index}].endpoints",
                fix="list each engine once",
            )


def _deployment_errors(
    grid: GridView, deployment: Deployment, gpu: GpuSpec | None, cluster: Cluster, where: str
) -> Iterator[InputError]:
    limits = deployment.engine
    if limits.max_num_batched_tokens < limits.max_num_seqs:
        yield InputError(
            f"max_num_batched_tokens {limits.max_num_batched_tokens} is below max_num_seqs {limits.max_num_seqs}",
            where=f"{where}.engine",
            fix="every running sequence needs one token a step: raise max_num_batched_tokens",
        )
    found = grid.variant(deployment.variant)
    if found is None:
        yield _unknown(
            "model variant", deployment.variant, grid.variant_names(), f"{where}.variant", "gridctl model list -o wide"
        )
        return
    if gpu is None:
        return
    model, variant = found
    if deployment.data_parallel > 1 and model.spec.architecture.experts <= 1:
        yield InputError(
            f"data_parallel is {deployment.data_parallel}, but {model.name} has no experts to share",
            where=f"{where}.data_parallel",
            fix="ranks of a dense model are independent engines: use replicas",
        )
    yield from profile_reference_errors(grid, deployment, cluster.spec.gpu, where)
    plan = plan_memory(model.spec, variant, gpu, deployment)
    if plan.kv_blocks * limits.block_size < SMALLEST_CONTEXT:
        count = deployment.gpus_per_engine
        yield InputError(
            f"{deployment.variant} does not fit {count} × {cluster.spec.gpu}: {plan.arithmetic}",
            where=where,
            fix=_fitting(model, gpu, deployment, cluster.spec.gpus),
        )


def _fitting(model: Model, gpu: GpuSpec, deployment: Deployment, gpus: int) -> str:
    """A variant or a tensor_parallel that would fit, on the GPUs the cluster has or on more."""
    for parallel in sorted({deployment.tensor_parallel, 2, 4, 8}):
        for variant in sorted(model.spec.variants, key=lambda v: -model.spec.weight_bytes(v)):
            wider = structs.replace(deployment, tensor_parallel=parallel)
            plan = plan_memory(model.spec, variant, gpu, wider)
            if plan.kv_blocks * deployment.engine.block_size >= SMALLEST_CONTEXT:
                more = f", on at least {parallel} GPUs" if parallel > gpus else ""
                return f"deploy {model.name}/{variant.name} with tensor_parallel: {parallel}{more}"
    return "no variant of this model fits up to 8 of these GPUs: add a smaller variant"


def _serverless_errors(grid: GridView) -> Iterator[InputError]:
    for site in grid.sites.values():
        cpu: Serverless | None = site.spec.serverless
        if cpu is None:
            continue
        for index, reference in enumerate(cpu.variants):
            where = f"{key_of(site)}, spec.serverless.variants[{index}]"
            found = grid.variant(reference)
            if found is None:
                yield _unknown("model variant", reference, grid.variant_names(), where, "gridctl model list -o wide")
                continue
            weights = found[0].spec.weight_bytes(found[1])
            if weights > cpu.memory_gib * GIB * 0.8:
                yield InputError(
                    f"{reference} takes {weights / GIB:.1f} GiB, an instance has {cpu.memory_gib:g} GiB",
                    where=where,
                    fix="name a smaller variant, or raise serverless.memory_gib (a fifth is kept for the runtime)",
                )


def _link_errors(grid: GridView) -> Iterator[InputError]:
    for link in grid.links.values():
        for field, name in (("source", link.spec.source), ("target", link.spec.target)):
            if name not in grid.sites:
                yield _unknown("site", name, grid.sites, f"{key_of(link)}, spec.{field}", "gridctl site list")
    try:
        Overrides(grid.links.values())
    except InputError as error:
        yield error


def _price_errors(grid: GridView) -> Iterator[InputError]:
    for book in grid.prices.values():
        fallback = book.spec.fallback
        if fallback is not None and fallback.model not in grid.models:
            where = f"{key_of(book)}, spec.fallback.model"
            yield _unknown("model", fallback.model, grid.models, where, "gridctl model list")
        for gpu in book.spec.gpu_hour_usd:
            # A mistyped name would silently leave another price in force.
            if gpu not in grid.gpus:
                yield _unknown("gpu", gpu, grid.gpus, f"{key_of(book)}, spec.gpu_hour_usd", "gridctl gpu list")


def _gate_errors(grid: GridView) -> Iterator[InputError]:
    for gate in grid.gates.values():
        name = gate.spec.workload
        if name is not None and name not in grid.workloads:
            where = f"{key_of(gate)}, spec.workload"
            yield _unknown("workload", name, grid.workloads, where, "gridctl workload list")


def check_policy(spec: PolicySpec, where: str) -> Iterator[InputError]:
    """What is wrong with a policy whose fields are each in range."""
    if spec.telemetry.delay_ms > spec.telemetry.period_ms:
        yield InputError(
            f"telemetry.delay_ms {spec.telemetry.delay_ms:g} is above period_ms {spec.telemetry.period_ms:g}",
            where=where,
            fix="a scrape arrives before the next is made: raise period_ms to model stale telemetry",
        )


def check_overrides(spec: PolicySpec, workloads: Iterable[str], where: str) -> Iterator[InputError]:
    """Overrides of workloads that are not there: a mistyped one would change nothing, silently."""
    known = sorted(workloads)
    for name in spec.overrides:
        if name not in known:
            yield _unknown("workload", name, known, f"{where}.{name}", "gridctl workload list")


def _policy_errors(grid: GridView) -> Iterator[InputError]:
    for policy in grid.policies.values():
        yield from check_policy(policy.spec, f"{key_of(policy)}, spec.telemetry")
        yield from check_overrides(policy.spec, grid.workloads, f"{key_of(policy)}, spec.overrides")


def _workload_errors(grid: GridView) -> Iterator[InputError]:
    offers = _offers(grid)
    for workload in grid.workloads.values():
        where, spec = str(key_of(workload)), workload.spec
        unknown = [name for name in spec.models if name not in grid.models]
        for name in unknown:
            yield _unknown("model", name, grid.models, f"{where}, spec.models", "gridctl model list")
        rule = spec.jurisdiction
        if rule.rule == "listed" and not rule.allow:
            yield InputError(
                "jurisdiction rule `listed` allows nowhere",
                where=f"{where}, spec.jurisdiction.allow",
                fix="list jurisdictions or countries, for example allow: [EU]",
            )
            continue
        if unknown or not grid.clusters:
            continue
        able = [offer for offer in offers if offer[0] in spec.models]
        good = [offer for offer in able if offer[1] is not None and offer[1] >= spec.quality_floor]
        if spec.quality_floor == 0:
            good = able
        legal = [o for o in good if rule.rule != "listed" or o[2] in rule.allow or o[3] in rule.allow]
        if legal:
            continue
        reason, fix = (
            (f"no deployment of {', '.join(spec.models)}", "add it to a cluster's deployments")
            if not able
            else (
                (
                    f"no deployed variant reaches quality {spec.quality_floor:g}",
                    "lower quality_floor or deploy a better variant",
                )
                if not good
                else (f"no deployment inside {', '.join(rule.allow)}", "deploy there or widen jurisdiction.allow")
            )
        )
        yield InputError(f"no site may serve it: {reason}", where=where, fix=fix)


def _offers(grid: GridView) -> list[tuple[str, float | None, str, str]]:
    """(model, quality, country, jurisdiction) of everything deployed on clusters and functions."""
    offers: set[tuple[str, float | None, str, str]] = set()
    for cluster in grid.clusters.values():
        site = grid.sites[cluster.spec.site]
        place = (site.spec.country, jurisdiction_at(site))
        offers.update((*_offered(grid, deployment.variant), *place) for deployment in cluster.spec.deployments)
    for declared in grid.sites.values():
        spec = declared.spec
        if spec.serverless is not None:
            place = (spec.country, jurisdiction_at(declared))
            offers.update((*_offered(grid, reference), *place) for reference in spec.serverless.variants)
    return sorted(offers, key=str)


def _offered(grid: GridView, reference: str) -> tuple[str, float | None]:
    found = grid.variant(reference)
    assert found is not None, "references are checked first"
    return found[0].name, found[1].quality
