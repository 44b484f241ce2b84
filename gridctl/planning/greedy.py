"""Greedy: a good placement to begin with, by adding engines where they serve most per dollar and dropping those that
the others can replace. It proves nothing; the solver starts from it, and on a large program has little to add to it.

Most constrained demand first: it is served by engines that are there, then by a new one, the one whose other unserved
demand fills it best for its price. What may be late is given to the most isolated demand. Then, the least used first,
an engine is dropped when all it serves fits on the others. Ties go by number, so the same program has one answer.

Source: Kuehn & Hamburger 1963, add and drop for the location of warehouses.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Engine = tuple[int, int]
"""A site and a kind, by number."""
CLOSE = 1e-9
PASSES = 8


@dataclass(frozen=True, slots=True)
class Choice:
    """One way to serve a demand: the engine, how much of it a request a second takes, the program's variable."""

    engine: Engine
    share: float
    column: int
    is_late: bool


@dataclass(frozen=True, slots=True)
class Group:
    """Demand of a class that the same engines can serve, in requests a second."""

    number: int
    load: float
    choices: tuple[Choice, ...]


@dataclass(frozen=True, slots=True)
class Begun:
    """Engines to place, by site and kind; requests a second by the program's variable; how much of them is used."""

    engines: dict[Engine, int]
    loads: dict[int, float]
    shares: dict[Engine, float]


def busiest_sites(begun: Begun, most: int) -> list[int]:
    """The sites whose engines have the most to do."""
    used: dict[int, float] = defaultdict(float)
    for (site, _), share in begun.shares.items():
        used[site] += share
    return sorted(used, key=lambda site: (-used[site], site))[:most]


def begin(
    groups: Sequence[Group], usd: Mapping[Engine, float], fixed: frozenset[Engine], may_be_late: Mapping[int, float]
) -> Begun:
    """A placement that serves everything. `usd` prices the engines that may be bought; `fixed` are there, one each."""
    return _Placement(groups, usd, fixed, may_be_late).made()


