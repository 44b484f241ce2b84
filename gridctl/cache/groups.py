"""Answers of one partition, each with every prompt that is known to want it: an answer group and its aliases.

Decides membership, never whether to serve. A prompt whose fresh answer was judged equal to a stored one becomes an
alias of it; otherwise it founds a group. Only what our own engines answered enters. One user adds at most
`ALIASES_PER_USER` aliases to a group, so nobody can surround an answer with prompts of his own.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gridctl.cache.guards import Rarity, Reading, read
from gridctl.cache.index import GRAPH_FROM, Index
from gridctl.cache.kinship import FIRST_PAIRS, GROWTH, MOST_LOOKED_AT, Kinship, kinship_of
from gridctl.cache.leftovers import LeftoverRecord

ALIASES_PER_USER = 8
NEIGHBOURS = 20
PAIRED = 3
"""Nearest prompts of its own answer, and of others, that a new prompt teaches the record of left over words with."""


@dataclass(slots=True)
class Group:
    """An answer: `aliases` are entry numbers, the first of them the founder; `labels` and `right` its record; `total`
    is the sum of its prompts' vectors, None while it has one prompt."""

    number: int
    aliases: list[int] = field(default_factory=list)
    labels: int = 0
    right: int = 0
    by_user: Counter[str] | None = None
    total: NDArray[np.float32] | None = None


class Neighbour(NamedTuple):
    """A stored prompt near to a new one."""

    entry: int
    group: int
    cosine: float


