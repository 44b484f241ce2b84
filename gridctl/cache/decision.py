"""Serve, audit or explore: the verdict on one prompt of one workload, and what its label teaches.

    evidence → prediction (`model`) → price (`pace`), limit (`account`) → coin → Verdict;  label → model, account

Decides; keeps no answers and reads no clock (times are inputs). `serve`: the stored answer goes out. `audit`: it could
have gone out, but a coin chose it to be answered by the engine and judged. `explore`: the engine answers; judged too,
where the judging budget allows. Predictions are made before their labels, each label is used once, in the order of the
verdicts: a label that overtakes waits for the earlier ones, and one that is overdue counts as wrong. So neither late
nor withheld labels, nor an order chosen by an adversary, can make the record look better than it is. What users say
counts only against an answer, and of each user only `REPORTS_PER_USER` times.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from dataclasses import dataclass
from typing import Literal

import msgspec

from gridctl.cache.account import Account
from gridctl.cache.bound import between_zero_and_one
from gridctl.cache.certificate import Certificate
from gridctl.cache.evidence import Evidence
from gridctl.cache.groups import AnswerGroups
from gridctl.cache.model import WrongModel
from gridctl.cache.pace import Pace
from gridctl.cache.standing import Standing
from gridctl.errors import InputError

REPORTS_PER_USER = 3
TICKETS_SKIPPED = 1 << 24
"""Numbers left out at a restart, so that no ticket of the time before names a label of the time after."""
PRICE_EVERY = 25


class DecisionSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`error_rate` is δ: wrong answers over requests. An audit happens with probability predicted / (audit_divisor ·
    δ), within the two limits, and more often while few were: `early_audits` over answers served. `audit_budget` is the
    most audits over requests beyond the least ones, `judge_share` the share of explored requests whose answer is
    judged. `serves_audits`: an audited candidate goes out too while the engine is asked behind the client's back, so it
    is booked as served; the bound holds all the same (the two factors' product has a smaller mean)."""

    error_rate: float = 0.01
    confidence: float = 0.95
    least_audit: float = 0.01
    most_audit: float = 0.3
    audit_divisor: float = 60.0
    early_audits: float = 5.0
    audit_budget: float = 0.1
    judge_share: float = 1.0
    overdue_ns: int = 600_000_000_000
    serves_audits: bool = False

    def __post_init__(self) -> None:
        between_zero_and_one(self.error_rate, "cache.error_rate")
        if not 0.0 < self.least_audit <= self.most_audit <= 1.0:
            raise InputError("audit probabilities need 0 < least_audit ≤ most_audit ≤ 1")
        if not (0.0 <= self.judge_share <= 1.0 and 0.0 <= self.audit_budget <= 1.0 and self.audit_divisor > 0.0):
            raise InputError("judge_share and audit_budget lie between 0 and 1, audit_divisor above 0")


@dataclass(slots=True)
class Verdict:
    """`predicted` is the chance of being wrong and `price` the highest that is served; `audit_probability` is the
    coin's; `ticket` names the label that is wanted (None: none is). `reason`: within-risk, audit-coin, nothing-stored,
    learning, above-price, bound-reached, stopped."""

    kind: Literal["serve", "audit", "explore"]
    reason: str
    evidence: Evidence | None
    predicted: float
    price: float
    audit_probability: float
    ticket: int | None


@dataclass(slots=True)
class _Wanted:
    """A label that was promised."""

    evidence: Evidence
    predicted: float | None
    audit_probability: float
    since_ns: int
    is_wrong: bool | None = None
    is_overdue: bool = False


