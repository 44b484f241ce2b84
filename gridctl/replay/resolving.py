"""Resolving: a game day held against a grid and a trace — which engines and clients its places mean.

Decides what a game day asks for and refuses what it cannot: places without engines, clients the trace does not have,
and two faults that hold the same thing at the same time, because what they would come to together is nobody's plan.
Knows no fleet and no clock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gridctl.accounts.facts import FOREVER_NS, Origin
from gridctl.engine.state import API, GPU, SERVERLESS, UNUSED
from gridctl.errors import InputError, did_you_mean, raise_all
from gridctl.geography.regions import REGIONS
from gridctl.grid.image import Engine, GridImage
from gridctl.replay.faults import KINDS, Fault, Way
from gridctl.replay.overlaps import overlaps
from gridctl.resources.gameday import (
    PLACES,
    SOURCES,
    Crowd,
    FaultSpec,
    GameDaySpec,
    Path,
    PriceChange,
    Whence,
    Where,
    nanoseconds_of,
)
from gridctl.traces.crowd import known_origin

_SERVING = (GPU, SERVERLESS)
MOST_LISTED = 8
"""Places of clients that an error names."""


def resolve_faults(
    spec: GameDaySpec,
    image: GridImage,
    place: Callable[[int, str], str] = lambda number, field: f"faults[{number}]",
    origins: Sequence[Origin] = (),
) -> tuple[Fault, ...]:
    """The faults of a game day on this grid. `place(number, field)` says where a fault's field stands in its file;
    `origins` are where the trace's requests come from.

    Raises InputError carrying every fault that cannot be."""
    problems: list[InputError] = []
    faults: list[Fault] = []
    numbers: list[int] = []
    for number, fault in enumerate(spec.faults):
        try:
            faults.append(_Resolver(spec, fault, image, origins, number, place).fault())
            numbers.append(number)
        except InputError as error:
            problems.append(error)
    problems += overlaps(faults, numbers, place, image, [origin.name for origin in origins])
    raise_all(problems)
    return tuple(faults)


class _Resolver:
    """One fault of a file, held against the grid."""

    def __init__(
        self,
        spec: GameDaySpec,
        fault: FaultSpec,
        image: GridImage,
        origins: Sequence[Origin],
        number: int,
        place: Callable[[int, str], str],
    ) -> None:
        self._spec = spec
        self._fault = fault
        self._image = image
        self._origins = origins
        self._number = number
        self._place = place

    def _where(self, field: str) -> str:
        return self._place(self._number, field)

    def fault(self) -> Fault:
        """What the file's fault means here. Raises InputError when it cannot be."""
        fault = self._fault
        given = [kind for kind in KINDS if getattr(fault, kind) is not None]
        if len(given) != 1:
            raise InputError(
                f"a fault is one of {', '.join(KINDS)}, not {' and '.join(given) or 'none'}",
                where=self._where(given[-1] if given else ""),
                fix="write several faults one after the other" if given else "for example lose: {site: NAME}",
            )
        at_ns = nanoseconds_of(fault.at)
        if fault.lasts is None and given[0] != "price":
            raise InputError("the fault does not say how long", where=self._where(given[0]), fix="for: 5m")
        lasts_ns = FOREVER_NS if fault.lasts is None else nanoseconds_of(fault.lasts)
        if lasts_ns == 0:
            raise InputError("the fault lasts no time", where=self._where("for"), fix="for: 5m")
        until_ns = FOREVER_NS if fault.lasts is None else at_ns + lasts_ns
        noticed_ns = at_ns + nanoseconds_of(fault.noticed_after or self._spec.noticed_after)
        when = (at_ns, until_ns, min(noticed_ns, until_ns))
        if fault.link is not None:
            return self._path(fault.link, when)
        if fault.crowd is not None:
            return self._crowd(fault.crowd, when)
        if fault.price is not None:
            return self._price(fault.price, when)
        return self._engines(given[0], when)

    def _engines(self, kind: str, when: tuple[int, int, int]) -> Fault:
        """A fault of engines: lost, slow, fewer seats, unseen."""
        fault = self._fault
        where: Where = getattr(fault, kind)
        name, engines = self._at(where, kind, may_be_all=kind == "telemetry")
        if kind == "brownout":
            # Functions start and stop with demand and have no batch; an API is not ours.
            engines = [number for number in engines if self._image.engines[number].spec.kind == GPU]
        if not engines:
            raise InputError(
                f"{name} has no engine that could {_VERBS[kind]}", where=self._where(kind), fix="gridctl cluster list"
            )
        amount = fault.slow.factor if fault.slow else fault.brownout.keep if fault.brownout else 1.0
        state = fault.telemetry.state if fault.telemetry else ""
        detail = {"slow": f" × {amount:g}", "brownout": f" to {amount:.0%}"}.get(kind, "")
        return Fault(
            kind=kind,
            text=f"telemetry of {name} {state}" if state else f"{kind} {name}{detail}",
            at_ns=when[0],
            until_ns=when[1],
            noticed_ns=when[2],
            engines=tuple(engines),
            sites=self._sites(engines),
            amount=amount,
            what=state,
        )

    def _path(self, path: Path, when: tuple[int, int, int]) -> Fault:
        if path.lost == (path.add_ms > 0):
            raise InputError(
                "a link is lost or takes longer, one of them",
                where=self._where("link"),
                fix="add_ms: 80, or lost: true",
            )
        name, ways = self._between(path.between) if path.between is not None else self._from_to(path)
        if path.between is not None and (path.whence is not None or path.to is not None):
            raise InputError("between says both ends", where=self._where("link"), fix="leave out from and to")
        ways = [way for way in ways if way.origins and way.engines]
        if not ways:
            raise InputError(
                f"no request of the trace would take {name}",
                where=self._where("link"),
                fix="name clients the trace has, and a place with engines",
            )
        engines = sorted({engine for way in ways for engine in way.engines})
        return Fault(
            kind="link",
            text=f"link {name} {'lost' if path.lost else f'+{path.add_ms:g} ms'}",
            at_ns=when[0],
            until_ns=when[1],
            noticed_ns=when[2],
            engines=tuple(engines),
            sites=self._sites(engines),
            origins=tuple(sorted({origin for way in ways for origin in way.origins})),
            ways=tuple(ways),
            added_us=round(path.add_ms * 1000),
            is_cut=path.lost,
        )

    def _from_to(self, path: Path) -> tuple[str, list[Way]]:
        if path.whence is None or path.to is None:
            raise InputError(
                "a link leads from clients to engines",
                where=self._where("link"),
                fix="from: {region: EU}, to: {site: NAME}; or between: LINK",
            )
        whence, origins = self._from(path.whence, "link")
        to, engines = self._at(path.to, "link")
        return f"from {whence} to {to}", [Way(tuple(origins), tuple(engines))]

    def _between(self, name: str) -> tuple[str, list[Way]]:
        """Both directions of a declared link: clients at either site, engines at the other."""
        links = self._image.view.links
        if name not in links:
            near = did_you_mean(name, links)
            fix = f"did you mean {near}?" if near else "gridctl link list"
            raise InputError(f"the grid has no link {name}", where=self._where("link"), fix=fix)
        ends = links[name].spec.source, links[name].spec.target
        ways = []
        for one, other in (ends, ends[::-1]):
            origins = tuple(number for number, origin in enumerate(self._origins) if known_origin(origin.name) == one)
            ways.append(Way(origins, tuple(_engines_at(self._image, "site", other, self._where("link")))))
        return name, ways

    def _crowd(self, crowd: Crowd, when: tuple[int, int, int]) -> Fault:
        name, origins = self._from(crowd, "crowd")
        return Fault(
            kind="crowd",
            text=f"crowd at {name} × {crowd.times:g}",
            at_ns=when[0],
            until_ns=when[1],
            noticed_ns=when[0],
            amount=crowd.times,
            origins=tuple(origins),
        )

    def _price(self, price: PriceChange, when: tuple[int, int, int]) -> Fault:
        kinds = _PRICED[price.of]
        if price.of == "api" and any(getattr(price, word) is not None for word in PLACES):
            raise InputError("the API stands at no place", where=self._where("price"), fix="leave the place out")
        if price.of == "api":
            name, engines = "", [number for number, one in enumerate(self._image.engines) if one.spec.kind == API]
        else:
            name, found = self._at(price, "price", may_be_all=True, kinds=(GPU, SERVERLESS, UNUSED))
            engines = [number for number in found if self._image.engines[number].spec.kind in kinds]
        if not engines:
            raise InputError(
                f"nothing at {name or 'all'} has a price of {price.of}",
                where=self._where("price"),
                fix="name a place with it",
            )
        return Fault(
            kind="price",
            text=f"price of {price.of} {f'at {name} ' if name else ''}× {price.factor:g}",
            at_ns=when[0],
            until_ns=when[1],
            noticed_ns=when[0],
            engines=tuple(engines),
            sites=self._sites(engines),
            amount=price.factor,
            what=price.of,
        )

    def _from(self, whence: Whence, field: str) -> tuple[str, list[int]]:
        """Clients of a place: its words, and which of the trace's origins they are."""
        named = [word for word in SOURCES if getattr(whence, word) is not None]
        if len(named) != 1:
            raise InputError(
                f"clients are of one place, not {' and '.join(named) or 'none'}",
                where=self._where(field),
                fix=f"one of: {', '.join(SOURCES)}",
            )
        word, name = named[0], str(getattr(whence, named[0]))
        facts: dict[str, Callable[[Origin], str]] = {
            "origin": lambda origin: known_origin(origin.name),
            "country": lambda origin: origin.country,
            "region": lambda origin: origin.region,
        }
        fact = facts[word]
        found = [number for number, origin in enumerate(self._origins) if fact(origin) == name]
        if not found:
            known = sorted({fact(origin) for origin in self._origins} - {""})
            near = did_you_mean(name, known)
            listed = ", ".join(known[:MOST_LISTED]) + (", …" if len(known) > MOST_LISTED else "")
            raise InputError(
                f"no request of the trace comes from {word} {name}",
                where=self._where(field),
                fix=f"did you mean {near}?" if near else f"one of: {listed}",
            )
        return name if word == "origin" else f"{word} {name}", found

    def _at(
        self, where: Where, field: str, *, may_be_all: bool = False, kinds: tuple[int, ...] = _SERVING
    ) -> tuple[str, list[int]]:
        """Engines of a place: its words, and which they are."""
        named = [word for word in PLACES if getattr(where, word) is not None]
        if may_be_all and not named:
            return "all engines", [n for n, one in enumerate(self._image.engines) if one.spec.kind in kinds]
        if len(named) != 1:
            raise InputError(
                f"{field} needs one place, not {' and '.join(named) or 'none'}",
                where=self._where(field),
                fix=f"one of: {', '.join(PLACES)}",
            )
        word, name = named[0], str(getattr(where, named[0]))
        engines = _engines_at(self._image, word, name, self._where(field), kinds)
        if where.model is None:
            return f"{word} {name}", engines
        own = [number for number in engines if self._image.engines[number].facts.model == where.model]
        if not own:
            near = did_you_mean(where.model, {self._image.engines[number].facts.model for number in engines})
            fix = f"did you mean {near}?" if near else "gridctl model list"
            raise InputError(f"no engine of {word} {name} serves {where.model}", where=self._where(field), fix=fix)
        return f"{where.model} at {word} {name}", own

    def _sites(self, engines: Sequence[int]) -> tuple[str, ...]:
        return tuple(sorted({self._image.engines[number].facts.site for number in engines} - {""}))


_VERBS = {"lose": "be lost", "slow": "slow down", "brownout": "lose seats", "telemetry": "be seen"}
_PRICED = {
    "gpu-hour": (GPU, UNUSED),
    "energy": (GPU, UNUSED),
    "serverless": (SERVERLESS,),
    "egress": _SERVING,
    "api": (API,),
}
_FACTS: dict[str, Callable[[Engine], str]] = {
    "site": lambda engine: engine.facts.site,
    "cluster": lambda engine: engine.facts.cluster,
    "region": lambda engine: engine.facts.region,
    "country": lambda engine: engine.country,
    "tier": lambda engine: engine.facts.tier,
}


def _engines_at(image: GridImage, word: str, name: str, where: str, kinds: tuple[int, ...] = _SERVING) -> list[int]:
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
    return [number for number, engine in enumerate(image.engines) if engine.spec.kind in kinds and fact(engine) == name]
