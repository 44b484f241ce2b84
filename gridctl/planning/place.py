"""Place: the cheapest placement for a trace, beside all-core and all-edge, each solved and proved in the same way.

Decides what is asked of the program (which kinds of engine, which sites), and what is said of the answers: which
arrangement is the cheapest that keeps every promise, and whether the edge pays for this demand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np

from gridctl.errors import InputError, UsageError, raise_all
from gridctl.executors.pool import running
from gridctl.grid.check import check_grid
from gridctl.grid.view import GridView
from gridctl.orchestrator.policies import choose_policy
from gridctl.orchestrator.replaying import Order, overlaid
from gridctl.planning import capacity
from gridctl.planning.candidates import Candidates, choose_candidates
from gridctl.planning.capacity import BINS_MS, PRECISION, Bench, Capacity, measure, sample
from gridctl.planning.demand import Demand, DemandClass, measure_demand, round_trips_ms
from gridctl.planning.offers import Offer, Prices, engine_offers
from gridctl.planning.program import NOTHING, Kind, Limits, Plan
from gridctl.planning.proof import Case, Proof, Proved, prove, replay_today, without_functions
from gridctl.planning.solver import solver_version
from gridctl.accounts.plans import Arrangement, Placement
from gridctl.resources import Cluster, Policy, Resource, Serverless, Site
from gridctl.traces.trace import Trace

PLAN, ALL_CORE, ALL_EDGE, TODAY = "plan", "all-core", "all-edge", "today"
WORTH = 0.01
"""A placement is cheaper than another when it saves more than this share."""
TOLD = 5


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked. Empty `models` means every model that the demand's workloads accept."""

    gpus: tuple[str, ...]
    models: tuple[str, ...] = ()
    budget_usd_per_hour: float | None = None
    limits: Limits = Limits()
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
    rtt_ms: np.ndarray
    usd: np.ndarray
    offers: tuple[Offer, ...]
    functions: tuple[Serverless, ...]
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
    for name in request.models:
        if name not in models:
            engine_offers(view, [], [name])
    wanted = [name for name in models if not request.models or name in request.models]
    offers = tuple(engine_offers(view, list(dict.fromkeys(request.gpus)), wanted, wider=True))
    functions = _functions(view)
    _check_served(demand, offers, functions, request)
    prices = Prices(view, request.prices, request.markup)
    sites = tuple(view.sites[name] for name in sorted(view.sites) if view.sites[name].spec.state == "active")
    if not sites:
        raise InputError("the grid has no active site", where="registry", fix="gridctl site list")
    gpus = sorted({offer.gpu for offer in offers})
    usd = np.array([[prices.usd_per_gpu_hour(gpu, site) + prices.electricity(gpu, site) for gpu in gpus] for site in sites])
    bench = _bench(view, complete, demand, offers, functions, request)
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
        functions,
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

    def worth_asking(nearest: Sequence[Capacity]) -> list[bool]:
        return _worth_asking(prepared.bench.questions, nearest)

    capacities = measure(prepared.bench, worth_asking, store, jobs=jobs, executor=executor, advanced=measured)
    kinds = _kinds(prepared, capacities)
    request = prepared.request
    order = Order(name="plan", prices=request.prices, seed=request.seed, with_centralized=False)
    proof = Proof(prepared.demand, prepared.trace, prepared.policy, order, request.limits, request.rounds)
    names = [PLAN, ALL_CORE, ALL_EDGE, *([TODAY] if prepared.clusters else [])]
    cases = {name: _case(prepared, name, kinds) for name in names[:3]}
    for name in names[:3]:
        if cases[name] is None:
            say(f"{name}: the grid has no such site")
    stage = ProofStage(
        proof, tuple(case for case in cases.values() if case), (*prepared.resources, *prepared.clusters), request.best_effort
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


def unmet(proof: Proof, case: Case, plan: Plan) -> list[InputError]:
    """Which demand the program could not meet, and why: law, distance, speed, or too few sites."""
    demand = proof.demand
    late = plan.over > NOTHING
    found: dict[str, InputError] = {}
    for place, number in np.argwhere((demand.rate > 0) & ((plan.unserved > NOTHING) | late[None, :])).tolist():
        error = _why_unmet(proof, case, place, number, is_unserved=bool(plan.unserved[place, number] > NOTHING))
        if error is not None:
            found.setdefault(error.what, error)
    if not found:
        found[""] = InputError("the demand cannot be met", where="demand", fix="give the solver longer: --time-limit 60")
    return list(found.values())[:TOLD]


def _why_unmet(proof: Proof, case: Case, place: int, number: int, *, is_unserved: bool) -> InputError | None:
    """Why a place's demand of a class is not met; None when it is not this place's fault."""
    demand, candidates = proof.demand, case.candidates
    wanted, where = demand.classes[number], demand.names[place]
    farthest = _farthest(case.kinds, number)
    lawful = candidates.lawful[place, number]
    if not lawful.any():
        rule, zone = wanted.workload.spec.jurisdiction, demand.zones[place]
        law = {"listed": ", ".join(rule.allow), "same-country": zone.country}.get(rule.rule, zone.jurisdiction)
        what = f"{wanted} from {where} may only be served in {law or 'a known jurisdiction'}, where there is no site"
        return InputError(what, where="demand", fix="register a site there, or widen the workload's jurisdiction")
    if farthest is None:
        what = f"no engine offered keeps the promises of {wanted}, alone and next to its clients"
        return InputError(what, where="demand", fix="offer faster GPUs or smaller models, or loosen its objectives")
    nearest = float(candidates.rtt_ms[place][lawful].min())
    if nearest > farthest:
        what = f"{wanted} from {where}: the nearest site that may serve it is {nearest:.0f} ms away"
        what += f", and no engine keeps its promises beyond {farthest:g} ms"
        return InputError(what, where="demand", fix="register a nearer site, loosen its objectives, or --best-effort")
    most = proof.limits.most_sites
    if is_unserved or most is not None:
        what = f"{wanted} from {where} is not met" + (f" with at most {most} sites" if most is not None else "")
        return InputError(what, where="demand", fix="allow more: --max-sites" if most is not None else "--time-limit 60")
    return None


def _farthest(kinds: Sequence[Kind], number: int) -> float | None:
    """The round trip beyond which no kind keeps the class's promises; None when none does at any."""
    served = [found.rps for kind in kinds if (found := kind.capacities[number]) is not None]
    ends = [BINS_MS[index] for rps in served for index, value in enumerate(rps) if value > 0]
    return max(ends, default=None)


def _found(prepared: Prepared, proved: dict[str, Proved], considered: int) -> Found:
    """The table with its finding; raises InputError when the cheapest is over the budget."""
    arrangements = [one.arrangement for one in proved.values()]
    plan = proved[PLAN].arrangement
    bearable = missed_by(plan)
    keeping = [one for one in arrangements if missed_by(one) <= bearable and one.name != TODAY]
    chosen = min(keeping, key=lambda one: (one.usd_per_hour, one.name != PLAN)).name
    if plan.usd_per_hour <= proved[chosen].arrangement.usd_per_hour:
        chosen = PLAN
    best = proved[chosen].arrangement
    budget = prepared.request.budget_usd_per_hour
    if budget is not None and best.usd_per_hour > budget:
        bound = plan.rounds[0].bound_usd_per_hour
        sure = "no placement costs less than" if bound > budget else "none was found; none costs less than"
        raise InputError(
            f"the cheapest placement found costs {best.usd_per_hour:.2f} $ an hour, the budget is {budget:.2f}"
            f" ({sure} {bound:.2f})",
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


def missed_by(arrangement: Arrangement) -> set[str]:
    """Workloads of which a promise is broken in the replay."""
    return {one.workload for one in arrangement.promises if not one.is_met}


def finding(arrangements: Sequence[Arrangement], chosen: str) -> str:
    """What came out, in a few sentences."""
    by_name = {one.name: one for one in arrangements}
    best = by_name[chosen]
    missed = missed_by(best)
    others = [by_name[name] for name in (ALL_CORE, ALL_EDGE, TODAY) if name in by_name and name != chosen]
    tiers = {placed.tier == "core" for placed in best.placed}
    where = "in the core and outside it" if len(tiers) > 1 else "all in the core" if True in tiers else "outside the core"
    kept = f"misses {', '.join(sorted(missed))} and keeps every other promise" if missed else "keeps every promise"
    parts = [_against(best, other) for other in others]
    text = f"The cheapest placement found {kept}, {where}, for {best.usd_per_hour:.2f} $ an hour"
    text += "".join(f"; {part}" for part in parts) + ". "
    core = by_name.get(ALL_CORE)
    core_does = core is not None and missed_by(core) <= missed and _saving(best, core) <= WORTH
    if tiers == {True} or core_does:
        return text + "The edge does not pay for this demand."
    return text + ("The edge pays for this demand." if tiers == {False} else "The edge pays for a part of this demand.")


def _against(best: Arrangement, other: Arrangement) -> str:
    worse = missed_by(other) - missed_by(best)
    if worse:
        return f"{other.name} ({other.usd_per_hour:.2f}) misses {', '.join(sorted(worse))}"
    saving = _saving(best, other)
    if abs(saving) <= WORTH:
        return f"{other.name} costs the same ({other.usd_per_hour:.2f})"
    if saving < 0:
        return f"{other.name} is cheaper still ({other.usd_per_hour:.2f})"
    return f"{other.name} costs {other.usd_per_hour:.2f}, of which {saving:.0%} is saved"


def _saving(best: Arrangement, other: Arrangement) -> float:
    return 1 - best.usd_per_hour / other.usd_per_hour if other.usd_per_hour else 0.0


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


def _hourly(prepared: Prepared, candidates: Candidates) -> np.ndarray:
    """Dollars a GPU-hour without power, `(sites, gpus)`: what a cluster declares."""
    gpus = sorted({offer.gpu for offer in prepared.offers})
    return np.array(
        [[prepared.prices.usd_per_gpu_hour(gpu, site) for gpu in gpus] for site in candidates.sites]
    ).reshape(len(candidates.sites), len(gpus))


def _kinds(prepared: Prepared, measured: Sequence[Capacity]) -> tuple[Kind, ...]:
    """Kinds with their capacities, without those that another kind replaces."""
    answers = iter(measured)
    gpus = sorted({offer.gpu for offer in prepared.offers})
    kinds = []
    for offer in (*prepared.offers, *prepared.functions):
        for reference in [offer.reference] if isinstance(offer, Offer) else list(offer.variants):
            asked = [
                next(answers) if _suits(prepared.view, wanted, reference) else None for wanted in prepared.demand.classes
            ]
            if any(one is not None and not one.is_whole for one in asked):
                continue  # another variant replaces it
            found = tuple(asked)
            if isinstance(offer, Offer):
                kinds.append(Kind(offer, str(offer), offer.tensor_parallel, gpus.index(offer.gpu), found))
            else:
                kinds.append(Kind(offer, f"{reference} as a function", 0, -1, found))
    return tuple(_undominated(kinds))


def _worth_asking(questions: Sequence[capacity.Question], nearest: Sequence[Capacity]) -> list[bool]:
    """Which variants another variant of the model, on as many of the same GPUs, does not serve at least as much as:
    nearby, of every class that they may serve. The slower of two variants is the slower at any distance."""
    served: dict[Offer, dict[int, float]] = {}
    for question, found in zip(questions, nearest, strict=True):
        if isinstance(question.offer, Offer):
            served.setdefault(question.offer, {})[question.trace] = found.rps[0]

    def is_replaced(offer: Offer) -> bool:
        for other, rates in served.items():
            alike = (other.gpu, other.model, other.tensor_parallel) == (offer.gpu, offer.model, offer.tensor_parallel)
            own = served[offer]
            if alike and other != offer and all(rates.get(number, 0.0) >= rate for number, rate in own.items()):
                if rates != own or other.variant < offer.variant:
                    return True
        return False

    replaced = {offer for offer in served if is_replaced(offer)}
    return [question.offer not in replaced for question in questions]


def _undominated(kinds: Sequence[Kind]) -> list[Kind]:
    """The kinds that no other kind of the same GPU replaces on as many GPUs, within the precision of a capacity."""
    kept: list[Kind] = []
    for kind in sorted(kinds, key=lambda one: (one.gpus, -_breadth(one), one.label)):
        if not any(_replaces(other, kind) for other in kept):
            kept.append(kind)
    return sorted(kept, key=lambda one: one.label)


def _breadth(kind: Kind) -> float:
    return sum(sum(one.rps) for one in kind.capacities if one is not None)


def _replaces(other: Kind, kind: Kind) -> bool:
    """Whether engines of `other` on no more GPUs serve at least as much of everything."""
    if kind.gpu < 0 or other.gpu != kind.gpu:
        return False
    engines = kind.gpus // other.gpus
    for mine, theirs in zip(kind.capacities, other.capacities, strict=True):
        ours = mine.rps if mine else (0.0,) * len(BINS_MS)
        rivals = theirs.rps if theirs else (0.0,) * len(BINS_MS)
        if any(engines * rival * PRECISION < own for own, rival in zip(ours, rivals, strict=True)):
            return False
    return True


def _suits(view: GridView, wanted: DemandClass, reference: str) -> bool:
    """Whether a variant may serve a class: its model is accepted and its quality is measured and reaches the floor."""
    found = view.variant(reference)
    assert found is not None, "offers are made of declared variants"
    model, variant = found
    floor = wanted.workload.spec.quality_floor
    return model.name in wanted.models and (floor == 0 or (variant.quality is not None and variant.quality >= floor))


def _functions(view: GridView) -> tuple[Serverless, ...]:
    """The distinct functions that sites run."""
    found = {
        msgspec.json.encode(site.spec.serverless): site.spec.serverless
        for site in view.sites.values()
        if site.spec.serverless is not None and site.spec.state == "active"
    }
    return tuple(found[key] for key in sorted(found))


def _check_served(
    demand: Demand, offers: Sequence[Offer], functions: Sequence[Serverless], request: Request
) -> None:
    """Every class has an engine that may serve it. Reports every class that has none."""
    errors = []
    variants = {(name.partition("/")[0]) for one in functions for name in one.variants}
    for wanted in demand.classes:
        able = [offer for offer in offers if offer.model in wanted.models]
        floor = wanted.workload.spec.quality_floor
        good = [offer for offer in able if floor == 0 or (offer.quality is not None and offer.quality >= floor)]
        if good or variants & set(wanted.models):
            continue
        names = ", ".join(wanted.models)
        if request.models and not set(request.models) & set(wanted.models):
            what, fix = f"nothing serves {wanted}: --models leaves out {names}", f"add one of them: --models {names}"
        elif not able:
            what = f"no variant of {names}, which {wanted} asks for, fits on up to 8 of {', '.join(request.gpus)}"
            fix = "offer a GPU with more memory: --gpus, gridctl gpu list"
        else:
            what = f"no variant of {names} that fits reaches the quality {floor:g} that {wanted} asks for"
            fix = "measure and declare a better variant, or lower quality_floor"
        errors.append(InputError(what, where="demand", fix=fix))
    raise_all(errors)


def _bench(
    view: GridView,
    trace: Trace,
    demand: Demand,
    offers: Sequence[Offer],
    functions: Sequence[Serverless],
    request: Request,
) -> Bench:
    """A question for every kind and class it may serve, in the order `_kinds` reads the answers."""
    traces = tuple(sample(trace, demand.rows_of(number)) for number in range(len(demand.classes)))
    questions = []
    for offer in (*offers, *functions):
        for reference in [offer.reference] if isinstance(offer, Offer) else list(offer.variants):
            alone = offer if isinstance(offer, Offer) else msgspec.structs.replace(offer, variants=(reference,))
            for number, wanted in enumerate(demand.classes):
                if _suits(view, wanted, reference):
                    model = reference.partition("/")[0]
                    questions.append(capacity.Question(wanted.workload, alone, model, number))
    common: list[Resource] = [*view.models.values(), *view.profiles.values(), *view.gpus.values()]
    if request.prices in view.prices:
        book = view.prices[request.prices]
        common.append(msgspec.structs.replace(book, spec=msgspec.structs.replace(book.spec, fallback=None)))
    return Bench(tuple(questions), traces, tuple(common), request.prices, request.seed)


def write_grid(folder: Path, resources: Sequence[Resource]) -> None:
    """The whole grid as manifests, a file for each kind.

    Raises: InputError when the folder is not empty or cannot be written, or the grid does not hold together."""
    from gridctl.manifest import dump
    from gridctl.resources import KINDS

    check_grid(resources)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists and is not empty", where="--out", fix="name a new folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for kind in KINDS.values():
            members = [one for one in resources if type(one) is kind]
            if members:
                (folder / f"{kind.plural}.yaml").write_text(dump(members, "yaml"), encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write: {error.strerror}", where=str(folder), fix="name another folder") from None
