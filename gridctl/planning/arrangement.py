"""Arrangement: a placement as a grid, replayed over the trace, and the table of what came of it.

Decides what is planned and what is replayed of an arrangement; solves nothing. Dollars planned are GPU-hours (and
functions by use); dollars replayed are everything the accounts count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from gridctl.accounts.plans import Arrangement, PlacedEngines, PromiseKept, Round
from gridctl.accounts.rows import Run
from gridctl.accounts.tables import SlaRow, TokenomicsRow
from gridctl.orchestrator.replaying import Order
from gridctl.orchestrator.scenario import Job, Scenario, Stage, run_job
from gridctl.planning.candidates import Candidates
from gridctl.planning.demand import Demand
from gridctl.planning.offers import Offer
from gridctl.planning.program import Kind, Limits, Plan
from gridctl.planning.trial import is_kept
from gridctl.resources import Cluster, ClusterSpec, Deployment, Metadata, Policy, Resource, Site
from gridctl.traces.trace import Trace
from gridctl.units import SECONDS_PER_HOUR

NAME_LIMIT = 63


@dataclass(frozen=True, slots=True)
class Case:
    """One arrangement to be solved and proved: where engines may stand, and all else that stays."""

    name: str
    candidates: Candidates
    kinds: tuple[Kind, ...]
    resources: tuple[Resource, ...]
    prices: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Proof:
    """What every case is proved with."""

    demand: Demand
    trace: Trace
    policy: Policy
    order: Order
    limits: Limits
    rounds: int


@dataclass(frozen=True, slots=True)
class Proved:
    """A case's result, and the grid it makes."""

    arrangement: Arrangement
    resources: tuple[Resource, ...]


def resources_of(case: Case, plan: Plan) -> tuple[Resource, ...]:
    """The grid with the plan's clusters instead of its own."""
    by_place: dict[tuple[int, int], list[Deployment]] = {}
    for placed in plan.placed:
        kind = case.kinds[placed.kind]
        assert isinstance(kind.offer, Offer), "only engines are placed"
        by_place.setdefault((placed.site, kind.gpu), []).append(kind.offer.deployment(placed.count))
    gpus = {kind.gpu: kind.offer.gpu for kind in case.kinds if isinstance(kind.offer, Offer)}
    clusters = []
    for (site, gpu), deployments in sorted(by_place.items()):
        name = case.candidates.sites[site].name
        spec = ClusterSpec(
            site=name,
            gpu=gpus[gpu],
            gpus=sum(one.gpus for one in deployments),
            deployments=tuple(deployments),
            usd_per_gpu_hour=float(case.prices[site, gpu]),
        )
        called = f"{name[: NAME_LIMIT - len(gpus[gpu]) - 1]}-{gpus[gpu]}"
        clusters.append(Cluster(metadata=Metadata(name=called), spec=spec))
    return (*case.resources, *clusters)


def has_engine(resources: Sequence[Resource]) -> bool:
    """Whether anything of the grid could serve a request: without it there is nothing to replay."""
    return any(
        isinstance(one, Cluster) or (isinstance(one, Site) and one.spec.serverless is not None) for one in resources
    )


def nothing_placed(proof: Proof, case: Case, plan: Plan) -> Arrangement:
    """The arrangement that holds no engine, because none may serve any of the demand: every promise is broken."""
    counts = np.bincount(proof.demand.class_of_request, minlength=len(proof.demand.classes)).tolist()
    requests: dict[str, int] = {}
    for wanted, count in zip(proof.demand.classes, counts, strict=True):
        requests[wanted.workload.name] = requests.get(wanted.workload.name, 0) + count
    targets = {one.workload.name: one.workload.spec.availability for one in proof.demand.classes}
    return Arrangement(
        name=case.name,
        is_feasible=plan.is_feasible,
        meets_sla=False,
        sites=0,
        engines=0,
        gpus=0,
        usd_per_hour=0.0,
        replayed_usd_per_hour=0.0,
        usd_per_mtok_goodput=None,
        attainment=0.0,
        gpu_utilization=None,
        promises=tuple(
            PromiseKept(
                workload=name,
                objective="availability",
                target=targets[name],
                attained=0.0,
                requests=requests[name],
                is_met=False,
                main_cause="rejected",
                late_share=0.0,
            )
            for name in sorted(requests)
        ),
        placed=(),
        rounds=(),
        trimmed=0,
        notes=case.candidates.notes,
    )


def replay_promises(
    proof: Proof, resources: Sequence[Resource], late_by_class: NDArray[np.float64], advanced: Callable[[int], None]
) -> tuple[tuple[PromiseKept, ...], TokenomicsRow, float, Run]:
    scenario = Scenario(tuple(resources), proof.policy, proof.order)
    outcome = run_job(Stage(proof.trace, (scenario,)), Job(0, 0, keeps_rows=True), advanced)
    late: dict[str, float] = {}
    for number, wanted in enumerate(proof.demand.classes):
        name = wanted.workload.name
        late[name] = max(late.get(name, 0.0), float(late_by_class[number]))
    promises = tuple(
        _kept(name, [row for row in outcome.main.sla["workload"] if row.workload == name], late[name])
        for name in sorted(late)
    )
    return promises, outcome.main.total, outcome.main.window_s, outcome.runs[0]


