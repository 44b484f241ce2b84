"""Program: facility location of engines as a mixed-integer program, and its solution read back.

    minimise    Σ dollars an hour of the engines placed + functions by use + penalties
    subject to  every demand (place × class) is served: in time from a site within reach, or late, or not at all
                load · factor ÷ capacity, summed over what an engine serves, stays within the engines placed
                what is late stays within what the promises of its workload leave
                law and quality are never relaxed: a pair they forbid has no variable

Places whose demand of a class could be served by the same sites equally well are one demand: that changes no solution.
Capacity falls with distance (`capacity.BINS_MS`), so serving from afar takes a larger share of an engine. Serving
nobody and being late beyond what is left have penalties no placement would choose: they say which demand cannot be met.
What is linear here and is not in a replay: that shares of classes on one engine add up, and that load divides evenly.
The factors correct it: `proof` raises them where a replay misses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gridctl.planning.candidates import Candidates
from gridctl.planning.capacity import BINS_MS, Capacity
from gridctl.planning.demand import Demand
from gridctl.planning.greedy import Choice, Group, begin, busiest_sites
from gridctl.planning.offers import Offer
from gridctl.planning.solver import Program, Solution, solve
from gridctl.resources import Serverless
from gridctl.units import SECONDS_PER_HOUR

GEOGRAPHY_SHARE = 0.5
"""Of the requests a promise lets be late, the share that may be so by distance; the rest is for queues."""
UNSERVED_USD = 1e5
LATE_USD = 1e4
"""Penalties, dollars an hour for a request a second."""
MOST_COLUMNS = 60_000
FEWEST_SITES = 5
NEAR_SITES = 2
LATE_SITES = 2
TIE = 1e-6
"""Sites of equal price are told apart by their order, so that the same program has one answer."""
MOST_ENGINES = 10_000
NOTHING = 1e-6


@dataclass(frozen=True, slots=True)
class Kind:
    """An offer, or the functions of sites that have these, and its capacity for each class (None: may not serve it)."""

    offer: Offer | Serverless
    label: str
    gpus: int
    gpu: int
    capacities: tuple[Capacity | None, ...]


@dataclass(frozen=True, slots=True)
class Limits:
    """What the user bounds."""

    seconds: float = 10.0
    gap: float = 0.02
    most_sites: int | None = None


@dataclass(frozen=True, slots=True)
class Placed:
    """Engines `count` of a kind at a candidate site."""

    site: int
    kind: int
    count: int


@dataclass(frozen=True, slots=True)
class Plan:
    """A solution in words. `late[class]` is the share of a class that is served late, `unserved[place, class]` requests
    a second nobody serves, `over[class]` those that are late beyond what the promises leave."""

    placed: tuple[Placed, ...]
    usd_per_hour: float
    bound: float
    gap: float
    stopped_by: str
    late: NDArray[np.float64]
    unserved: NDArray[np.float64]
    over: NDArray[np.float64]

    @property
    def unmet(self) -> NDArray[np.bool_]:
        """Classes of which some demand is not met within its promises."""
        short: NDArray[np.bool_] = (self.unserved > NOTHING).any(axis=0) | (self.over > NOTHING)
        return short

    @property
    def is_feasible(self) -> bool:
        """Whether every demand is met within its promises."""
        return not bool(self.unmet.any())


def late_shares(demand: Demand) -> NDArray[np.float64]:
    """The share of each class that may be late by distance."""
    shares = []
    for one in demand.classes:
        spec = one.workload.spec
        latency = [1 - each.percentile / 100 for each in spec.objectives if each.metric != "tpot_ms"]
        shares.append(min([*latency, 1 - spec.attainment]) * GEOGRAPHY_SHARE)
    return np.array(shares)


def place_engines(
    demand: Demand,
    candidates: Candidates,
    kinds: Sequence[Kind],
    factors: NDArray[np.float64],
    late: NDArray[np.float64],
    limits: Limits,
    before: Plan | None = None,
) -> Plan | None:
    """The cheapest placement found; None when the solver found none in its time.

    `factors[place, class]` multiply loads; `late[class]` bound what is late. With a plan from `before` the factors
    rose, its engines stay and the cheapest is added to them: a small program, whose answers do not jump about."""
    built = _Built(demand, candidates, kinds, factors, late, limits)
    if before is not None:
        built.keep(before)
    start = built.begun() if before is None else None
    solution = solve(built.program, seconds=limits.seconds, gap=limits.gap, start=start)
    return None if solution is None else built.read(solution)


class _Built:
    """The program and what its columns mean."""

    def __init__(
        self,
        demand: Demand,
        candidates: Candidates,
        kinds: Sequence[Kind],
        factors: NDArray[np.float64],
        late: NDArray[np.float64],
        limits: Limits,
    ) -> None:
        self.program = Program()
        self._demand = demand
        self._candidates = candidates
        self._kinds = kinds
        self._factors = factors
        self._engines: dict[tuple[int, int], int] = {}
        self._loads: dict[tuple[int, int], list[tuple[int, float]]] = {}
        self._late: dict[int, list[int]] = {}
        self._unserved: list[tuple[int, tuple[int, ...], int]] = []
        self._over: dict[int, int] = {}
        self._demands: list[Group] = []
        self._open: dict[int, int] = {}
        self._most_sites = limits.most_sites
        self._usd: dict[int, float] = {}
        # What no placement can serve, or in time, is known beforehand; it must not weigh on what can be chosen.
        self._unreachable = np.zeros(demand.rate.shape[1])
        self._unservable = np.zeros(demand.rate.shape)
        self._late_share = late
        self._covers: set[tuple[int, ...]] = set()
        self._stands = [
            np.array([isinstance(kind.offer, Offer) or site.spec.serverless == kind.offer for site in candidates.sites])
            for kind in kinds
        ]
        self._add_engines()
        groups = self._groups()
        nearest = max(FEWEST_SITES, MOST_COLUMNS // max(1, len(groups) * len(kinds)))
        for number, places in groups:
            self._add_demand(places, number, nearest)
        for (site, kind), terms in sorted(self._loads.items()):
            engines = self._engines.get((site, kind))
            if engines is None:
                self.program.row(terms, high=1.0)
            else:
                self.program.row([*terms, (engines, -1.0)], high=0.0)
        for number, columns in sorted(self._late.items()):
            over = self._over[number] = self.program.column(LATE_USD)
            terms = [*((column, 1.0) for column in columns), (over, -1.0)]
            self.program.row(terms, high=self._allowed_late(number))
        if limits.most_sites is not None:
            self._bound_sites(limits.most_sites)
        else:  # with a bound, somebody may have to go unserved
            for cover in sorted(self._covers):
                self.program.row([(column, 1.0) for column in cover], low=1.0)

    def _add_engines(self) -> None:
        """A whole number of engines of every kind at every site that may have some; functions stand where they are."""
        sites = self._candidates.sites
        for site in range(len(sites)):
            for index, kind in enumerate(self._kinds):
                if isinstance(kind.offer, Offer):
                    price = float(self._candidates.usd[site, kind.gpu]) * kind.gpus
                    cost = price * (1 + TIE * (site + 1) / len(sites))
                    column = self.program.column(cost, MOST_ENGINES, integer=True)
                    self._usd[column] = price
                    self._engines[site, index] = column

    def _loads_of(self, number: int) -> NDArray[np.float64]:
        """A class's requests a second by place, times their factors."""
        loads: NDArray[np.float64] = self._demand.rate[:, number] * self._factors[:, number]
        return loads

    def _groups(self) -> list[tuple[int, tuple[int, ...]]]:
        """Class and places whose demand the same sites could serve equally well."""
        candidates, groups = self._candidates, dict[tuple[int, bytes], list[int]]()
        beyond = len(BINS_MS)
        for number in range(self._demand.rate.shape[1]):
            found = [kind.capacities[number] for kind in self._kinds]
            tables = [np.array([*one.rps, 0.0]) for one in found if one is not None]
            for place in np.flatnonzero(self._demand.rate[:, number] > 0).tolist():
                bins = np.minimum(candidates.bins[place], beyond)
                served = b"".join(table[bins].tobytes() for table in tables)
                key = number, candidates.lawful[place, number].tobytes() + served
                groups.setdefault(key, []).append(place)
        return [(number, tuple(places)) for (number, _), places in groups.items()]

    def _add_demand(self, places: tuple[int, ...], number: int, nearest: int) -> None:
        """Who may serve the demand, in time and late; and the penalty for nobody."""
        program, load, place = self.program, float(self._loads_of(number)[list(places)].sum()), places[0]
        bins = np.minimum(self._candidates.bins[place], len(BINS_MS))
        lawful = self._candidates.lawful[place, number]
        closest = np.argsort(self._candidates.rtt_ms[place], kind="stable")
        terms: list[tuple[int, float]] = []
        cover: set[int] = set()
        choices: list[Choice] = []
        any_in_time = False
        for index, kind in enumerate(self._kinds):
            capacity = kind.capacities[number]
            if capacity is None or capacity.rps[0] <= 0:
                continue
            rps = np.array([*capacity.rps, 0.0])[bins]
            able = lawful & self._stands[index]
            in_time = able & (rps > 0)
            # Those nearest, and those that reach the most: candidates are in that order.
            chosen = [*closest[in_time[closest]][:NEAR_SITES].tolist(), *np.flatnonzero(in_time)[:nearest].tolist()]
            any_in_time = any_in_time or bool(chosen)
            for site in dict.fromkeys(chosen):
                served = self._serving(number, site, index, float(rps[site]))
                terms.append((served, 1.0))
                choices.append(Choice((site, index), 1.0 / float(rps[site]), served, is_late=False))
                cover.add(self._engines.get((site, index), -1))
            for site in np.flatnonzero(able & ~in_time)[:LATE_SITES].tolist():
                served = self._serving(number, site, index, capacity.rps[0])
                self._late.setdefault(number, []).append(served)
                terms.append((served, 1.0))
                choices.append(Choice((site, index), 1.0 / capacity.rps[0], served, is_late=True))
                cover.add(self._engines.get((site, index), -1))
        if cover and -1 not in cover:  # no function among them: somebody must stand there
            self._covers.add(tuple(sorted(cover)))
        if not terms:
            self._unservable[list(places), number] = self._loads_of(number)[list(places)]
            return
        if not any_in_time:
            self._unreachable[number] += load
        self._demands.append(Group(number, load, tuple(choices)))
        unserved = program.column(UNSERVED_USD)
        self._unserved.append((number, places, unserved))
        program.row([*terms, (unserved, 1.0)], low=load, high=load)

    def _serving(self, number: int, site: int, index: int, rps: float) -> int:
        """A variable: requests a second, times their factors, of a class that an engine kind at a site serves."""
        capacity = self._kinds[index].capacities[number]
        assert capacity is not None, "only kinds that may serve come here"
        per_hour = capacity.usd_per_request * SECONDS_PER_HOUR
        column = self.program.column(per_hour)
        if per_hour:
            self._usd[column] = per_hour
        self._loads.setdefault((site, index), []).append((column, 1.0 / rps))
        return column

    def _bound_sites(self, most: int) -> None:
        """At most so many sites with engines."""
        by_site: dict[int, list[int]] = {}
        for (site, _), column in self._engines.items():
            by_site.setdefault(site, []).append(column)
        opened = []
        for site, columns in sorted(by_site.items()):
            is_open = self.program.column(0.0, 1.0, integer=True)
            opened.append((is_open, 1.0))
            self._open[site] = is_open
            self.program.row([*((column, 1.0) for column in columns), (is_open, -float(MOST_ENGINES))], high=0.0)
        self.program.row(opened, high=float(most))

    def begun(self) -> NDArray[np.float64]:
        """A solution made by adding and dropping engines, as the program's variables."""
        usd = {key: self._usd[column] for key, column in self._engines.items()}
        functions = frozenset(key for key in self._loads if key not in self._engines)
        late = {number: self._allowed_late(number) for number in range(self._demand.rate.shape[1])}
        made = begin(self._demands, usd, functions, late)
        if self._most_sites is not None:
            chosen = set(busiest_sites(made, self._most_sites))
            usd = {key: price for key, price in usd.items() if key[0] in chosen}
            made = begin(self._demands, usd, functions, late)
        values = np.zeros(len(self.program.cost))
        for key, count in made.engines.items():
            values[self._engines[key]] = count
            if key[0] in self._open:
                values[self._open[key[0]]] = 1.0
        for column, amount in made.loads.items():
            values[column] = amount
        for group, (_, _, column) in zip(self._demands, self._unserved, strict=True):
            values[column] = max(0.0, group.load - sum(made.loads.get(one.column, 0.0) for one in group.choices))
        return values

    def _allowed_late(self, number: int) -> float:
        """Requests a second, times their factors, of a class that may be late: what its promises leave, or what no
        placement can serve in time."""
        return max(float(self._late_share[number] * self._loads_of(number).sum()), float(self._unreachable[number]))

    def keep(self, plan: Plan) -> None:
        """At least the engines of that plan."""
        for one in plan.placed:
            self.program.lower[self._engines[one.site, one.kind]] = float(one.count)

    def read(self, solution: Solution) -> Plan:
        """The solution in words."""
        values = solution.values
        placed = [
            Placed(site, kind, round(float(values[column])))
            for (site, kind), column in sorted(self._engines.items())
            if values[column] > 0.5
        ]
        classes = self._demand.rate.shape[1]
        late, over = np.zeros(classes), np.zeros(classes)
        for number, columns in self._late.items():
            total = float(self._loads_of(number).sum())
            late[number] = float(values[columns].sum()) / total
            beyond = self._unreachable[number] - float(self._late_share[number]) * total
            over[number] = max(0.0, beyond) + float(values[self._over[number]])
        unserved = self._unservable.copy()
        for number, places, column in self._unserved:
            unserved[list(places), number] = float(values[column]) / len(places)
        usd = sum(
            price * (round(float(values[column])) if self.program.integer[column] else float(values[column]))
            for column, price in self._usd.items()
        )
        return Plan(tuple(placed), usd, solution.bound, solution.gap, solution.stopped_by, late, unserved, over)
