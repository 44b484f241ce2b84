"""What a cache remembers in rehearsal: prompts with their text, or answer keys alone with evidence drawn for them.

Decides what evidence a request has. `TextMemory` is the production one: groups, vectors, guards. `DrawnMemory` keeps
how many prompts of each key are stored and draws evidence measured on real prompts (`population`): the decision above
it cannot tell the difference. Both forget single prompts, as eviction and time ask for.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gridctl.cache.evidence import Evidence, weigh
from gridctl.cache.groups import AnswerGroups
from gridctl.cache.population import Population

OTHER_KIND_CROWDS = 0.25
"""How much of a stored prompt one of another table counts for: a bank's and a home's are seldom near one another. Where
9,000 requests to both were one workload, hits were forecast up to 4 points too few with 1, and 4 too many with 0; so
they are within 3, with either embedder, at error rates of 1, 2 and 5 %."""


class Memory(Protocol):
    """Stored prompts of one partition. Requests are named by their numbers, right answers by their keys."""

    def weigh(self, number: int, key: int) -> Evidence | None:
        """Evidence for a request, None while nothing is stored."""

    def key_of(self, group: int) -> int:
        """The right answer's key that a group holds the answer of."""

    def label(self, group: int, is_right: bool) -> None:
        """Record how a group did."""

    def keep(self, number: int, key: int, evidence: Evidence | None) -> int:
        """Store a prompt with its answer, in the first judged group of its key or a new one; its entry number."""

    def drop(self, entry: int) -> None:
        """Forget one prompt."""


class TextMemory:
    """Memory of texts; `texts` and `vectors` by request number."""

    def __init__(self, texts: tuple[str, ...], vectors: NDArray[np.float32]) -> None:
        self._texts, self._vectors = texts, vectors
        self._groups = AnswerGroups(vectors.shape[1])
        self._keys: dict[int, int] = {}

    def weigh(self, number: int, key: int) -> Evidence | None:
        """Evidence for a request; its key is not looked at."""
        return weigh(self._texts[number], self._vectors[number], self._groups)

    def key_of(self, group: int) -> int:
        """The key of a group."""
        return self._keys[group]

    def label(self, group: int, is_right: bool) -> None:
        """Record how a group did."""
        self._groups.label(group, is_right)

    def keep(self, number: int, key: int, evidence: Evidence | None) -> int:
        """Store a prompt; its entry number."""
        text, vector = self._texts[number], self._vectors[number]
        for group in evidence.judged if evidence is not None else ():
            if group in self._groups and self._keys[group] == key:
                entry = self._groups.alias(group, text, vector)
                if entry is not None:
                    return entry
        group, entry = self._groups.found(text, vector)
        self._keys[group] = key
        return entry

    def drop(self, entry: int) -> None:
        """Forget one prompt."""
        self._groups.drop_alias(entry)


class DrawnMemory:
    """Memory of keys alone. `populations` names the measured table of a key, `coin` draws from what was measured at
    about the `error_rate`. Prompts whose keys are of another table crowd less."""

    def __init__(self, populations: Mapping[int, Population], error_rate: float, coin: random.Random) -> None:
        self._populations, self._error_rate, self._coin = populations, error_rate, coin
        self._groups_of: dict[int, list[int]] = {}
        self._key_of: dict[int, int] = {}
        self._sizes: dict[int, int] = {}
        self._all: list[int] = []
        self._place: dict[int, int] = {}
        self._group_of: dict[int, int] = {}
        self._latest: dict[int, int] = {}
        self._stored: Counter[Population] = Counter()
        self._next_group = self._next_entry = 0

    def weigh(self, number: int, key: int) -> Evidence | None:
        """Evidence drawn from the request's class."""
        if not self._all:
            return None
        own = self._groups_of.get(key, [])
        aliases = sum(self._sizes[group] for group in own)
        table = self._populations[key]
        own_kind = self._stored[table]
        crowd = round(own_kind + OTHER_KIND_CROWDS * (len(self._group_of) - own_kind))
        drawn = table.draw(aliases, crowd, self._error_rate, self._coin)
        if own and (not drawn.is_wrong or len(own) == len(self._all)):
            group = max(own, key=lambda one: (self._sizes[one], -one))
            judged: tuple[int, ...] = (group,)
        else:
            group = self._other(key)
            judged = (group, own[0]) if own and drawn.is_judged else (group,)
        return Evidence(group, self._latest[group], float(drawn.features[0]), drawn.features, judged)

    def key_of(self, group: int) -> int:
        """The key of a group."""
        return self._key_of[group]

    def label(self, group: int, is_right: bool) -> None:
        """Measured features hold what this would change."""

    def keep(self, number: int, key: int, evidence: Evidence | None) -> int:
        """Store a prompt; its entry number."""
        found = [group for group in (evidence.judged if evidence else ()) if self._key_of.get(group) == key]
        group = found[0] if found else self._found(key)
        self._sizes[group] += 1
        entry = self._next_entry
        self._next_entry += 1
        self._group_of[entry], self._latest[group] = group, entry
        self._stored[self._populations[key]] += 1
        return entry

    def drop(self, entry: int) -> None:
        """Forget one prompt; a group goes with its last one."""
        group = self._group_of.pop(entry, None)
        if group is None:
            return
        self._stored[self._populations[self._key_of[group]]] -= 1
        self._sizes[group] -= 1
        if self._sizes[group]:
            return
        key = self._key_of.pop(group)
        self._groups_of[key].remove(group)
        del self._sizes[group], self._latest[group]
        place, last = self._place.pop(group), self._all.pop()
        if last != group:
            self._all[place], self._place[last] = last, place

    def _found(self, key: int) -> int:
        group = self._next_group
        self._next_group += 1
        self._key_of[group], self._sizes[group] = key, 0
        self._groups_of.setdefault(key, []).append(group)
        self._place[group] = len(self._all)
        self._all.append(group)
        return group

    def _other(self, key: int) -> int:
        """A group of another key, any of them; there is one."""
        while True:
            group = self._all[self._coin.randrange(len(self._all))]
            if self._key_of[group] != key:
                return group
