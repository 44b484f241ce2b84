"""Keeper: what becomes of a look and of an answer handed in. No sockets, no clock, no thread.

Decides by `cache`'s rules over the shelf and the store. Invariants: what is served was kept, in the same partition, for
the same workload and jurisdiction, was not purged since its engine was asked and has not expired; an answer reaches
other processes (through the presence table) only once it is durable. Times are Unix nanoseconds; a clock that ran
backwards makes entries look young, one born more than a minute ahead of it is not believed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gridctl.answers.deciders import Candidate, Deciders
from gridctl.answers.entries import Batch, Entry, Serving, entry_of, is_valid, kept_of, tags_of
from gridctl.answers.judging import is_same, text_of
from gridctl.answers.ledger import Ledger
from gridctl.answers.lifetimes import age_of
from gridctl.answers.presence import Presence
from gridctl.answers.question import Found, Fresh, Kept, Level, Note, Question
from gridctl.answers.settings import KeeperSettings, Rules
from gridctl.answers.sharing import asker_of, askers_of, with_asker, withheld
from gridctl.answers.shelf import Section, Shelf
from gridctl.answers.store import Store
from gridctl.answers.vectors import Vectors
from gridctl.answers.window import Window
from gridctl.cache.cacheable import LONGEST_PROMPT, refusal_of
from gridctl.cache.evidence import JUDGED_GROUPS, Evidence, weigh

LONGEST_LIFE_S = 31_536_000.0
"""A year; what claims to live longer was miscounted."""
PARTITION = re.compile(r"[0-9a-f]{64}")
EXPIRED_TRIED = 8
"""Candidates that turn out to be gone before a look gives up."""


class Keeper:
    """The kept answers. `embedders` holds the identity of the embedder at each place, set when it was opened.
    `learns_aside`: somebody sees to what is learnt from many prompts, as `Aside` does; else it is learnt in a look."""

    def __init__(
        self,
        store: Store,
        presence: Presence,
        ledger: Ledger,
        settings: KeeperSettings,
        seed: int,
        *,
        learns_aside: bool = False,
    ) -> None:
        self.store, self.presence = store, presence
        self.settings = settings
        self._learns_aside = learns_aside
        self.shelf = Shelf(settings.capacity_bytes, learns_aside=learns_aside)
        self._window = Window(self.shelf, store, presence, settings.rules)
        self.deciders = Deciders(store, ledger, settings.rules, seed)
        self.judged = Counter[tuple[str, str, bool]]()
        """Labels by workload, tenant and whether the kept answer was right, since the start."""
        self.embedders: dict[str, str] = {}
        self.vectors: dict[str, Vectors] = {}
        self.problem = store.aside or ""
        self.is_storing, self._tries_storing = True, False
        self.is_loaded = False
        self._loaded_to = 0
        self._hits = store.hits()
        self._sweeping: list[int] = []
        presence.set_purge(store.last_purge)
        presence.ready()

    def follow(self, settings: KeeperSettings) -> None:
        """Take other settings of the same room."""
        self.settings = settings
        self.deciders.follow(settings.rules)
        self._window.follow(settings.rules)

    def load(self, now_ns: int, most: int = 500) -> bool:
        """Take in the next entries of the file; True when all are in, and the workers may look."""
        entries = self.store.entries(self._loaded_to, most)
        for entry in entries:
            self._loaded_to = entry.number
            age = age_of(entry, entry.ttl_s, entry.stale_s, now_ns)
            if age is None or not is_valid(entry.tags, entry.stamp, self.store.purges):
                self.store.remove(entry.number)
                continue
            self._take_in(entry)
            self._window.show(entry.number)
            for _ in range(min(3, self._hits.pop(entry.number, 0))):
                self.shelf.room.hit(str(entry.number))
        if not entries and not self.is_loaded:
            self.is_loaded = True
            self._hits.clear()
        return self.is_loaded

    def load_again(self) -> None:
        """Begin to load anew, for entries that could not be indexed. Everything kept must be durable."""
        self.shelf = Shelf(self.settings.capacity_bytes, learns_aside=self._learns_aside)
        self._window.shelf = self.shelf
        self.is_loaded, self._loaded_to, self._sweeping = False, 0, []

    # ── looking ──

    def look(self, question: Question, now_ns: int) -> Found:
        """What is to be done with a request. Its vector must have been learnt, else it is a miss, "no-vector"."""
        rules = self.settings.rules.get(question.workload)
        if rules is None or not question.may_serve or len(question.text) > LONGEST_PROMPT:
            return Found("miss", "off" if rules is None else "no-cache" if not question.may_serve else "too-long")
        number = self.shelf.by_exact.get(question.exact)
        entry = self.usable(number, question, now_ns) if number is not None else None
        if entry is not None:
            reason = withheld(self.shelf, entry.number, question, rules, is_repeat=True)
            if reason:
                self.deciders.bypassed(question.workload, now_ns)
                self.deciders.count(question.workload, reason)
                return Found("miss", reason)
            self.deciders.repeated(question.workload, now_ns)
            return Found("hit", "exact", self._kept(entry, question, now_ns, "exact", None))
        if rules.mode != "semantic" or question.mode != "semantic":
            return Found("miss", "nothing-stored")
        vector = self.vector(rules, question.text)
        if vector is None:
            self.deciders.bypassed(question.workload, now_ns)
            return Found("miss", "no-vector")
        return self._by_meaning(question, rules, vector, now_ns)

    def _by_meaning(self, question: Question, rules: Rules, vector: NDArray[np.float32], now_ns: int) -> Found:
        section = self._section(question, rules)
        evidence, entry = self._candidate(question, section, vector, now_ns)
        reason = "" if entry is None else withheld(self.shelf, entry.number, question, rules, is_repeat=False)
        verdict = self.deciders.decide(question.workload, evidence, now_ns, reason)
        self.deciders.count(question.workload, verdict.reason)
        if evidence is None or entry is None or section is None:
            return Found("miss", verdict.reason)
        if verdict.ticket is not None:
            candidate = Candidate(section.key, evidence.group, text_of(entry.content))
            self.deciders.await_label(question.workload, verdict.ticket, candidate)
        if verdict.kind == "explore":
            return Found("miss" if verdict.ticket is None else "explore", verdict.reason, None, verdict.ticket)
        kept = self._kept(entry, question, now_ns, "semantic", evidence.cosine)
        self.shelf.room.hit(str(entry.number), 1.0 - verdict.predicted)
        return Found("hit" if verdict.kind == "serve" else "audit", verdict.reason, kept, verdict.ticket)

    def _candidate(
        self, question: Question, section: Section | None, vector: NDArray[np.float32], now_ns: int
    ) -> tuple[Evidence | None, Entry | None]:
        """The best group and the entry nearest in it, once what has expired is out of the way."""
        for _ in range(EXPIRED_TRIED):
            if section is None or section.groups is None:
                return None, None
            evidence = weigh(question.text, vector, section.groups)
            if evidence is None:
                return None, None
            number = section.numbers[evidence.entry]
            entry = self.usable(number, question, now_ns)
            if entry is not None:
                return evidence, entry
            if number in self.shelf.held:  # usable for others, not for this question
                return None, None
        return None, None

    def usable(self, number: int, question: Question, now_ns: int) -> Entry | None:
        """The entry, if this question may have it; one that nobody may have any more is removed."""
        entry = self.store.read(number)
        if entry is None or not is_valid(entry.tags, entry.stamp, self.store.purges):
            self.drop(number)
            return None
        if age_of(entry, entry.ttl_s, entry.stale_s, now_ns) is None:
            self.drop(number)
            return None
        is_theirs = (
            entry.partition.hex() == question.partition
            and entry.workload == question.workload
            and entry.jurisdiction == question.jurisdiction
        )
        in_time = age_of(entry, question.ttl_s, question.stale_s, now_ns) is not None
        return entry if is_theirs and in_time else None

    def _kept(self, entry: Entry, question: Question, now_ns: int, level: Level, similarity: float | None) -> Kept:
        bound = self.deciders.bounds.get(question.workload) if level == "semantic" else None
        return kept_of(entry, question, now_ns, level, similarity, bound)

    # ── keeping ──

    def keep(self, question: Question, fresh: Fresh, now_ns: int) -> str:
        """Take an answer in; what became of it: kept, or why not."""
        rules = self.settings.rules.get(question.workload)
        if rules is None:
            return "off"
        refusal = refusal_of(fresh.finish_reason, fresh.status, fresh.content, fresh.has_tool_call)
        if fresh.ticket is not None:
            self._judge(question, fresh, rules, is_answered=refusal is None, now_ns=now_ns)
        outcome = refusal or self._unwanted(question, fresh) or self._store(question, fresh, rules, now_ns)
        self.deciders.count(question.workload, outcome)
        return outcome

    def abandon(self, question: Question, ticket: int, now_ns: int) -> None:
        """No answer will come for a ticket."""
        self.deciders.abandon(question.workload, ticket, now_ns)

    def texts_to_judge(self, question: Question, fresh: Fresh) -> list[str]:
        """Texts whose vectors `keep` needs: the prompt, and where answers are judged by meaning the answers."""
        rules = self.settings.rules.get(question.workload)
        if rules is None or rules.mode != "semantic" or len(question.text) > LONGEST_PROMPT:
            return []
        texts = [question.text]
        if rules.judge != "meaning" or fresh.status != 200:
            return texts
        texts.append(text_of(fresh.content))
        if fresh.ticket is not None:
            candidate = self.deciders.awaited(question.workload, fresh.ticket)
            if candidate is not None:
                self.deciders.await_label(question.workload, fresh.ticket, candidate)
                texts.append(candidate.kept)
        section, vector = self._section(question, rules), self.vector(rules, question.text)
        if section is not None and vector is not None:
            texts += [text for _, text in self._rivals(section, question.text, vector)]
        return texts

    def vector(self, rules: Rules, text: str) -> NDArray[np.float32] | None:
        """The vector of a text embedded lately."""
        known = self.vectors.get(rules.embedder)
        return None if known is None else known.get(text)

    def _judge(self, question: Question, fresh: Fresh, rules: Rules, *, is_answered: bool, now_ns: int) -> None:
        assert fresh.ticket is not None
        candidate = self.deciders.awaited(question.workload, fresh.ticket)
        if candidate is None or not is_answered:
            self.deciders.abandon(question.workload, fresh.ticket, now_ns)
            return
        same = is_same(rules.judge, text_of(fresh.content), candidate.kept, lambda text: self.vector(rules, text))
        if self.deciders.label(question.workload, fresh.ticket, not same, now_ns):
            self.judged[question.workload, question.tenant, same] += 1
            self.deciders.count(question.workload, "judged-same" if same else "judged-different")
            section = self.shelf.section(candidate.partition)
            if section is not None and section.groups is not None:
                section.groups.label(candidate.group, same)

    def _unwanted(self, question: Question, fresh: Fresh) -> str | None:
        if not self.is_loaded:
            return "loading"
        if not (self.is_storing or self._tries_storing):
            return "disk-full"
        if not (0.0 < question.ttl_s <= LONGEST_LIFE_S and 0.0 <= question.stale_s <= LONGEST_LIFE_S):
            return "no-time-to-live"
        if len(question.exact) != 16 or not PARTITION.fullmatch(question.partition):
            return "no-key"
        if not is_valid(tags_of(question, fresh), fresh.stamp, self.store.purges):
            return "purged-meanwhile"
        return None

    def _store(self, question: Question, fresh: Fresh, rules: Rules, now_ns: int) -> str:
        older, user = self.shelf.by_exact.get(question.exact), question.user
        if rules.is_public:
            before = self.shelf.held[older].askers if older is not None else ()
            user = with_asker(before, asker_of(question), rules.public_after)
        vector = self.vector(rules, question.text) if rules.mode == "semantic" else None
        entry = entry_of(
            question,
            fresh,
            self.store.next_number(),
            now_ns,
            founder=0 if vector is None else self._founder(question, fresh, rules, vector),
            embedder=self.embedders.get(rules.embedder, ""),
            vector=vector,
            user=user,
        )
        self.store.add(entry)
        self._take_in(entry)
        if older is not None:  # only now: where the new one is of its group, the group and its record stay
            self.drop(older)
        return "kept" if entry.number in self.shelf.held else "too-large"

    def adopt(self, entry: Entry, now_ns: int) -> bool:
        """Take in another gateway's answer, if nothing here speaks against it; whether it is kept."""
        is_wanted = self.is_loaded and self.is_storing and is_valid(entry.tags, entry.stamp, self.store.purges)
        if not is_wanted or age_of(entry, entry.ttl_s, entry.stale_s, now_ns) is None:
            return False
        older = self.shelf.by_exact.get(entry.exact)
        self.store.add(entry)
        self._take_in(entry)
        if older is not None:
            self.drop(older)
        return entry.number in self.shelf.held

    def has(self, question: Question, now_ns: int) -> bool:
        """Whether there is an answer to the very question here, and it may go to who asks."""
        number = self.shelf.by_exact.get(question.exact)
        return number is not None and self.usable(number, question, now_ns) is not None

    def _founder(self, question: Question, fresh: Fresh, rules: Rules, vector: NDArray[np.float32]) -> int:
        """The founder of the nearest group that has the same answer; 0 where there is none."""
        section = self._section(question, rules)
        if section is None:
            return 0
        words = text_of(fresh.content)
        for number, kept in self._rivals(section, question.text, vector):
            if is_same(rules.judge, words, kept, lambda text: self.vector(rules, text)):
                return self.shelf.founder(number)
        return 0

    def _rivals(self, section: Section, text: str, vector: NDArray[np.float32]) -> list[tuple[int, str]]:
        """An entry and the words of its answer, for each of the groups a fresh answer is compared with."""
        groups, found = section.groups, list[tuple[int, str]]()
        evidence = weigh(text, vector, groups) if groups is not None else None
        if groups is None or evidence is None:
            return found
        for group in evidence.judged[:JUDGED_GROUPS]:
            number = section.numbers[groups.group(group).aliases[0]]
            entry = self.store.read(number)
            if entry is not None:
                found.append((number, text_of(entry.content)))
        return found

    def _section(self, question: Question, rules: Rules) -> Section | None:
        """The question's partition, if its vectors are of the embedder in use."""
        if not PARTITION.fullmatch(question.partition):
            return None
        section = self.shelf.section(bytes.fromhex(question.partition))
        is_comparable = section is not None and section.embedder == self.embedders.get(rules.embedder, "")
        return section if is_comparable else None

    def _take_in(self, entry: Entry) -> None:
        rules = self.settings.rules.get(entry.workload)
        embedder = self.embedders.get(rules.embedder, "") if rules is not None else ""
        askers = askers_of(entry.user) if rules is None or rules.is_public else ()
        for number in self.shelf.put(entry, embedder, askers):
            self.drop(number)
        while len(self.presence) >= self.presence.most - 1:
            going = self.shelf.give_up_one()
            if not going:
                break
            for number in going:
                self.drop(number)

    # ── going ──

    def drop(self, number: int) -> bool:
        """Remove an entry everywhere; False when it was not here."""
        held = self.shelf.remove(number)
        self.store.remove(number)
        if held is None:
            return False
        self.presence.remove(held.exact, number)
        return True

    @property
    def is_sweeping(self) -> bool:
        """Whether entries are left to look through."""
        return bool(self._sweeping)

    def begin_sweep(self) -> None:
        """Look through all entries from the first again."""
        self._sweeping = list(self.shelf.held)

    def sweep(self, now_ns: int, most: int = 2_000) -> int:
        """Remove what has expired or was purged among the next entries; how many there were."""
        found = 0
        for number in [self._sweeping.pop() for _ in range(min(most, len(self._sweeping)))]:
            held = self.shelf.held.get(number)
            if held is None:
                continue
            if now_ns >= held.gone_after_ns or not is_valid(held.tags, held.stamp, self.store.purges):
                found += self.drop(number)
        return found

    def noted(self, notes: Sequence[Note], now_ns: int) -> None:
        """Take note of what went out."""
        for note in notes:
            workload = note.workload
            if workload not in self.settings.rules:
                continue
            self.deciders.count(workload, f"hit-{note.level}")
            self.deciders.saved_usd[workload] += note.saved_usd
            if note.level == "exact":
                self.deciders.repeated(workload, now_ns)
                self.shelf.room.hit(str(note.entry))
            self.store.served(
                Serving(note.request_id, note.entry, note.level, workload, note.tenant, "", note.saved_usd, now_ns)
            )

    def committed(self, batch: Batch, problem: str | None) -> None:
        """A batch is durable, or could not be written: then what it would have kept is forgotten."""
        self.store.settle(batch, is_written=problem is None)
        if problem is not None:
            self.problem, self.is_storing, self._tries_storing = problem, False, False
            for number, entry in batch.entries.items():
                if self.shelf.remove(number) is not None:
                    self.presence.remove(entry.exact, number)
            return
        if batch.entries and not self.is_storing:
            self.problem, self.is_storing = "", True
        for number in batch.entries:
            self._window.show(number)
        self.presence.set_purge(self.store.last_purge)

    def retry_storing(self) -> None:
        """Try the disk again with the next answer."""
        self._tries_storing = True
