"""Deciders: one decider for each workload, whose account is in the ledger before a verdict leaves, and whose model's
labels are in the store.

Decides nothing that `cache.decision` does not decide. Invariants: the ledger never lags behind what was served; a label
is given once; the promise (error rate) is the plan's, never the request's.
"""

from __future__ import annotations

import hashlib
from collections import Counter, OrderedDict, defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gridctl.answers.entries import Lesson
from gridctl.answers.ledger import Ledger
from gridctl.answers.settings import Rules
from gridctl.answers.store import Store
from gridctl.cache.account import LIMITS_AHEAD, REQUESTS_PER_EPOCH, Account
from gridctl.cache.decision import Decider, DecisionSettings, Verdict
from gridctl.cache.evidence import FEATURES, Evidence
from gridctl.cache.groups import AnswerGroups
from gridctl.cache.model import WrongModel
from gridctl.cache.pace import Pace

MOST_AWAITED = 20_000
LEAST_KNOWN_WRONG = 3
"""Wrong answers that must be known before a workload is stopped for them."""

_MEANING = hashlib.blake2b(" ".join(FEATURES).encode(), digest_size=8).digest()
"""Stands before kept features: those of a version that measured others are left out."""


class KeptModel(WrongModel):
    """The model, whose labels go to the store as they come."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self._store = store
        self.restore(
            (one.workload, np.frombuffer(one.features, np.float64, offset=len(_MEANING)), one.wrong, one.weight)
            for one in store.lessons()
            if one.features.startswith(_MEANING) and len(one.features) == len(_MEANING) + 8 * len(FEATURES)
        )

    def learn(self, workload: str, features: NDArray[np.float64], is_wrong: bool, weight: float = 1.0) -> None:
        """Take a label, and keep it."""
        super().learn(workload, features, is_wrong, weight)
        self._store.learnt(Lesson(workload, _MEANING + features.tobytes(), is_wrong, weight))


@dataclass(slots=True)
class Candidate:
    """What a promised label is about: the group offered, in its partition, and the words it would have answered."""

    partition: bytes
    group: int
    kept: str


class Deciders:
    """All workloads' deciders."""

    def __init__(self, store: Store, ledger: Ledger, rules: dict[str, Rules], seed: int) -> None:
        self._ledger = ledger
        self._model = KeptModel(store)
        self._seed = seed
        self._deciders: dict[str, Decider] = {}
        self._awaited: OrderedDict[tuple[str, int], Candidate] = OrderedDict()
        self.bounds: dict[str, float] = {}
        self.counts: dict[str, Counter[str]] = {}
        self.saved_usd: defaultdict[str, float] = defaultdict(float)
        self.stopped_because: dict[str, str] = {}
        self.rules = rules

    @property
    def labels(self) -> int:
        """Labels the model holds."""
        return self._model.labels

    def follow(self, rules: dict[str, Rules]) -> None:
        """Take other rules; a workload whose promise changed begins a new epoch."""
        for name in list(self._deciders):
            if rules.get(name) != self.rules.get(name):
                self._save(name)
                del self._deciders[name]
        self.rules = rules

    def count(self, workload: str, word: str) -> None:
        """Count an outcome."""
        if workload in self.rules:
            self.counts.setdefault(workload, Counter())[word] += 1

    def decide(self, workload: str, evidence: Evidence | None, now_ns: int, withheld: str = "") -> Verdict:
        """The verdict, once it is in the ledger."""
        verdict = self._of(workload).decide(evidence, now_ns, withheld)
        self._save(workload)
        return verdict

    def repeated(self, workload: str, now_ns: int) -> None:
        """Count an exact repeat among the requests of a workload that is served by meaning too."""
        if self._is_semantic(workload):
            self._of(workload).exact(now_ns)
            self._save(workload)

    def bypassed(self, workload: str, now_ns: int) -> None:
        """Count a request that could not be answered by meaning."""
        if self._is_semantic(workload):
            self._of(workload).bypassed(now_ns)
            self._save(workload)

    def await_label(self, workload: str, ticket: int, candidate: Candidate) -> None:
        """Remember what a ticket is about."""
        self._awaited[workload, ticket] = candidate
        while len(self._awaited) > MOST_AWAITED:
            self._awaited.popitem(last=False)

    def awaited(self, workload: str, ticket: int) -> Candidate | None:
        """What a ticket is about, once."""
        return self._awaited.pop((workload, ticket), None)

    def label(self, workload: str, ticket: int, is_wrong: bool, now_ns: int) -> bool:
        """Take a judgement; False when it is not wanted."""
        taken = self._is_semantic(workload) and self._of(workload).label(ticket, is_wrong, now_ns)
        if taken:
            self._save(workload)
        return taken

    def abandon(self, workload: str, ticket: int, now_ns: int) -> bool:
        """No judgement will come."""
        self._awaited.pop((workload, ticket), None)
        taken = self._is_semantic(workload) and self._of(workload).abandon(ticket, now_ns)
        if taken:
            self._save(workload)
        return taken

    def report(self, workload: str, user: str, groups: AnswerGroups, group: int) -> bool:
        """A user says an answer was wrong; see `Decider.report`."""
        if not self._is_semantic(workload):
            return True
        taken = self._of(workload).report(user, groups, group)
        self._save(workload)
        return taken

    def stop(self, workload: str, because: str) -> None:
        """Serve nothing by meaning until `resume`."""
        if self._is_semantic(workload):
            self._of(workload).is_stopped = True
            self.stopped_because[workload] = because
            self._save(workload)

    def resume(self, workload: str) -> None:
        """Serve by meaning again, within the promise."""
        if self._is_semantic(workload):
            self._of(workload).is_stopped = False
            self.stopped_because.pop(workload, None)
            self._save(workload)

    def stop_broken(self) -> list[str]:
        """Stop the workloads whose wrong answers, at least, are more than promised; their names."""
        found = []
        for name, decider in self._deciders.items():
            least, requests = decider.least_wrong, _requests(decider)
            if not decider.is_stopped and least >= LEAST_KNOWN_WRONG and least > decider.settings.error_rate * requests:
                found.append(name)
        for name in found:
            self.stop(name, "more answers were wrong than promised")
        return found

    def names(self) -> list[str]:
        """Workloads that have an account by now."""
        return list(self._deciders)

    def aside(self, workload: str) -> tuple[Account, Pace] | None:
        """Copies for `work_out`, in another thread; None when the workload has gone."""
        decider = self._deciders.get(workload)
        return None if decider is None else decider.aside()

    def adopt(self, workload: str, account: Account, pace: Pace, bound: float) -> None:
        """Take what `work_out` found."""
        decider = self._deciders.get(workload)
        if decider is not None:
            decider.adopt(account, pace)
            self.bounds[workload] = bound

    def standing(self, workload: str) -> dict[str, object]:
        """A workload in numbers, for operators."""
        rules = self.rules[workload]
        found: dict[str, object] = {"mode": rules.mode, "error_rate": rules.error_rate, "judge": rules.judge}
        found["counts"] = dict(sorted(self.counts.get(workload, Counter()).items()))
        found["saved_usd"] = self.saved_usd[workload]
        if self._is_semantic(workload):
            decider = self._of(workload)
            kept = decider.standing()
            found |= {
                "requests": int(kept.requests),
                "served_by_meaning": int(kept.served),
                "audits": int(kept.audits),
                "labels_awaited": decider.awaited,
                "bound": self.bounds.get(workload),
                "least_wrong_share": decider.least_wrong / max(1, _requests(decider)),
                "highest_risk_served": decider.price,
                "epoch": kept.epoch,
                "is_stopped": decider.is_stopped,
                "stopped_because": self.stopped_because.get(workload),
            }
        return found

    def _is_semantic(self, workload: str) -> bool:
        rules = self.rules.get(workload)
        return rules is not None and rules.mode == "semantic"

    def _of(self, workload: str) -> Decider:
        decider = self._deciders.get(workload)
        if decider is None:
            rules = self.rules[workload]
            settings = DecisionSettings(
                error_rate=rules.error_rate, audit_budget=rules.audit_budget, serves_audits=True
            )
            decider = Decider(workload, settings, self._model, self._seed + len(self._deciders))
            kept = self._ledger.read(workload)
            if kept is not None:
                decider.resume(kept, is_whole=self._ledger.is_same_boot)
            self._deciders[workload] = decider
            self._save(workload)
        return decider

    def _save(self, workload: str) -> None:
        decider = self._deciders.get(workload)
        if decider is not None and not self._ledger.write(workload, decider.standing()):
            decider.is_stopped = True  # an account that cannot be kept promises nothing
            self.stopped_because[workload] = "there are too many workloads to keep accounts of"


def work_out(account: Account, pace: Pace) -> float:
    """Limits, price and bound of a copy: some milliseconds, which a look must not wait for."""
    account.work_out(LIMITS_AHEAD)
    pace.choose(account)
    return account.bound


def _requests(decider: Decider) -> int:
    return decider.account.requests + (decider.account.epoch - 1) * REQUESTS_PER_EPOCH