class Decider:
    """The decisions of one workload, over any number of partitions; `model` is shared between workloads."""

    def __init__(self, workload: str, settings: DecisionSettings, model: WrongModel, seed: int) -> None:
        self.settings = settings
        self.account = Account(settings.error_rate, settings.confidence)
        self.certificate = Certificate(settings.least_audit, 1.0 - settings.confidence)
        self._workload = workload
        self._model = model
        self._pace = Pace()
        self._coin = random.Random(seed)
        self._wanted: dict[int, _Wanted] = {}
        self._order: deque[int] = deque()
        self._next_ticket = 0
        self._now_ns = 0
        self._audits = 0.0
        self._reports: Counter[str] = Counter()
        self._known_wrong = 0.0
        self._awaited, self._awaited_predicted = 0, 0.0
        self.is_stopped = False

    @property
    def price(self) -> float:
        """The highest risk served at."""
        return self._pace.price

    @property
    def awaited(self) -> int:
        """Labels that were promised and have not been counted."""
        return len(self._wanted)

    @property
    def least_wrong(self) -> float:
        """Wrong answers served, at least, by what audits and users found; the certificate's confidence."""
        return self._known_wrong + self.certificate.least

    def aside(self) -> tuple[Account, Pace]:
        """Copies that another thread may work limit and price out of; from now on this decider leaves that to it."""
        self.account.refreshes_itself = False
        return self.account.copy(), self._pace.copy()

    def adopt(self, account: Account, pace: Pace) -> None:
        """Take what was worked out of copies."""
        if self.account.adopt(account):
            self._pace.price = pace.price

    def standing(self) -> Standing:
        """What must be kept, to `resume` later."""
        account = self.account
        wrong, predicted, next_wrong, next_predicted = account.record
        certificate, counter = self.certificate.sums
        return Standing(
            error_rate=self.settings.error_rate,
            confidence=self.settings.confidence,
            requests=account.requests,
            served=account.served,
            spent=account.spent,
            wrong=wrong,
            predicted=predicted,
            next_wrong=next_wrong,
            next_predicted=next_predicted,
            certificate=certificate,
            counter=counter,
            audits=self._audits,
            known_wrong=self._known_wrong,
            awaited_predicted=self._awaited_predicted,
            epoch=account.epoch,
            next_ticket=self._next_ticket,
            awaited=self._awaited,
            is_stopped=int(self.is_stopped),
        )

    def resume(self, kept: Standing, *, is_whole: bool = True) -> None:
        """Go on from an earlier decider. Labels it awaited count as wrong. Where the promise is another one now, or
        `is_whole` is False (the last events may be missing), a new epoch begins without labels."""
        self._next_ticket = kept.next_ticket + TICKETS_SKIPPED
        self.is_stopped = bool(kept.is_stopped)
        same = kept.error_rate == self.settings.error_rate and kept.confidence == self.settings.confidence
        if not (same and is_whole):
            self.account.resume(kept.epoch + 1, 0, 0, 0.0, (0.0, 0.0, 0.0, 0.0))
            return
        lost, lost_predicted = kept.awaited, kept.awaited_predicted
        record = (kept.wrong + lost, kept.predicted + lost_predicted)
        following = (kept.next_wrong + lost, kept.next_predicted + lost_predicted)
        self.account.resume(kept.epoch, int(kept.requests), int(kept.served), kept.spent, (*record, *following))
        self.certificate.resume((kept.certificate, kept.counter))
        self._audits, self._known_wrong = kept.audits, kept.known_wrong

    def exact(self, now_ns: int) -> None:
        """Count a request that an exact repeat answered."""
        self._arrive(now_ns)
        self._pace.saw(0.0)

    def bypassed(self, now_ns: int) -> None:
        """Count a request that may not be answered from the cache."""
        self._arrive(now_ns)
        self._pace.saw(1.0)

    def decide(self, evidence: Evidence | None, now_ns: int, withheld: str = "") -> Verdict:
        """The verdict on a prompt that no exact repeat answered. `withheld` says why the candidate may not be served
        whatever its risk; it is judged all the same."""
        self._arrive(now_ns)
        predicted = None if evidence is None else self._model.chance(self._workload, evidence.features)
        self._pace.saw(1.0 if predicted is None else predicted)
        if evidence is None:
            return Verdict("explore", "nothing-stored", None, 1.0, self.price, 0.0, None)
        if predicted is None:
            return self._explore("learning", evidence, None)
        if withheld:
            return self._explore(withheld, evidence, predicted)
        if self.is_stopped or predicted > self.price:
            return self._explore("stopped" if self.is_stopped else "above-price", evidence, predicted)
        if not self.account.affords(predicted):
            return self._explore("bound-reached", evidence, predicted)
        return self._flip(evidence, predicted)

    def label(self, ticket: int, is_wrong: bool, now_ns: int) -> bool:
        """Take the judgement of a verdict's candidate; False when it is not (or no longer) wanted."""
        self._tick(now_ns)
        wanted = self._wanted.get(ticket)
        if wanted is None or wanted.is_wrong is not None:
            return False
        wanted.is_wrong = is_wrong
        self._settle()
        return True

    def abandon(self, ticket: int, now_ns: int) -> bool:
        """No judgement will come: the label counts as wrong at once, and teaches nothing."""
        self._tick(now_ns)
        wanted = self._wanted.get(ticket)
        if wanted is None or wanted.is_wrong is not None:
            return False
        wanted.is_wrong = wanted.is_overdue = True
        self._settle()
        return True

    def report(self, user: str, groups: AnswerGroups, group: int) -> bool:
        """A user says an answer was wrong: its group goes, and its record of the workload worsens. False when this user
        has reported often enough."""
        if self._reports[user] >= REPORTS_PER_USER:
            return False
        self._reports[user] += 1
        groups.drop(group)
        self.account.learn(0.0, True)
        self._known_wrong += 1.0
        return True

    def _flip(self, evidence: Evidence, predicted: float) -> Verdict:
        settings = self.settings
        wanted = predicted / (settings.audit_divisor * settings.error_rate)
        chance = min(settings.most_audit, max(settings.least_audit, wanted))
        chance = max(chance, min(settings.most_audit, settings.early_audits / (1.0 + self.account.served)))
        if self._audits + 1.0 > settings.audit_budget * self.account.requests + 1.0:
            chance = settings.least_audit
        if self._coin.random() < chance:
            self._audits += 1.0
            ticket = self._want(evidence, predicted, chance)
            if self.settings.serves_audits:
                self.account.serve(predicted)
            return Verdict("audit", "audit-coin", evidence, predicted, self.price, chance, ticket)
        self.account.serve(predicted)
        return Verdict("serve", "within-risk", evidence, predicted, self.price, chance, None)

    def _explore(self, reason: str, evidence: Evidence, predicted: float | None) -> Verdict:
        is_judged = self.settings.judge_share >= 1.0 or self._coin.random() < self.settings.judge_share
        ticket = self._want(evidence, predicted, 1.0) if is_judged else None
        known = 1.0 if predicted is None else predicted
        return Verdict("explore", reason, evidence, known, self.price, 0.0, ticket)

    def _want(self, evidence: Evidence, predicted: float | None, chance: float) -> int:
        ticket = self._next_ticket
        self._next_ticket += 1
        self._wanted[ticket] = _Wanted(evidence, predicted, chance, self._now_ns)
        self._order.append(ticket)
        self._await(predicted, 1)
        return ticket

    def _await(self, predicted: float | None, change: int) -> None:
        """Keep count of the labels awaited that the account will count."""
        if predicted is not None and predicted <= self.account.highest:
            self._awaited += change
            self._awaited_predicted = max(0.0, self._awaited_predicted + change * predicted)

    def _arrive(self, now_ns: int) -> None:
        self._tick(now_ns)
        self.account.arrived()
        if self.account.refreshes_itself and self.account.requests % PRICE_EVERY == 0:
            self._pace.choose(self.account)

    def _tick(self, now_ns: int) -> None:
        """Let overdue labels count as wrong. A clock that runs backwards stands still."""
        self._now_ns = max(self._now_ns, now_ns)
        while self._order:
            wanted = self._wanted[self._order[0]]
            if wanted.is_wrong is None:
                if self._now_ns - wanted.since_ns <= self.settings.overdue_ns:
                    return
                wanted.is_wrong = wanted.is_overdue = True
            self._settle()

    def _settle(self) -> None:
        """Count labels in the order of their verdicts."""
        while self._order and self._wanted[self._order[0]].is_wrong is not None:
            wanted = self._wanted.pop(self._order.popleft())
            is_wrong = bool(wanted.is_wrong)
            self._await(wanted.predicted, -1)
            if wanted.predicted is not None:
                self.account.learn(wanted.predicted, is_wrong)
            if wanted.audit_probability < 1.0:
                self.certificate.audited(wanted.audit_probability, is_wrong)
                self._known_wrong += is_wrong and self.settings.serves_audits
            if not wanted.is_overdue:
                self._model.learn(self._workload, wanted.evidence.features, is_wrong, 1.0 / wanted.audit_probability)
