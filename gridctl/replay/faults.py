"""Faults against a grid: which engines a game day's places mean, and the moments at which something changes.

Decides what a game day asks for and refuses what it cannot: places without engines, and two faults that hold the same
engine at the same time, because what they would come to together is nobody's plan. Knows no fleet and no clock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from gridctl.engine.state import API, GPU, SERVERLESS, UNUSED
from gridctl.errors import InputError, did_you_mean, raise_all
from gridctl.geography.regions import REGIONS
from gridctl.grid.image import Engine, GridImage
from gridctl.resources.gameday import PLACES, FaultSpec, GameDaySpec, Where, nanoseconds_of

Kind = Literal["lose", "slow", "brownout"]
KINDS: tuple[Kind, ...] = ("lose", "slow", "brownout")
END, BEGIN, NOTICE = range(3)
"""What happens at a moment; of one moment in this order, so that what is over is over before the next begins."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault and the engines it holds, from `at_ns` until `until_ns` on the trace's clock. `amount` is the factor of a
    slow-down, the share kept by a brown-out; the router knows of a loss from `noticed_ns` on."""

    kind: Kind
    text: str
    at_ns: int
    until_ns: int
    noticed_ns: int
    engines: tuple[int, ...]
    sites: tuple[str, ...]
    amount: float = 1.0


class Moment(NamedTuple):
    """Something happens to fault number `fault`."""

    at_ns: int
    what: int
    fault: int


def resolve_faults(
    spec: GameDaySpec, image: GridImage, place: Callable[[int, str], str] = lambda number, field: f"faults[{number}]"
) -> tuple[Fault, ...]:
    """The faults of a game day on this grid. `place(number, field)` says where a fault's field stands in its file.

    Raises InputError carrying every fault that cannot be."""
    problems: list[InputError] = []
    faults: list[Fault] = []
    numbers: list[int] = []
    for number, fault in enumerate(spec.faults):
        try:
            faults.append(_resolved(spec, fault, image, lambda field, number=number: place(number, field)))  # type: ignore[misc]
            numbers.append(number)
        except InputError as error:
            problems.append(error)
    problems += _overlaps(faults, numbers, place, image)
    raise_all(problems)
    return tuple(faults)


def moments_of(faults: Sequence[Fault]) -> list[Moment]:
    """Everything that happens, in order. A loss that is over before anybody notices it is noticed as it ends."""
    moments = []
    for number, fault in enumerate(faults):
        moments += [Moment(fault.at_ns, BEGIN, number), Moment(fault.until_ns, END, number)]
        if fault.kind == "lose" and fault.noticed_ns < fault.until_ns:
            moments.append(Moment(fault.noticed_ns, NOTICE, number))
    return sorted(moments)


def _resolved(spec: GameDaySpec, fault: FaultSpec, image: GridImage, place: Callable[[str], str]) -> Fault:
    given = [kind for kind in KINDS if getattr(fault, kind) is not None]
    if len(given) != 1:
        raise InputError(
            f"a fault is one of {', '.join(KINDS)}, not {' and '.join(given) or 'none'}",
            where=place(given[-1] if given else ""),
            fix="write several faults one after the other" if given else "for example lose: {site: NAME}",
        )
    kind = given[0]
    where: Where = getattr(fault, kind)
    named = [word for word in PLACES if getattr(where, word) is not None]
    if len(named) != 1:
        raise InputError(
            f"{kind} needs one place, not {' and '.join(named) or 'none'}",
            where=place(kind),
            fix=f"one of: {', '.join(PLACES)}",
        )
    word, name = named[0], str(getattr(where, named[0]))
    lasts_ns, at_ns = nanoseconds_of(fault.lasts), nanoseconds_of(fault.at)
    if lasts_ns == 0:
        raise InputError("the fault lasts no time", where=place("for"), fix="for: 5m")
    engines = _engines_at(image, word, name, place(kind))
    if kind == "brownout":
        # Functions start and stop with demand and have no batch; an API is not ours.
        engines = [number for number in engines if image.engines[number].spec.kind == GPU]
    if not engines:
        raise InputError(
            f"{word} {name} has no engine that could {_VERBS[kind]}", where=place(kind), fix="gridctl cluster list"
        )
    noticed_ns = at_ns + nanoseconds_of(fault.noticed_after or spec.noticed_after)
    amount = fault.slow.factor if fault.slow else fault.brownout.keep if fault.brownout else 1.0
    detail = {"lose": "", "slow": f" × {amount:g}", "brownout": f" to {amount:.0%}"}[kind]
    return Fault(
        kind=kind,
        text=f"{kind} {word} {name}{detail}",
        at_ns=at_ns,
        until_ns=at_ns + lasts_ns,
        noticed_ns=min(noticed_ns, at_ns + lasts_ns),
        engines=tuple(engines),
        sites=tuple(sorted({image.engines[number].facts.site for number in engines})),
        amount=amount,
    )


_VERBS = {"lose": "be lost", "slow": "slow down", "brownout": "lose seats"}
_FACTS: dict[str, Callable[[Engine], str]] = {
    "site": lambda engine: engine.facts.site,
    "cluster": lambda engine: engine.facts.cluster,
    "region": lambda engine: engine.facts.region,
    "country": lambda engine: engine.country,
    "tier": lambda engine: engine.facts.tier,
}


def _engines_at(image: GridImage, word: str, name: str, where: str) -> list[int]:
    """The engines and functions of a place. Raises InputError for a place the grid does not know."""
    known: dict[str, Sequence[str]] = {
        "site": list(image.view.sites),
        "cluster": list(image.view.clusters),
        "region": REGIONS,
        "country": sorted({site.spec.country for site in image.view.sites.values()}),
        "tier": sorted({site.spec.tier for site in image.view.sites.values()}),
    }
    if name not in known[word]:
        near = did_you_mean(name, known[word])
        listed = "gridctl site list" if word not in ("cluster", "region") else f"gridctl {word} list"
        fix = f"one of: {', '.join(REGIONS)}" if word == "region" else listed
        raise InputError(f"the grid has no {word} {name}", where=where, fix=f"did you mean {near}?" if near else fix)
    fact = _FACTS[word]
    return [
        number
        for number, engine in enumerate(image.engines)
        if engine.spec.kind in (GPU, SERVERLESS) and engine.spec.kind not in (API, UNUSED) and fact(engine) == name
    ]


def _overlaps(
    faults: Sequence[Fault], numbers: Sequence[int], place: Callable[[int, str], str], image: GridImage
) -> list[InputError]:
    """Every fault that begins while another holds one of its engines."""
    problems = []
    held: dict[int, Fault] = {}
    for number, fault in sorted(zip(numbers, faults, strict=True), key=lambda pair: pair[1].at_ns):
        before = next((held[one] for one in fault.engines if one in held and held[one].until_ns > fault.at_ns), None)
        if before is not None:
            shared = next(one for one in fault.engines if held.get(one) is before)
            facts = image.engines[shared].facts
            problems.append(
                InputError(
                    f"{fault.text} begins while {before.text} holds {facts.cluster or facts.site}",
                    where=place(number, fault.kind),
                    fix="let one end before the other begins, or name places without a common engine",
                )
            )
        for one in fault.engines:
            if one not in held or held[one].until_ns < fault.until_ns:
                held[one] = fault
    return problems