class AnswerGroups:
    """The groups of one partition."""

    def __init__(self, dimension: int, graph_from: int | None = GRAPH_FROM) -> None:
        self.index = Index(dimension, graph_from)
        self.rarity = Rarity()
        self.leftovers = LeftoverRecord()
        self._groups: dict[int, Group] = {}
        self._group_of: dict[int, int] = {}
        self._readings: dict[int, Reading] = {}
        self._user_of: dict[int, str] = {}
        self._next_entry = 0
        self._next_group = 0
        self._kinship: Kinship | None = None
        self._learnt_pairs = FIRST_PAIRS / GROWTH
        self._lone = 0
        self.learns_aside = False
        """Whether somebody else sees to it that the scatter is learnt, where no look may wait for it."""

    def __len__(self) -> int:
        return len(self._groups)

    def __contains__(self, group: object) -> bool:
        return group in self._groups

    @property
    def lone_share(self) -> float:
        """Share of the prompts that are their answers' only ones: about the chance that the next one wants an answer
        that was never given (Good 1953)."""
        return self._lone / max(1, len(self._group_of))

    def kinship(self) -> Kinship | None:
        """How prompts of one answer scatter, as it was learnt last; None while there are few prompts. Learnt here and
        now when there are many more than then, unless that is done aside."""
        if self.has_much_new and not self.learns_aside:
            self.adopt(kinship_of(*self.to_learn_from()))
        return self._kinship

    @property
    def has_much_new(self) -> bool:
        """Whether there are many more prompts to learn a scatter from than when it was learnt last."""
        return len(self._group_of) - len(self._groups) >= self._learnt_pairs * GROWTH

    def to_learn_from(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """What `kinship_of` learns from, copied: it may run in another thread, and `adopt` takes what it finds."""
        self._learnt_pairs = len(self._group_of) - len(self._groups)
        latest = list(islice(reversed(self._group_of.items()), MOST_LOOKED_AT))
        vectors = np.stack([self.index.vector(entry) for entry, _ in latest])
        centres = np.stack([self.centre(number) for _, number in latest])
        return vectors, centres, np.array([len(self._groups[number].aliases) for _, number in latest], np.float32)

    def adopt(self, kinship: Kinship | None) -> None:
        """Go by what was learnt, if it was."""
        self._kinship = kinship or self._kinship

    def centre(self, number: int) -> NDArray[np.float32]:
        """The middle of a group's prompts, shape (dimension,)."""
        group = self._groups[number]
        if group.total is None:
            return self.index.vector(group.aliases[0])
        return np.asarray(group.total / len(group.aliases), np.float32)

    def group(self, number: int) -> Group:
        """The group of that number; KeyError when it was dropped."""
        return self._groups[number]

    def group_of(self, entry: int) -> int | None:
        """The group an entry belongs to, None when it was dropped."""
        return self._group_of.get(entry)

    def neighbours(self, vector: NDArray[np.float32], count: int = NEIGHBOURS) -> list[Neighbour]:
        """Stored prompts nearest to a vector, best first."""
        entries, cosines = self.index.nearest(vector, count)
        numbers, group_of = entries.tolist(), self._group_of
        return list(map(Neighbour, numbers, [group_of[entry] for entry in numbers], cosines.tolist()))

    def centre_cosine(self, number: int, vector: NDArray[np.float32]) -> float | None:
        """Cosine with the middle of a group's prompts; None for a group of one."""
        total = self._groups[number].total
        if total is None:
            return None
        length = math.sqrt(float(total @ total))
        return float(total @ vector) / length if length > 0.0 else 0.0

    def reading(self, entry: int) -> Reading:
        """A stored prompt as the guards see it."""
        return self._readings[entry]

    def found(self, text: str, vector: NDArray[np.float32], user: str = "") -> tuple[int, int]:
        """Begin a group with this prompt; its group and entry numbers."""
        number = self._next_group
        self._groups[number] = Group(number)
        try:
            entry = self._enter(number, text, vector, user)
        except Exception:
            del self._groups[number]
            raise
        self._next_group += 1
        return number, entry

    def alias(self, number: int, text: str, vector: NDArray[np.float32], user: str = "") -> int | None:
        """Add a prompt to a group; None when the group is gone or its user has added enough."""
        group = self._groups.get(number)
        if group is None or (user and group.by_user is not None and group.by_user[user] >= ALIASES_PER_USER):
            return None
        return self._enter(number, text, vector, user)

    def label(self, number: int, is_right: bool) -> None:
        """Record whether a group, offered for a prompt, had the right answer."""
        group = self._groups.get(number)
        if group is not None:
            group.labels += 1
            group.right += is_right

    def drop(self, number: int) -> int:
        """Forget a group and its aliases; how many entries that freed."""
        group = self._groups.pop(number, None)
        if group is None:
            return 0
        self._lone -= len(group.aliases) == 1
        for entry in group.aliases:
            self._leave(entry)
        return len(group.aliases)

    def drop_alias(self, entry: int) -> bool:
        """Forget one prompt; a group without prompts goes with its last one."""
        number = self._group_of.get(entry)
        if number is None:
            return False
        group = self._groups[number]
        group.aliases.remove(entry)
        self._lone += (len(group.aliases) == 1) - (not group.aliases)
        if group.total is not None:
            group.total = group.total - self.index.vector(entry) if len(group.aliases) > 1 else None
        if group.by_user is not None and entry in self._user_of:
            group.by_user[self._user_of[entry]] -= 1
        self._leave(entry)
        if not group.aliases:
            del self._groups[number]
        return True

    def _enter(self, number: int, text: str, vector: NDArray[np.float32], user: str) -> int:
        entry = self._next_entry
        near = self.neighbours(vector)
        self.index.add(entry, vector)
        self._next_entry += 1
        reading = read(text)
        self._pair(reading, near, number)
        self.rarity.add(reading)
        self._readings[entry] = reading
        self._group_of[entry] = number
        group = self._groups[number]
        if group.aliases:
            before = self.index.vector(group.aliases[0]) if group.total is None else group.total
            group.total = before + self.index.vector(entry)
        group.aliases.append(entry)
        self._lone += (len(group.aliases) == 1) - (len(group.aliases) == 2)
        if user:
            group.by_user = Counter() if group.by_user is None else group.by_user
            group.by_user[user] += 1
            self._user_of[entry] = user
        return entry

    def _pair(self, reading: Reading, near: list[Neighbour], number: int) -> None:
        """Learn from a prompt that enters a group in which words it differs from the prompts near it."""
        for is_same in (True, False):
            for one in [one for one in near if (one.group == number) is is_same][:PAIRED]:
                self.leftovers.learn(reading, self._readings[one.entry], is_same=is_same)

    def _leave(self, entry: int) -> None:
        self.index.remove(entry)
        del self._group_of[entry], self._readings[entry]
        self._user_of.pop(entry, None)