def _kept(workload: str, rows: Sequence[SlaRow], late_share: float) -> PromiseKept:
    """The workload's worst promise: a broken one before a kept one, then the one with the most budget spent."""
    worst = max(rows, key=lambda row: (not is_kept(row), row.burn or 0.0))
    return PromiseKept(
        workload=workload,
        objective=worst.objective,
        target=worst.target,
        attained=worst.attained,
        requests=worst.requests,
        is_met=is_kept(worst),
        main_cause=worst.main_cause,
        late_share=late_share,
    )


def arrangement_of(
    case: Case,
    plan: Plan,
    promises: tuple[PromiseKept, ...],
    total: TokenomicsRow,
    window_s: float,
    rounds: Sequence[Round],
    taken: int = 0,
) -> Arrangement:
    placed = []
    for one in plan.placed:
        kind, site = case.kinds[one.kind], case.candidates.sites[one.site]
        assert isinstance(kind.offer, Offer), "only engines are placed"
        placed.append(
            PlacedEngines(
                site=site.name,
                tier=site.spec.tier,
                country=site.spec.country,
                gpu=kind.offer.gpu,
                variant=kind.offer.reference,
                tensor_parallel=kind.offer.tensor_parallel,
                engines=one.count,
                gpus=one.count * kind.gpus,
                usd_per_hour=float(case.candidates.usd[one.site, kind.gpu]) * kind.gpus * one.count,
            )
        )
    notes = list(case.candidates.notes)
    if rounds[0].stopped_by == "time":
        notes.append("the clock stopped the solver: the best found so far; another machine may find another")
    return Arrangement(
        name=case.name,
        is_feasible=plan.is_feasible,
        meets_sla=all(one.is_met for one in promises),
        sites=len({one.site for one in placed}),
        engines=sum(one.engines for one in placed),
        gpus=sum(one.gpus for one in placed),
        usd_per_hour=plan.usd_per_hour,
        replayed_usd_per_hour=per_hour(total.usd, window_s),
        usd_per_mtok_goodput=total.usd_per_mtok_goodput,
        attainment=total.attainment or 0.0,
        gpu_utilization=total.gpu_utilization,
        promises=promises,
        placed=tuple(sorted(placed, key=lambda one: (-one.usd_per_hour, one.site, one.variant))),
        rounds=tuple(rounds),
        trimmed=taken,
        notes=tuple(notes),
    )


def replay_today(
    proof: Proof, resources: Sequence[Resource], name: str, advanced: Callable[[int], None]
) -> Arrangement:
    """The grid's own clusters under the same replay: no plan, what there is."""
    nobody = np.zeros(len(proof.demand.classes))
    promises, total, window_s, run = replay_promises(proof, resources, nobody, advanced)
    placed: list[PlacedEngines] = []
    for cluster in sorted((one for one in resources if isinstance(one, Cluster)), key=lambda one: one.name):
        placed += _engines_of(cluster, resources, run)
    owned = [one for one in run.info.engines if one.cluster]
    hourly = sum(one.gpus * one.usd_per_gpu_hour for one in owned)
    return Arrangement(
        name=name,
        is_feasible=True,
        meets_sla=all(one.is_met for one in promises),
        sites=len({one.site for one in owned}),
        engines=sum(one.engines for one in placed),
        gpus=sum(one.gpus for one in owned),
        usd_per_hour=hourly,
        replayed_usd_per_hour=per_hour(total.usd, window_s),
        usd_per_mtok_goodput=total.usd_per_mtok_goodput,
        attainment=total.attainment or 0.0,
        gpu_utilization=total.gpu_utilization,
        promises=promises,
        placed=tuple(placed),
        rounds=(),
        trimmed=0,
        notes=(),
    )


def _engines_of(cluster: Cluster, resources: Sequence[Resource], run: Run) -> list[PlacedEngines]:
    """What a declared cluster runs."""
    facts = next(one for one in run.info.engines if one.cluster == cluster.name)
    return [
        PlacedEngines(
            site=cluster.spec.site,
            tier=facts.tier,
            country=_country(resources, cluster.spec.site),
            gpu=cluster.spec.gpu,
            variant=deployment.variant,
            tensor_parallel=deployment.tensor_parallel,
            engines=deployment.replicas,
            gpus=deployment.gpus,
            usd_per_hour=deployment.gpus * facts.usd_per_gpu_hour,
        )
        for deployment in cluster.spec.deployments
    ]


def _country(resources: Sequence[Resource], site: str) -> str:
    return next(one.spec.country for one in resources if isinstance(one, Site) and one.name == site)


def per_hour(usd: float, window_s: float) -> float:
    return usd / window_s * SECONDS_PER_HOUR if window_s else 0.0


def without_functions(resources: Sequence[Resource]) -> tuple[Resource, ...]:
    """The sites without what they run by themselves, as the centralised alternative has them."""
    kept: list[Resource] = []
    for one in resources:
        if isinstance(one, Site) and one.spec.serverless is not None:
            one = msgspec.structs.replace(one, spec=msgspec.structs.replace(one.spec, serverless=None))
        kept.append(one)
    return tuple(kept)
