"""One cache in virtual time: what each request would have got from it, by the very code that decides live.

    ask(request, now) ─▶ exact | joined | semantic   the stored answer goes out
                         audit | stale               it goes out, and an engine is asked behind its back: a coin chose
                                                     it to be checked, or it is past its time
                         miss                        an engine answers, and its answer is kept once it is there

Decides nothing of its own: keys, admission, verdicts, eviction and freshness are the cache's. An answer can be given
only after its engine has finished it; until then requests with the same text wait for it (`joined`). Judgements are by
the answer keys, so they are never wrong: a judge that errs costs hits (see `gridctl help cache`). Everything follows
from the requests, their times and the seed.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable, Mapping
from typing import Literal, NamedTuple

import msgspec

from gridctl.cache.admission import Admission, AskedBefore
from gridctl.cache.decision import Decider, DecisionSettings, Verdict
from gridctl.cache.eviction import Store
from gridctl.cache.evidence import Evidence
from gridctl.cache.freshness import Lifetime, jitter_of
from gridctl.cache.memory import Memory
from gridctl.cache.model import WrongModel

Level = Literal["exact", "joined", "semantic", "stale", "audit", "miss", "bypass"]
NEVER = -1
"""When an answer is there that no engine ever gives."""
HITS: tuple[Level, ...] = ("exact", "joined", "semantic", "stale", "audit")
"""What a client gets from the cache."""
SAVES: tuple[Level, ...] = ("exact", "joined", "semantic")
"""What no engine is asked for."""
ENTRY_BYTES = 256
"""What a stored answer takes beside its text, its prompt's text and its vector: keys, times, provenance."""
BYTES_PER_TOKEN = 4


class Asked(NamedTuple):
    """A request. `partition` is the wall it is behind, `key` its right answer's (−1: unknown), `exact` what is equal
    for requests with one text."""

    number: int
    partition: Hashable
    workload: str
    key: int
    exact: Hashable
    input_tokens: int
    output_tokens: int
    saving_usd: float = 0.0


class Got(NamedTuple):
    """What became of a request. `leader` is the number of the request it waits for, when it joined one; `looked` says
    whether its meaning was looked for, which takes longer than a look in a table."""

    level: Level
    is_wrong: bool = False
    leader: int = -1
    looked: bool = False


class CacheRule(msgspec.Struct, frozen=True, kw_only=True):
    """What a workload allows, as its CachePolicy says it."""

    mode: Literal["off", "exact", "semantic"] = "semantic"
    error_rate: float = 0.01
    ttl_s: float = 3600.0
    stale_s: float = 0.0
    audit_budget: float = 0.1
    admission: Admission = "first"

    @property
    def admits_first(self) -> bool:
        """Whether an answer is kept though it was never asked for before; always where meaning counts."""
        return self.admission == "first" or self.mode != "exact"


class _Coming(NamedTuple):
    """An answer that an engine works on, by when it is there."""

    at_ns: int
    asked: Asked
    evidence: Evidence | None
    verdict: Verdict | None
    renews: bool = False


class _Entry(NamedTuple):
    partition: Hashable
    exact: Hashable
    workload: str
    key: int
    fresh_ns: int
    name: str
    place: int | None


