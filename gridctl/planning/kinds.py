"""Kinds: what may be placed, what has to be measured of it, and which of it is worth a variable.

Decides which variants may serve which demand (model and quality, hard), and leaves out kinds that another kind of the
same GPU replaces: within the precision of a capacity, engines of the other on as many GPUs serve at least as much of
everything at any distance.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from gridctl.errors import InputError, raise_all
from gridctl.grid.view import GridView
from gridctl.planning.capacity import BINS_MS, PRECISION, Bench, Capacity, Question, sample
from gridctl.planning.demand import Demand, DemandClass
from gridctl.planning.offers import Offer
from gridctl.planning.program import Kind
from gridctl.resources import Resource, Serverless
from gridctl.traces.trace import Trace

Served = tuple[Offer | Serverless, str]
"""An offer, or functions, and one `model/variant` of it."""


def served_by(offers: Sequence[Offer], functions: Sequence[Serverless]) -> Iterator[Served]:
    """Every engine and function that may be placed or used, in the order capacities are measured in."""
    for offer in offers:
        yield offer, offer.reference
    for function in functions:
        for reference in function.variants:
            yield function, reference


def kinds_of(
    view: GridView, demand: Demand, served: Sequence[Served], gpus: Sequence[str], measured: Sequence[Capacity]
) -> tuple[Kind, ...]:
    """Kinds with their capacities, without those that another kind replaces or that serve nothing."""
    answers = iter(measured)
    kinds = []
    for offer, reference in served:
        found = tuple(next(answers) if suits(view, wanted, reference) else None for wanted in demand.classes)
        if any(one is not None and not one.is_whole for one in found):
            continue  # another variant of the model replaces it
        if isinstance(offer, Offer):
            kinds.append(Kind(offer, str(offer), offer.tensor_parallel, gpus.index(offer.gpu), found))
        else:
            kinds.append(Kind(offer, f"{reference} as a function", 0, -1, found))
    return tuple(_undominated([kind for kind in kinds if _breadth(kind) > 0]))


def worth_asking(questions: Sequence[Question], nearest: Sequence[Capacity]) -> list[bool]:
    """Which variants another variant of the model, on as many of the same GPUs, does not serve at least as much as:
    nearby, of every class that they may serve. The slower of two variants is the slower at any distance."""
    served: dict[Offer, dict[int, float]] = {}
    for question, found in zip(questions, nearest, strict=True):
        if isinstance(question.offer, Offer):
            served.setdefault(question.offer, {})[question.trace] = found.rps[0]

    def is_replaced(offer: Offer) -> bool:
        own = served[offer]
        return any(
            (other.gpu, other.model, other.tensor_parallel) == (offer.gpu, offer.model, offer.tensor_parallel)
            and other != offer
            and all(rates.get(number, 0.0) >= rate for number, rate in own.items())
            and (rates != own or other.variant < offer.variant)
            for other, rates in served.items()
        )

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


def suits(view: GridView, wanted: DemandClass, reference: str) -> bool:
    """Whether a variant may serve a class: its model is accepted and its quality is measured and reaches the floor."""
    found = view.variant(reference)
    assert found is not None, "offers are made of declared variants"
    model, variant = found
    floor = wanted.workload.spec.quality_floor
    return model.name in wanted.models and (floor == 0 or (variant.quality is not None and variant.quality >= floor))


def functions_of(view: GridView) -> tuple[Serverless, ...]:
    """The distinct functions that sites run."""
    found = {
        msgspec.json.encode(site.spec.serverless): site.spec.serverless
        for site in view.sites.values()
        if site.spec.serverless is not None and site.spec.state == "active"
    }
    return tuple(found[key] for key in sorted(found))


def check_served(
    demand: Demand, offers: Sequence[Offer], functions: Sequence[Serverless], gpus: Sequence[str], models: Sequence[str]
) -> None:
    """Every class has an engine that may serve it; `models` are those the user allows, none for all.

    Raises: InputError for every class that has none."""
    errors = []
    variants = {name.partition("/")[0] for one in functions for name in one.variants}
    for wanted in demand.classes:
        able = [offer for offer in offers if offer.model in wanted.models]
        floor = wanted.workload.spec.quality_floor
        good = [offer for offer in able if floor == 0 or (offer.quality is not None and offer.quality >= floor)]
        if good or variants & set(wanted.models):
            continue
        names = ", ".join(wanted.models)
        if models and not set(models) & set(wanted.models):
            what, fix = f"nothing serves {wanted}: --models leaves out {names}", f"add one of them: --models {names}"
        elif not able:
            what = f"no variant of {names}, which {wanted} asks for, fits on up to 8 of {', '.join(gpus)}"
            fix = "offer a GPU with more memory: --gpus, gridctl gpu list"
        else:
            what = f"no variant of {names} that fits reaches the quality {floor:g} that {wanted} asks for"
            fix = "measure and declare a better variant, or lower quality_floor"
        errors.append(InputError(what, where="demand", fix=fix))
    raise_all(errors)


def bench_of(view: GridView, trace: Trace, demand: Demand, served: Sequence[Served], prices: str, seed: int) -> Bench:
    """A question for every engine and class it may serve, in the order `kinds_of` reads the answers."""
    traces = tuple(sample(trace, demand.rows_of(number)) for number in range(len(demand.classes)))
    questions = []
    for offer, reference in served:
        alone = offer if isinstance(offer, Offer) else msgspec.structs.replace(offer, variants=(reference,))
        questions += [
            Question(wanted.workload, alone, reference.partition("/")[0], number)
            for number, wanted in enumerate(demand.classes)
            if suits(view, wanted, reference)
        ]
    common: list[Resource] = [*view.models.values(), *view.profiles.values(), *view.gpus.values()]
    if prices in view.prices:
        book = view.prices[prices]
        common.append(msgspec.structs.replace(book, spec=msgspec.structs.replace(book.spec, fallback=None)))
    return Bench(tuple(questions), traces, tuple(common), prices, seed)
