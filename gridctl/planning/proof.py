"""Proof: a placement replayed with the production router, corrected where it misses, and trimmed where it can spare.

Decides what a miss teaches. Requests that are late by distance take from what may be late by distance; any other bad
request raises the factor of its place and class, more where more were bad, and engines are added until a replay keeps
every promise. Then engines are taken away again, the dearest first, as long as the replay without them keeps every
promise with `RESERVE` of its error budget to spare: the program's capacities are careful, a replay knows. Rounds and
trials are bounded: a placement that still misses then is reported as one that misses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from gridctl.accounts.goodness import NETWORK, NO_CAUSE, judge
from gridctl.accounts.rows import Run
from gridctl.accounts.sla import sla
from gridctl.accounts.tables import SlaRow, TokenomicsRow
from gridctl.errors import InputError
from gridctl.orchestrator.replaying import Listener, Order, replayed
from gridctl.orchestrator.scenario import Job, Scenario, Stage, run_job
from gridctl.planning.candidates import Candidates
from gridctl.planning.demand import Demand
from gridctl.planning.offers import Offer
from gridctl.planning.program import Kind, Limits, Placed, Plan, late_shares, place_engines
from gridctl.accounts.plans import Arrangement, PlacedEngines, PromiseKept, Round
from gridctl.planning.trial import is_kept
from gridctl.resources import Cluster, ClusterSpec, Deployment, Metadata, Policy, Resource, Site
from gridctl.traces.trace import Trace

STEEPEST, LEAST = 2.0, 1.05
"""A factor rises by a quarter of how many times too many requests were bad, at least and at most so much; where none
was, by the least, because requests do not go where the program thought."""
PUSHES = 6
"""How often factors are raised without a replay while the program answers with the very placement that missed."""
RESERVE = 0.2
"""Of every error budget, what trimming leaves unspent: the same demand on another day is not the same trace."""
TRIALS, FEWEST_TRIALS, TRIED_REQUESTS = 60, 10, 1_000_000
"""Replays with engines taken away: at most so many, and so many requests in them, but at least so many."""
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


def replay_today(proof: Proof, resources: Sequence[Resource], name: str, advanced: Callable[[int], None]) -> Arrangement:
    """The grid's own clusters under the same replay: no plan, what there is."""
    nobody = np.zeros(len(proof.demand.classes))
    promises, total, window_s, run = _replayed(proof, resources, nobody, advanced)
    placed = []
    for cluster in sorted((one for one in resources if isinstance(one, Cluster)), key=lambda one: one.name):
        facts = next(one for one in run.info.engines if one.cluster == cluster.name)
        for deployment in cluster.spec.deployments:
            placed.append(
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
            )
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
        replayed_usd_per_hour=_per_hour(total.usd, window_s),
        usd_per_mtok_goodput=total.usd_per_mtok_goodput,
        attainment=total.attainment or 0.0,
        gpu_utilization=total.gpu_utilization,
        promises=promises,
        placed=tuple(placed),
        rounds=(),
        trimmed=0,
        notes=(),
    )


def _country(resources: Sequence[Resource], site: str) -> str:
    return next(one.spec.country for one in resources if isinstance(one, Site) and one.name == site)


def prove(
    proof: Proof,
    case: Case,
    say: Callable[[str], None],
    advanced: Callable[[int], None],
    check: Callable[[Plan], None] = lambda plan: None,
) -> Proved:
    """Solve, replay, correct, until every promise is kept or the rounds are used up; then trim.

    A workload that the program could not meet is not what rounds are for: it must only get no worse. `check` sees the
    first solution before anything is replayed. Raises: InputError when the solver finds no placement in its time."""
    factors = np.ones(proof.demand.rate.shape)
    late = late_shares(proof.demand)
    rounds: list[Round] = []
    plan = _solved(proof, case, factors, late, None)
    check(plan)
    bound = plan.bound if plan.is_feasible else 0.0
    hopeless = {one.workload.name for one, short in zip(proof.demand.classes, plan.unmet, strict=True) if short}
    for number in range(1, proof.rounds + 1):
        resources = resources_of(case, plan)
        promises, total, window_s, run = _replayed(proof, resources, plan.late, advanced)
        missed = tuple(one.workload for one in promises if not one.is_met)
        rounds.append(
            Round(
                number=number,
                usd_per_hour=plan.usd_per_hour,
                gap=max(0.0, 1 - bound / plan.usd_per_hour) if plan.usd_per_hour else 0.0,
                bound_usd_per_hour=max(0.0, bound),
                stopped_by=plan.stopped_by,
                gpus=sum(placed.count * case.kinds[placed.kind].gpus for placed in plan.placed),
                replayed_usd_per_hour=_per_hour(total.usd, window_s),
                attainment=total.attainment or 0.0,
                missed=missed,
            )
        )
        arrangement = _arrangement(case, plan, promises, total, window_s, rounds)
        at_fault = [name for name in missed if name not in hopeless]
        if not at_fault or number == proof.rounds:
            break
        say(f"{case.name}: round {number} at {plan.usd_per_hour:.2f} $/h misses {', '.join(at_fault)}; solving again")
        blamed = [one for one in promises if one.workload not in hopeless]
        step, late = corrections(proof.demand, run, blamed, late)
        for _ in range(PUSHES):
            factors = factors * step
            again = _solved(proof, case, factors, late, plan)
            if again.placed != plan.placed:
                break
        plan = again
    if not at_fault:
        plan, taken = _trimmed(proof, case, plan, _worst_allowed(proof, resources, hopeless, advanced), advanced)
        resources = resources_of(case, plan)
        if taken:
            say(f"{case.name}: {taken} engines taken away again; {plan.usd_per_hour:.2f} $/h")
            promises, total, window_s, _ = _replayed(proof, resources, plan.late, advanced)
            arrangement = _arrangement(case, plan, promises, total, window_s, rounds, taken)
    return Proved(arrangement, resources)


