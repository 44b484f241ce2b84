"""Shelf: what the keeper remembers of every entry: where it stands among its partition's answer groups, and its room.

Decides what goes when room is needed: an alias before the founder of its group, by `cache.eviction` otherwise. Holds no
answers. Invariant: an entry on the shelf is in exactly one partition, and in that partition's index if it has a vector.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gridctl.answers.entries import Entry
from gridctl.cache.eviction import Store as Room
from gridctl.cache.groups import AnswerGroups

GRAPH_FROM = 3_000
"""Entries of a partition from which a graph is searched: comparing all of them takes longer."""
PARTITION_BYTES = 4_096
"""What a partition costs beside its entries."""


@dataclass(slots=True)
class Section:
    """A partition of a workload: its groups (None until the first vector) under the embedder they were made by;
    `numbers` are the entries' numbers by their place in the groups' index, `founders` the groups by their founder's
    number."""

    key: bytes
    workload: str = ""
    embedder: str = ""
    groups: AnswerGroups | None = None
    numbers: dict[int, int] = field(default_factory=dict)
    founders: dict[int, int] = field(default_factory=dict)
    founder_of: dict[int, int] = field(default_factory=dict)
    entries: int = 0


@dataclass(slots=True)
class Held:
    """One entry. `place` is its number in the partition's index, -1 without a vector; `askers` who asked for it, where
    it is public."""

    section: Section
    exact: bytes
    place: int
    tags: tuple[str, ...]
    stamp: int
    born: int
    gone_after_ns: int
    size_bytes: int = 0
    saving_usd: float = 0.0
    askers: tuple[str, ...] = ()


class Shelf:
    """All entries. `learns_aside`: what the groups learn from their prompts is learnt by who takes `to_learn`."""

    def __init__(self, capacity_bytes: int, *, learns_aside: bool = False) -> None:
        self.room = Room(capacity_bytes)
        self.held: dict[int, Held] = {}
        self.by_exact: dict[bytes, int] = {}
        self._sections: dict[bytes, Section] = {}
        self._tags: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._learns_aside = learns_aside
        self._have_much_new: dict[bytes, AnswerGroups] = {}

    def __len__(self) -> int:
        return len(self.held)

    @property
    def partitions(self) -> int:
        """Partitions with entries."""
        return len(self._sections)

    @property
    def groups(self) -> int:
        """Answer groups of all partitions."""
        return sum(len(one.groups) for one in self._sections.values() if one.groups is not None)

    @property
    def indexed(self) -> int:
        """Entries that can be found by meaning."""
        return sum(len(one.numbers) for one in self._sections.values())

    def to_learn(self) -> AnswerGroups | None:
        """The groups of a partition that have much to learn from, None where none have."""
        return self._have_much_new.popitem()[1] if self._have_much_new else None

    def section(self, partition: bytes) -> Section | None:
        """A partition, None when nothing is kept in it."""
        return self._sections.get(partition)

    def put(self, entry: Entry, embedder: str, askers: tuple[str, ...] = ()) -> list[int]:
        """Take an entry in; `embedder` is the one in use. A vector of another embedder is left out of the index. The
        numbers of entries that must go to make room, the entry's own among them when it is too large: the caller
        removes them."""
        section = self._sections.get(entry.partition)
        if section is None:
            section = self._sections[entry.partition] = Section(entry.partition, entry.workload)
        place = -1
        if entry.vector is not None and entry.embedder == embedder:
            place = self._index(section, entry, askers[-1] if askers else entry.user)
        tags = self._tags.setdefault(entry.tags, entry.tags)
        lives_ns = int((entry.ttl_s + entry.stale_s) * 1e9)
        self.held[entry.number] = Held(
            section, entry.exact, place, tags, entry.stamp, entry.born, entry.born + lives_ns, askers=askers
        )
        self.by_exact[entry.exact] = entry.number
        section.entries += 1
        saving = entry.usd if entry.usd > 0.0 else 1e-6 * (entry.prompt_tokens + 4 * entry.output_tokens + 1)
        overhead = PARTITION_BYTES if section.entries == 1 else 0
        self.held[entry.number].size_bytes, self.held[entry.number].saving_usd = entry.size_bytes + overhead, saving
        gone = self.room.admit(str(entry.number), entry.size_bytes + overhead, saving)
        return self._going(gone)

    def remove(self, number: int) -> Held | None:
        """Forget an entry; what it was, None when it was not here."""
        held = self.held.pop(number, None)
        if held is None:
            return None
        if self.by_exact.get(held.exact) == number:
            del self.by_exact[held.exact]
        self.room.remove(str(number))
        section = held.section
        section.entries -= 1
        if held.place >= 0 and section.groups is not None:
            self._unindex(section, held.place)
        if not section.entries:
            self._sections.pop(section.key, None)
        return held

    def give_up_one(self) -> list[int]:
        """The number of the entry worth least, which the caller removes; none when nothing is held."""
        name = self.room.give_up_one()
        return [] if name is None else self._going([name])

    def founder(self, number: int) -> int:
        """The number of the entry that began this one's group; its own when it stands alone."""
        held = self.held.get(number)
        if held is None or held.place < 0 or held.section.groups is None:
            return number
        group = held.section.groups.group_of(held.place)
        return number if group is None else held.section.founder_of.get(group, number)

    def group_of(self, number: int) -> list[int]:
        """Numbers of all entries of this one's answer group, itself among them."""
        held = self.held.get(number)
        if held is None:
            return []
        groups = held.section.groups
        group = groups.group_of(held.place) if groups is not None and held.place >= 0 else None
        if groups is None or group is None:
            return [number]
        return [held.section.numbers[place] for place in groups.group(group).aliases]

    def is_asked_by(self, number: int, least: int, *, without: bool = False) -> bool:
        """Whether so many different callers asked for the entries of this one's group, or for the others in it."""
        held = self.held.get(number)
        if held is None:
            return False
        found = set[str]() if without else set(held.askers)
        if len(found) < least and held.place >= 0 and held.section.groups is not None:
            groups, numbers = held.section.groups, held.section.numbers
            group = groups.group_of(held.place)
            for place in groups.group(group).aliases if group is not None else ():
                other = self.held.get(numbers.get(place, -1))
                if other is not None and other is not held:
                    found.update(other.askers)
                    if len(found) >= least:
                        break
        return len(found) >= least

    def _index(self, section: Section, entry: Entry, user: str) -> int:
        vector: NDArray[np.float32] = np.frombuffer(entry.vector or b"", np.float16).astype(np.float32)
        if section.groups is None or section.embedder != entry.embedder:
            if section.numbers:  # another embedder's vectors: these never meet
                return -1
            section.groups, section.embedder = AnswerGroups(len(vector), GRAPH_FROM), entry.embedder
            section.founders, section.founder_of = {}, {}
            section.groups.learns_aside = self._learns_aside
        groups = section.groups
        founder = entry.founder or entry.number
        group = section.founders.get(founder)
        place = groups.alias(group, entry.text, vector, user) if group is not None and group in groups else None
        if place is None:
            group, place = groups.found(entry.text, vector, user)
            section.founders[founder], section.founder_of[group] = group, founder
        section.numbers[place] = entry.number
        if self._learns_aside and groups.has_much_new:
            self._have_much_new[section.key] = groups
        return place

    def _unindex(self, section: Section, place: int) -> None:
        groups = section.groups
        assert groups is not None
        group = groups.group_of(place)
        groups.drop_alias(place)
        section.numbers.pop(place, None)
        if group is not None and group not in groups:
            founder = section.founder_of.pop(group, None)
            if founder is not None and section.founders.get(founder) == group:
                del section.founders[founder]

    def _going(self, names: list[str]) -> list[int]:
        """Entries that go for the victims: the founder of a group stays as long as it has an alias to give up."""
        victims, going = [int(name) for name in names], dict[int, None]()
        while victims:
            victim = victims.pop(0)
            alias = self._last_alias(victim, going)
            if alias is None:
                going[victim] = None
                continue
            going[alias] = None
            self.room.remove(str(alias))
            held = self.held[victim]
            victims += [int(name) for name in self.room.admit(str(victim), held.size_bytes, held.saving_usd)]
        return list(going)

    def _last_alias(self, founder: int, going: dict[int, None]) -> int | None:
        held = self.held.get(founder)
        if held is None or held.section.groups is None or held.place < 0 or founder in going:
            return None
        group = held.section.groups.group_of(held.place)
        aliases = held.section.groups.group(group).aliases if group is not None else []
        if not aliases or aliases[0] != held.place:
            return None
        numbers = (held.section.numbers[place] for place in reversed(aliases[1:]))
        return next((number for number in numbers if number not in going), None)
