"""Forecast: what a cache would do for a stream of requests, by size, time to live and error rate.

Decides how a stream becomes requests of a rehearsal, with its texts or without them, and counts what came of it. With
texts the evidence is the prompts' own. Without them a request is known by its answer key and lengths: which repeats are
word for word is estimated from how often a key's lengths coincide (`population.Repeats`), and evidence is drawn
from measured populations; the forecast is then a draw, and its seed gives another one.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gridctl.cache.exact import normalised
from gridctl.cache.memory import DrawnMemory, Memory, TextMemory
from gridctl.cache.population import KINDS, Kind, Population, Repeats, kinds_of, like, load_population
from gridctl.cache.rehearsal import HITS, SAVES, Asked, CacheRule, Got, Level, Rehearsal
from gridctl.units import NS_PER_S

FIRST_TOKEN_S, SECONDS_PER_TOKEN = 0.3, 0.02
"""How long an engine is taken to answer where nothing is known of it: 50 tokens a second after a third of one."""


@dataclass(slots=True)
class Tally:
    """What a workload's requests got: requests by level, wrong answers among hits, tokens and dollars not spent."""

    requests: int = 0
    levels: Counter[Level] = field(default_factory=Counter)
    wrong: Counter[Level] = field(default_factory=Counter)
    saved_input_tokens: int = 0
    saved_output_tokens: int = 0
    saved_usd: float = 0.0
    has_keys: bool = False

    @property
    def hits(self) -> int:
        """Requests whose client got an answer from the cache."""
        return sum(self.levels[level] for level in HITS)

    @property
    def wrong_hits(self) -> int:
        """Of these, answered with another answer than the right one."""
        return sum(self.wrong.values())

    def count(self, asked: Asked, got: Got) -> None:
        """Count one request."""
        self.requests += 1
        self.has_keys = self.has_keys or asked.key >= 0
        self.levels[got.level] += 1
        if got.level in HITS:
            self.wrong[got.level] += got.is_wrong
        if got.level in SAVES:
            self.saved_input_tokens += asked.input_tokens
            self.saved_output_tokens += asked.output_tokens
            self.saved_usd += asked.saving_usd

    def add(self, other: Tally) -> None:
        """Take another tally in."""
        self.requests += other.requests
        self.has_keys = self.has_keys or other.has_keys
        self.levels.update(other.levels)
        self.wrong.update(other.wrong)
        self.saved_input_tokens += other.saved_input_tokens
        self.saved_output_tokens += other.saved_output_tokens
        self.saved_usd += other.saved_usd


@dataclass(frozen=True, slots=True)
class Stream:
    """Requests in order of arrival: times, who they are, and how memories of them are made."""

    arrival_ns: NDArray[np.int64]
    asked: Sequence[Asked]
    remember: Callable[[Hashable, float, int], Memory]
    vector_bytes: int


def forecast(
    stream: Stream,
    rules: Mapping[str, CacheRule],
    capacity_bytes: int,
    *,
    seed: int = 1,
    advanced: Callable[[int], None] = lambda requests: None,
) -> dict[str, Tally]:
    """One cache in front of the whole stream; tallies by workload. Deterministic."""
    cache = Rehearsal(
        rules,
        capacity_bytes,
        lambda partition, rate: stream.remember(partition, rate, seed),
        vector_bytes=stream.vector_bytes,
        seed=seed,
    )
    tallies: dict[str, Tally] = {}
    for number, (at, asked) in enumerate(zip(stream.arrival_ns.tolist(), stream.asked, strict=True)):
        lasts_s = FIRST_TOKEN_S + SECONDS_PER_TOKEN * asked.output_tokens
        got = cache.ask(asked, at, at + round(lasts_s * NS_PER_S))
        tallies.setdefault(asked.workload, Tally()).count(asked, got)
        if number % 500 == 499:
            advanced(500)
    return tallies


def exact_of_texts(texts: Sequence[str]) -> list[Hashable]:
    """What is equal for texts that count as one."""
    return [normalised(text) for text in texts]


def exact_of_lengths(
    groups: Sequence[Hashable], keys: NDArray[np.int64], lengths: NDArray[np.int64], seed: int
) -> list[Hashable]:
    """Which requests are taken to repeat one another word for word, from keys and lengths; `groups` are the partitions.
    Repeats are estimated for each of them by itself, and for keys that many or few ask for: pairs of popular keys would
    drown the others. A request without a key repeats nothing."""
    found: list[Hashable] = list(range(len(keys)))
    coin = random.Random(seed)
    wanted = Counter(keys.tolist())
    classes: dict[tuple[Hashable, Kind], list[int]] = {}
    for row, (group, key) in enumerate(zip(groups, keys.tolist(), strict=True)):
        if key >= 0:
            classes.setdefault((group, like(wanted[key])), []).append(row)
    for rows in classes.values():
        repeats = Repeats(keys[rows], lengths[rows])
        seen: dict[tuple[int, int], list[Hashable]] = {}
        for row in rows:
            like_it = seen.setdefault((int(keys[row]), int(lengths[row])), [])
            if coin.random() < repeats.chance(len(like_it)):
                found[row] = like_it[coin.randrange(len(like_it))]
            like_it.append(found[row])
    return found


def text_memories(texts: Sequence[str], vectors: NDArray[np.float32]) -> Callable[[Hashable, float, int], Memory]:
    """Makes memories of texts."""
    whole = tuple(texts)
    return lambda partition, rate, seed: TextMemory(whole, vectors)


def drawn_memories(
    keys: NDArray[np.int64],
    lengths: NDArray[np.int64],
    embedder: str,
    kind: Kind | None = None,
    measured: Population | None = None,
    workloads: Sequence[Hashable] | None = None,
) -> Callable[[Hashable, float, int], Memory]:
    """Makes memories of keys, which are like the `measured` prompts; else like the shipped table of a `kind`; else each
    like the table that `kinds_of` says. `keys`, `lengths` in tokens and `workloads` are those of the requests; without
    the last there is one."""
    names = keys.tolist()
    if measured is not None:
        populations = dict.fromkeys(names, measured)
    else:
        tables: dict[Kind, Population] = {one: load_population(one, embedder) for one in KINDS}
        kinds = kinds_of(names, workloads if workloads is not None else [0] * len(names), lengths.tolist())
        populations = {key: tables[kind or own] for key, own in kinds.items()}
    return lambda partition, rate, seed: DrawnMemory(populations, rate, random.Random(f"{seed}/{partition}"))