class _Placement:
    def __init__(
        self,
        groups: Sequence[Group],
        usd: Mapping[Engine, float],
        fixed: frozenset[Engine],
        may_be_late: Mapping[int, float],
    ) -> None:
        self._groups = groups
        self._usd = usd
        self._count: dict[Engine, int] = {}
        self._fixed = fixed
        self._used: dict[Engine, float] = defaultdict(float)
        self._served: dict[Engine, dict[tuple[int, int], float]] = defaultdict(dict)
        # What each engine would be asked for by demand that nobody serves yet.
        self._wanted: dict[Engine, float] = defaultdict(float)
        for group in groups:
            for choice in group.choices:
                if not choice.is_late:
                    self._wanted[choice.engine] += group.load * choice.share
        self._late = self._chosen_late(may_be_late)

    def made(self) -> Begun:
        order = sorted(range(len(self._groups)), key=lambda index: (index in self._late, self._freedom(index), index))
        for index in order:
            self._serve(index)
        for _ in range(PASSES):
            if not self._drop():
                break
        loads: dict[int, float] = defaultdict(float)
        for served in self._served.values():
            for (index, choice), amount in served.items():
                loads[self._groups[index].choices[choice].column] += amount
        engines = {engine: count for engine, count in self._count.items() if count}
        return Begun(engines, dict(loads), {engine: self._used[engine] for engine in engines})

    def _chosen_late(self, may_be_late: Mapping[int, float]) -> set[int]:
        """Demand that is served late: what cannot be served otherwise, then the most isolated while there is leave."""
        left = dict(may_be_late)
        chosen: set[int] = set()

        def isolation(index: int) -> float:
            rows = [self._wanted[choice.engine] for choice in self._groups[index].choices if not choice.is_late]
            return max(rows, default=0.0)

        for index in sorted(range(len(self._groups)), key=lambda index: (isolation(index), index)):
            group = self._groups[index]
            in_time = any(not choice.is_late for choice in group.choices)
            if any(choice.is_late for choice in group.choices) and (
                not in_time or group.load <= left.get(group.number, 0.0)
            ):
                left[group.number] = left.get(group.number, 0.0) - group.load
                chosen.add(index)
                for choice in group.choices:
                    if not choice.is_late:
                        self._wanted[choice.engine] -= group.load * choice.share
        return chosen

    def _freedom(self, index: int) -> tuple[int, float]:
        group = self._groups[index]
        return sum(not choice.is_late for choice in group.choices), -group.load

    def _usable(self, index: int) -> list[int]:
        """Numbers of the choices the demand may be served by."""
        late = index in self._late
        return [number for number, choice in enumerate(self._groups[index].choices) if choice.is_late == late]

    def _spare(self, engine: Engine) -> float:
        there = self._count.get(engine, 0) + (engine in self._fixed)
        return there - self._used.get(engine, 0.0)

    def _take(self, index: int, number: int, most: float) -> float:
        """Serve as much as there is room for; how much that was."""
        choice = self._groups[index].choices[number]
        amount = min(most, max(0.0, self._spare(choice.engine)) / choice.share)
        if amount <= CLOSE * most:
            return 0.0
        self._used[choice.engine] += amount * choice.share
        served = self._served[choice.engine]
        served[index, number] = served.get((index, number), 0.0) + amount
        return amount

    def _serve(self, index: int) -> None:
        group = self._groups[index]
        usable = self._usable(index)
        if index not in self._late:
            for choice in group.choices:
                if not choice.is_late:
                    self._wanted[choice.engine] -= group.load * choice.share
        left = group.load
        for number in sorted(usable, key=lambda number: (self._value(group.choices[number]), number)):
            left -= self._take(index, number, left)
            if left <= CLOSE * group.load:
                return
        while left > CLOSE * group.load:
            buyable = [number for number in usable if group.choices[number].engine in self._usd]
            if not buyable:
                return  # a penalty, which the solver weighs
            number = min(buyable, key=lambda number: (-self._worth(group.choices[number], left), number))
            engine = group.choices[number].engine
            self._count[engine] = self._count.get(engine, 0) + 1
            left -= self._take(index, number, left)

    def _value(self, choice: Choice) -> float:
        """Dollars of engine time a request a second takes."""
        return self._usd.get(choice.engine, 0.0) * choice.share

    def _worth(self, choice: Choice, load: float) -> float:
        """How full a new engine would be, per dollar: this demand and what nobody serves yet."""
        filled = min(1.0, load * choice.share + max(0.0, self._wanted[choice.engine]))
        return filled / self._usd[choice.engine]

    def _drop(self) -> bool:
        """Drop what the others can replace, the least used first; whether there was any."""
        dropped = False
        engines = [engine for engine, count in self._count.items() if count]
        for engine in sorted(engines, key=lambda one: (self._used[one] / self._count[one] / self._usd[one], one)):
            while self._count[engine] and self._without_one(engine):
                dropped = True
        return dropped

    def _without_one(self, engine: Engine) -> bool:
        """Take one engine away and serve elsewhere what the others there cannot; whether that was possible."""
        excess = self._used[engine] - (self._count[engine] - 1) - (engine in self._fixed)
        moves: list[tuple[int, int, int, float]] = []
        taken: dict[Engine, float] = defaultdict(float)
        for (index, number), amount in sorted(self._served[engine].items()):
            if excess <= CLOSE:
                break
            share = self._groups[index].choices[number].share
            wanted = min(amount, excess / share)
            for other in self._usable(index):
                choice = self._groups[index].choices[other]
                room = self._spare(choice.engine) - taken[choice.engine]
                if choice.engine == engine or room <= CLOSE:
                    continue
                moved = min(wanted, room / choice.share)
                taken[choice.engine] += moved * choice.share
                moves.append((index, number, other, moved))
                wanted -= moved
                excess -= moved * share
                if wanted <= CLOSE * amount:
                    break
            if wanted > CLOSE * amount and excess > CLOSE:
                return False
        if excess > CLOSE:
            return False
        self._count[engine] -= 1
        for index, number, other, moved in moves:
            self._move(engine, index, number, other, moved)
        return True

    def _move(self, engine: Engine, index: int, number: int, other: int, amount: float) -> None:
        choices = self._groups[index].choices
        served = self._served[engine]
        served[index, number] -= amount
        if served[index, number] <= CLOSE * self._groups[index].load:
            del served[index, number]
        self._used[engine] -= amount * choices[number].share
        there = choices[other].engine
        self._used[there] += amount * choices[other].share
        self._served[there][index, other] = self._served[there].get((index, other), 0.0) + amount
