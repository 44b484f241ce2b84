"""Place: the cheapest placement for a trace, beside all-core and all-edge, each solved and proved in the same way.

Decides what is asked of the program (which kinds of engine, which sites), and what is said of the answers: which
arrangement is the cheapest that keeps every promise, and whether the edge pays for this demand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from gridctl.accounts.plans import Placement
from gridctl.errors import InputError, UsageError, raise_all
from gridctl.executors.pool import running
from gridctl.grid.check import check_grid
from gridctl.grid.view import GridView
from gridctl.orchestrator.policies import choose_policy
from gridctl.orchestrator.replaying import Order, overlaid
from gridctl.planning.arrangement import Case, Proof, Proved, replay_today, without_functions
from gridctl.planning.candidates import Candidates, choose_candidates
from gridctl.planning.capacity import Bench, measure
from gridctl.planning.demand import Demand, measure_demand, round_trips_ms
from gridctl.planning.finding import ALL_CORE, ALL_EDGE, PLAN, TODAY, chosen_among, finding
from gridctl.planning.kinds import Served, bench_of, check_served, functions_of, kinds_of, served_by, worth_asking
from gridctl.planning.offers import Offer, Prices, check_models, engine_offers
from gridctl.planning.program import Kind, Limits, Plan
from gridctl.planning.proof import prove
from gridctl.planning.solver import solver_version
from gridctl.planning.unmet import unmet
from gridctl.resources import Cluster, Policy, Resource, Site
from gridctl.traces.trace import Trace


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked. Empty `models` means every model that the demand's workloads accept."""

    gpus: tuple[str, ...]
    models: tuple[str, ...] = ()
    budget_usd_per_hour: float | None = None
    limits: Limits = field(default_factory=Limits)
    rounds: int = 5
    best_effort: bool = False
    policy: str | None = None
    prices: str = "default"
    markup: float = 0.0
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything checked, nothing measured yet."""

    request: Request
    resources: tuple[Resource, ...]
    clusters: tuple[Cluster, ...]
    view: GridView
    trace: Trace
    policy: Policy
    demand: Demand
    sites: tuple[Site, ...]
    rtt_ms: NDArray[np.float64]
    usd: NDArray[np.float64]
    offers: tuple[Offer, ...]
    served: tuple[Served, ...]
    bench: Bench
    prices: Prices


@dataclass(frozen=True, slots=True)
class Found:
    """The table, and the grid of the chosen arrangement (None when none keeps every promise)."""

    placement: Placement
    chosen: str
    resources: tuple[Resource, ...]


def prepare(resources: Sequence[Resource], trace: Trace, request: Request, say: Callable[[str], None]) -> Prepared:
    """Measure the demand and gather what may serve it.

    Raises: UsageError, NotFoundError and InputError for what is missing or cannot be served by anything offered."""
    solver_version()
    if not request.gpus:
        raise UsageError("which GPUs may be placed?", where="--gpus", fix="--gpus l40s,rtx-pro-6000")
    kept = tuple(one for one in resources if not isinstance(one, Cluster))
    view = GridView(resources)
    complete = overlaid(trace, resources, request.seed, say).whole()
    policy = choose_policy(resources, request.policy)
    demand = measure_demand(view, complete)
    models = [name for one in demand.classes for name in one.models]
    check_models(view, request.models)
    wanted = [name for name in models if not request.models or name in request.models]
    offers = tuple(engine_offers(view, list(dict.fromkeys(request.gpus)), wanted, wider=True))
    functions = functions_of(view)
    check_served(demand, offers, functions, request.gpus, request.models)
    served = tuple(served_by(offers, functions))
    prices = Prices(view, request.prices, request.markup)
    sites = tuple(view.sites[name] for name in sorted(view.sites) if view.sites[name].spec.state == "active")
    if not sites:
        raise InputError("the grid has no active site", where="registry", fix="gridctl site list")
    gpus = sorted({offer.gpu for offer in offers})
    usd = np.array(
        [[prices.usd_per_gpu_hour(gpu, site) + prices.electricity(gpu, site) for gpu in gpus] for site in sites]
    )
    bench = bench_of(view, complete, demand, served, request.prices, request.seed)
    return Prepared(
        request,
        kept,
        tuple(one for one in resources if isinstance(one, Cluster)),
        view,
        complete,
        policy,
        demand,
        sites,
        round_trips_ms(view, demand, sites),
        usd.reshape(len(sites), len(gpus)),
        offers,
        served,
        bench,
        prices,
    )


def find_placement(
    prepared: Prepared,
    store: Path | None,
    *,
    jobs: int | None,
    executor: str,
    say: Callable[[str], None],
    measured: Callable[[int], None] = lambda engines: None,
    advanced: Callable[[int], None] = lambda requests: None,
) -> Found:
    """Measure capacities, then solve and prove the plan, all-core and all-edge.

    Raises: InputError when the demand cannot be met, with what cannot and why, or not within the budget."""
    bench = prepared.bench
    capacities = measure(
        bench,
        lambda nearest: worth_asking(bench.questions, nearest),
        store,
        jobs=jobs,
        executor=executor,
        advanced=measured,
    )
    gpus = sorted({offer.gpu for offer in prepared.offers})
    kinds = kinds_of(prepared.view, prepared.demand, prepared.served, gpus, capacities)
    request = prepared.request
    order = Order(name="plan", prices=request.prices, seed=request.seed, with_centralized=False)
    proof = Proof(prepared.demand, prepared.trace, prepared.policy, order, request.limits, request.rounds)
    names = [PLAN, ALL_CORE, ALL_EDGE, *([TODAY] if prepared.clusters else [])]
    cases = {name: _case(prepared, name, kinds) for name in names[:3]}
    for name in names[:3]:
        if cases[name] is None:
            say(f"{name}: the grid has no such site")
    stage = ProofStage(
        proof,
        tuple(case for case in cases.values() if case),
        (*prepared.resources, *prepared.clusters),
        request.best_effort,
    )
    numbered = [*range(len(stage.cases)), *([len(stage.cases)] if prepared.clusters else [])]
    proved: dict[str, Proved] = {}
    with running(executor, prove_case, stage, numbered, workers=jobs) as pool:
        for _, (one, told) in pool.results(lambda number, requests: advanced(requests)):
            for text in told:
                say(text)
            proved[one.arrangement.name] = one
    considered = max(len(case.candidates.sites) for case in stage.cases)
    return _found(prepared, {name: proved[name] for name in names if name in proved}, considered)


@dataclass(frozen=True, slots=True)
class ProofStage:
    """What the cases are proved on; `today` is the grid with its own clusters."""

    proof: Proof
    cases: tuple[Case, ...]
    today: tuple[Resource, ...]
    best_effort: bool


def prove_case(stage: ProofStage, number: int, advanced: Callable[[int], None]) -> tuple[Proved, list[str]]:
    """One case proved, or the grid as it is; and what there is to say about it."""
    if number == len(stage.cases):
        return Proved(replay_today(stage.proof, stage.today, TODAY, advanced), stage.today), []
    case = stage.cases[number]
    told: list[str] = []
    reasons: list[str] = []

    def check(plan: Plan) -> None:
        errors = [] if plan.is_feasible else unmet(stage.proof, case, plan)
        if case.name == PLAN and not stage.best_effort:
            raise_all(errors)
        reasons.extend(error.what for error in errors)

    found = prove(stage.proof, case, told.append, advanced, check)
    arrangement = msgspec.structs.replace(found.arrangement, notes=(*found.arrangement.notes, *reasons))
    return replace(found, arrangement=arrangement), told


def _found(prepared: Prepared, proved: dict[str, Proved], considered: int) -> Found:
    """The table with its finding; raises InputError when the cheapest is over the budget."""
    arrangements = [one.arrangement for one in proved.values()]
    chosen = chosen_among({name: one.arrangement for name, one in proved.items()})
    best = proved[chosen].arrangement
    budget = prepared.request.budget_usd_per_hour
    if budget is not None and best.usd_per_hour > budget:
        raise InputError(
            f"the cheapest placement found costs {best.usd_per_hour:.2f} $ an hour, the budget is {budget:.2f}",
            where="--budget",
            fix=f"--budget {best.usd_per_hour:.2f}, or cheaper GPUs: --gpus",
        )
    placement = Placement(
        trace=prepared.trace.name,
        policy=prepared.policy.name,
        requests=len(prepared.trace),
        demand_places=len(prepared.demand.names),
        candidate_sites=len(prepared.sites),
        considered_sites=considered,
        offers=tuple(str(offer) for offer in prepared.offers),
        chosen=chosen,
        finding=finding(arrangements, chosen),
        arrangements=tuple(arrangements),
        notes=prepared.trace.notes,
    )
    return Found(placement, chosen, proved[chosen].resources)


def _case(prepared: Prepared, name: str, kinds: tuple[Kind, ...]) -> Case | None:
    """The arrangement of that name; None when no site of the grid may be in it."""
    is_core = np.array([site.spec.tier == "core" for site in prepared.sites])
    chosen = {PLAN: np.ones(len(is_core), bool), ALL_CORE: is_core, ALL_EDGE: ~is_core}[name]
    numbers = np.flatnonzero(chosen)
    if not len(numbers):
        return None
    resources = prepared.resources
    sites = [prepared.sites[number] for number in numbers.tolist()]
    if name == ALL_CORE:
        resources = without_functions(resources)
        sites = [one for one in without_functions(sites) if isinstance(one, Site)]
    candidates = choose_candidates(prepared.demand, sites, prepared.rtt_ms[:, numbers], prepared.usd[numbers])
    return Case(name, candidates, kinds, resources, _hourly(prepared, candidates))


def _hourly(prepared: Prepared, candidates: Candidates) -> NDArray[np.float64]:
    """Dollars a GPU-hour without power, `(sites, gpus)`: what a cluster declares."""
    gpus = sorted({offer.gpu for offer in prepared.offers})
    return np.array(
        [[prepared.prices.usd_per_gpu_hour(gpu, site) for gpu in gpus] for site in candidates.sites]
    ).reshape(len(candidates.sites), len(gpus))


def check_folder(folder: Path) -> None:
    """Refuse a folder that holds something, before any work. Raises: InputError."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists and is not empty", where="--out", fix="name a new folder")


def write_grid(folder: Path, resources: Sequence[Resource]) -> None:
    """The whole grid as manifests, a file for each kind.

    Raises: InputError when the folder is not empty or cannot be written, or the grid does not hold together."""
    from gridctl.manifest import dump
    from gridctl.resources import KINDS

    check_grid(resources)
    check_folder(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for kind in KINDS.values():
            members = [one for one in resources if type(one) is kind]
            if members:
                (folder / f"{kind.plural}.yaml").write_text(dump(members, "yaml"), encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write: {error.strerror}", where=str(folder), fix="name another folder") from None