Allowed = dict[tuple[str, str], float]
"""Bad requests that trimming may leave, by workload and promise."""


def _worst_allowed(
    proof: Proof, resources: Sequence[Resource], hopeless: set[str], advanced: Callable[[int], None]
) -> Allowed:
    """The budget less the reserve; what there is now where that is more already, or nothing can be promised."""
    rows = _rows(proof, resources, advanced)
    return {
        (row.workload, row.objective): row.bad
        if row.workload in hopeless
        else max(float(row.bad), row.budget_requests * (1 - RESERVE))
        for row in rows
    }


def _trimmed(
    proof: Proof, case: Case, plan: Plan, allowed: Allowed, advanced: Callable[[int], None]
) -> tuple[Plan, int]:
    """The plan without the engines it can spare, and how many those are: the dearest first, then by name."""

    def price(one: Placed) -> float:
        return float(case.candidates.usd[one.site, case.kinds[one.kind].gpu]) * case.kinds[one.kind].gpus

    most = min(TRIALS, max(FEWEST_TRIALS, TRIED_REQUESTS // len(proof.trace)))
    counts = {(one.site, one.kind): one.count for one in plan.placed}
    order = sorted(plan.placed, key=lambda one: (-price(one), case.candidates.sites[one.site].name, one.kind))
    trials = 0

    def without(one: Placed, taken: int) -> Plan:
        left = {**counts, (one.site, one.kind): counts[one.site, one.kind] - taken}
        placed = tuple(Placed(site, kind, count) for (site, kind), count in sorted(left.items()) if count)
        return replace(plan, placed=placed, usd_per_hour=plan.usd_per_hour - price(one) * taken)

    for one in order:
        step = max(1, one.count // 2)
        while step and counts[one.site, one.kind] >= step and trials < most:
            fewer = without(one, step)
            if not fewer.placed:
                break
            trials += 1
            if _spares(_rows(proof, resources_of(case, fewer), advanced), allowed):
                plan = fewer
                counts[one.site, one.kind] -= step
            else:
                step //= 2
    return plan, sum(one.count for one in order) - sum(counts.values())


def _spares(rows: Sequence[SlaRow], allowed: Allowed) -> bool:
    """Whether no promise has more bad requests than it may."""
    return all(row.bad <= allowed[row.workload, row.objective] + 1e-9 for row in rows)


def _rows(proof: Proof, resources: Sequence[Resource], advanced: Callable[[int], None]) -> Sequence[SlaRow]:
    """What became of every promise when the trace is replayed over that grid."""
    run = replayed("plan", proof.trace, resources, proof.policy, proof.order, Listener(advanced=advanced), "")
    return sla(run, ["workload"]).workloads


def _solved(
    proof: Proof, case: Case, factors: NDArray[np.float64], late: NDArray[np.float64], before: Plan | None
) -> Plan:
    plan = place_engines(proof.demand, case.candidates, case.kinds, factors, late, proof.limits, before)
    if plan is None:
        raise InputError(
            f"the solver found no placement within {proof.limits.seconds:g} s",
            where=case.name,
            fix="give it longer: --time-limit 60",
        )
    return plan


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


def corrections(
    demand: Demand, run: Run, promises: Sequence[PromiseKept], late: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What to multiply factors by, `(places, classes)`, and the late shares of the next round, from the bad requests of
    the workloads that missed."""
    step, late = np.ones(demand.rate.shape), late.copy()
    cause = judge(run).cause
    place = demand.place_of_origin[run.rows.origin]
    allowed = {one.workload: max(1e-6, 1 - one.target) for one in promises if not one.is_met}
    for number, wanted in enumerate(demand.classes):
        if wanted.workload.name not in allowed:
            continue
        mine = demand.class_of_request == number
        may = allowed[wanted.workload.name]
        far = mine & (cause == NETWORK)
        if far.sum() > may / 2 * mine.sum():
            late[number] /= 2
        slow = mine & (cause != NO_CAUSE) & (cause != NETWORK)
        asked = np.bincount(place[mine], minlength=len(demand.names))
        bad = np.bincount(place[slow], minlength=len(demand.names))
        times_too_many = bad / np.maximum(1, asked) / may
        step[:, number] = np.clip(1 + times_too_many / 4, LEAST, STEEPEST)
    return step, late


def _replayed(
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


def _arrangement(
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
        replayed_usd_per_hour=_per_hour(total.usd, window_s),
        usd_per_mtok_goodput=total.usd_per_mtok_goodput,
        attainment=total.attainment or 0.0,
        gpu_utilization=total.gpu_utilization,
        promises=promises,
        placed=tuple(sorted(placed, key=lambda one: (-one.usd_per_hour, one.site, one.variant))),
        rounds=tuple(rounds),
        trimmed=taken,
        notes=tuple(notes),
    )


def _per_hour(usd: float, window_s: float) -> float:
    return usd / window_s * 3600 if window_s else 0.0


def without_functions(resources: Sequence[Resource]) -> tuple[Resource, ...]:
    """The sites without what they run by themselves, as the centralised alternative has them."""
    kept: list[Resource] = []
    for one in resources:
        if isinstance(one, Site) and one.spec.serverless is not None:
            one = msgspec.structs.replace(one, spec=msgspec.structs.replace(one.spec, serverless=None))
        kept.append(one)
    return tuple(kept)