class Rehearsal:
    """One site's cache. `remember` makes the memory of a partition at an error rate; `vector_bytes` is what a vector
    takes."""

    def __init__(
        self,
        rules: Mapping[str, CacheRule],
        capacity_bytes: int,
        remember: Callable[[Hashable, float], Memory],
        *,
        vector_bytes: int,
        seed: int = 1,
    ) -> None:
        model = WrongModel()
        self.deciders = {
            name: Decider(name, _settings(rules[name]), model, 1_000 * seed + number)
            for number, name in enumerate(sorted(rules))
            if rules[name].mode == "semantic"
        }
        self._rules, self._remember, self._vector_bytes = rules, remember, vector_bytes
        self._store = Store(capacity_bytes)
        self._memories: dict[Hashable, Memory] = {}
        self._exact: dict[tuple[Hashable, Hashable], _Entry] = {}
        self._by_name: dict[str, _Entry] = {}
        self._name_of: dict[tuple[Hashable, int], str] = {}
        self._coming: list[tuple[int, int, _Coming]] = []
        self._leaders: dict[tuple[Hashable, Hashable], Asked] = {}
        self._ends: list[tuple[int, str]] = []
        self._renewing: set[tuple[Hashable, Hashable]] = set()
        self._asked_before = AskedBefore()
        self.evicted = self.expired = 0

    @property
    def used_bytes(self) -> int:
        """Bytes of what is stored."""
        return self._store.used_bytes

    def __len__(self) -> int:
        return len(self._by_name)

    def ask(self, asked: Asked, now_ns: int, answered_ns: int) -> Got:
        """What a request gets; where an engine has to answer, that answer is there at `answered_ns`, or NEVER."""
        self.advance(now_ns)
        rule = self._rules.get(asked.workload)
        if rule is None or rule.mode == "off":
            return Got("bypass")
        slot = asked.partition, asked.exact
        entry = self._exact.get(slot)
        decider = self.deciders.get(asked.workload)
        if entry is not None:
            if decider is not None:
                decider.exact(now_ns)
            self._store.hit(entry.name)
            got = Got("exact", _differs(entry.key, asked.key))
            return self._renewed(got, entry, asked, None, now_ns, answered_ns)
        leader = self._leaders.get(slot)
        if leader is not None:
            if decider is not None:
                decider.exact(now_ns)
            return Got("joined", _differs(leader.key, asked.key), leader.number)
        if decider is None or asked.key < 0:
            return self._miss(asked, answered_ns, None, None)
        memory = self._memory(asked)
        evidence = memory.weigh(asked.number, asked.key)
        verdict = decider.decide(evidence, now_ns)
        if verdict.kind == "explore" or evidence is None:
            return self._miss(asked, answered_ns, evidence, verdict)
        got = Got("semantic", memory.key_of(evidence.group) != asked.key, looked=True)
        name = self._name_of.get((asked.partition, evidence.entry))
        if name is not None:
            self._store.hit(name, 1.0 - verdict.predicted)
        if verdict.kind == "audit":
            return self._audited(got, asked, evidence, verdict, answered_ns)
        if name is None:
            return got
        return self._renewed(got, self._by_name[name], asked, evidence, now_ns, answered_ns)

    def advance(self, now_ns: int) -> None:
        """Let answers come and old ones go, up to a moment, in the order of their times."""
        while True:
            next_ns = min(
                self._coming[0][0] if self._coming else now_ns + 1, self._ends[0][0] if self._ends else now_ns + 1
            )
            if next_ns > now_ns:
                return
            if self._ends and self._ends[0][0] == next_ns:
                _, name = heapq.heappop(self._ends)
                if name in self._by_name:
                    self.expired += 1
                    self._store.remove(name)
                    self._forget(name)
                continue
            self._keep(heapq.heappop(self._coming)[2])

    def _renewed(
        self, got: Got, entry: _Entry, asked: Asked, evidence: Evidence | None, now_ns: int, answered_ns: int
    ) -> Got:
        """A hit; one past its time asks an engine anew, unless that is under way or no engine would answer."""
        slot = asked.partition, asked.exact
        if now_ns < entry.fresh_ns or slot in self._renewing or answered_ns == NEVER:
            return got
        self._renewing.add(slot)
        coming = _Coming(answered_ns, asked, evidence, None, renews=True)
        heapq.heappush(self._coming, (answered_ns, asked.number, coming))
        return got._replace(level="stale")

    def _audited(self, got: Got, asked: Asked, evidence: Evidence, verdict: Verdict, answered_ns: int) -> Got:
        """A hit that an engine's answer will be compared with; where none comes its label is overdue some day."""
        if answered_ns != NEVER:
            coming = _Coming(answered_ns, asked, evidence, verdict)
            heapq.heappush(self._coming, (answered_ns, asked.number, coming))
        return got._replace(level="audit")

    def _miss(self, asked: Asked, answered_ns: int, evidence: Evidence | None, verdict: Verdict | None) -> Got:
        if answered_ns != NEVER:
            self._leaders[asked.partition, asked.exact] = asked
            coming = _Coming(answered_ns, asked, evidence, verdict)
            heapq.heappush(self._coming, (answered_ns, asked.number, coming))
        return Got("miss", looked=asked.workload in self.deciders)

    def _keep(self, coming: _Coming) -> None:
        """An engine's answer is there: judge the candidate by it, and store it."""
        asked, evidence, verdict = coming.asked, coming.evidence, coming.verdict
        slot = asked.partition, asked.exact
        if self._leaders.get(slot) is asked:
            del self._leaders[slot]
        self._renewing.discard(slot)
        place = None
        if asked.workload in self.deciders and asked.key >= 0:
            memory = self._memory(asked)
            if evidence is not None and verdict is not None:
                self._label(memory, asked, evidence, verdict, coming.at_ns)
            if evidence is None and coming.renews:  # of an exact repeat: to which group does it belong?
                evidence = memory.weigh(asked.number, asked.key)
            place = memory.keep(asked.number, asked.key, evidence)
        rule = self._rules[asked.workload]
        if not (rule.admits_first or self._asked_before.note(slot) or coming.renews):
            return
        size = ENTRY_BYTES + BYTES_PER_TOKEN * (asked.input_tokens + asked.output_tokens)
        name = str(asked.number)
        lifetime = Lifetime(ttl_s=rule.ttl_s, stale_s=rule.stale_s)
        fresh_ns, gone_ns = lifetime.ends_ns(coming.at_ns, jitter_of(asked.number))
        entry = _Entry(asked.partition, asked.exact, asked.workload, asked.key, fresh_ns, name, place)
        earlier = self._exact.get(slot)
        if earlier is not None:
            self._store.remove(earlier.name)
            self._forget(earlier.name)
        self._exact[slot], self._by_name[name] = entry, entry
        if place is not None:
            self._name_of[asked.partition, place] = name
        heapq.heappush(self._ends, (gone_ns, name))
        for victim in self._store.admit(name, size + self._vector_bytes * (place is not None), asked.saving_usd):
            self.evicted += 1
            self._forget(victim)

    def _label(self, memory: Memory, asked: Asked, evidence: Evidence, verdict: Verdict, now_ns: int) -> None:
        try:
            is_right = memory.key_of(evidence.group) == asked.key
        except KeyError:  # the candidate went meanwhile: nobody can say
            if verdict.ticket is not None:
                self.deciders[asked.workload].label(verdict.ticket, True, now_ns)
            return
        if verdict.ticket is not None:
            self.deciders[asked.workload].label(verdict.ticket, not is_right, now_ns)
        memory.label(evidence.group, is_right)

    def _forget(self, name: str) -> None:
        entry = self._by_name.pop(name)
        if self._exact.get((entry.partition, entry.exact)) is entry:
            del self._exact[entry.partition, entry.exact]
        if entry.place is not None:
            del self._name_of[entry.partition, entry.place]
            self._memories[entry.partition].drop(entry.place)

    def _memory(self, asked: Asked) -> Memory:
        if asked.partition not in self._memories:
            rate = self._rules[asked.workload].error_rate
            self._memories[asked.partition] = self._remember(asked.partition, rate)
        return self._memories[asked.partition]


def _settings(rule: CacheRule) -> DecisionSettings:
    return DecisionSettings(error_rate=rule.error_rate, audit_budget=rule.audit_budget, serves_audits=True)


def _differs(kept: int, asked: int) -> bool:
    """Whether an answer is known to be another one than is right."""
    return kept >= 0 and asked >= 0 and kept != asked
