"""Standing: what this worker itself has found out about each engine: whether it answers, and how far predictions were
off. Kept by row of the board, over reloads of the plan; a row whose engine is another one starts anew.

Failures seen here eject an engine here at once, before any probe; the board's opinion, which probes make, counts beside
it, and the worse of the two holds. An engine that is out here hears of probes, too: one that passes tells that who was
out of reach is back, and is tried with little traffic, but says nothing for one that answers and fails requests.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

import numpy as np

from gridctl.broker.learning import Correction, WaitCorrection, rounded
from gridctl.broker.plan import Backend
from gridctl.broker.prefixes import PrefixIndex, empty_index, forget
from gridctl.broker.rows import BELIEVED_NS, FADING_NS, OWN
from gridctl.health.condition import Condition
from gridctl.health.words import EVENTS, NEVER_NS, Event
from gridctl.kernels import Records
from gridctl.signals.rows import ALL_TRAFFIC_PPM, WORD_BYTES
from gridctl.units import NS_PER_MS, NS_PER_S

FIRST_RETRY_MS: Final = 500
LAST_RETRY_MS: Final = 30_000
_OWN_WORDS: Final = OWN.itemsize // WORD_BYTES
_AT: Final = {name: index for index, name in enumerate(OWN.names or ())}
_TTFT_RATIO: Final = _AT["ttft_ratio"]
_TPOT_RATIO: Final = _AT["tpot_ratio"]
_WAIT: Final = _AT["wait_us"]
_LEARNED: Final = _AT["learned_ns"]
_HOPED_TTFT: Final = _AT["hoped_ttft"]
_HOPED_TPOT: Final = _AT["hoped_tpot"]
HOPED_NS: Final = NS_PER_S
"""Between two comparisons of an engine with its peers, of which there may be a thousand."""
ALIKE: Final = 1.25
"""Engines of a model whose factors differ by less are taken to be equal: it is noise, and the one that seems faster by
a hair would get all that it can do in time."""
LOOK_NS: Final = 200 * NS_PER_MS
"""How often, while an engine is out or on trial here, decisions look whether a probe has told anything new."""


class Standing:
    """The engines as one worker knows them. `own` is read by decisions; `due_ns` is when `tick` has something to do."""

    def __init__(self, rows: int) -> None:
        self.own: Records = np.zeros(rows, OWN).view(np.recarray)
        # The same memory as one row of doubles: a record's attributes cost ten times as much to write.
        self._floats = self.own.view(np.ndarray).view(np.uint8).data.cast("d")
        self._words = memoryview(self.own.view(np.ndarray).view(np.int64).data)
        self.prefixes: PrefixIndex = empty_index(rows)
        self.conditions: dict[int, Condition] = {}
        self.due_ns = NEVER_NS
        self._ratios: dict[int, tuple[WaitCorrection, Correction]] = {}
        self._heard_ns: dict[int, int] = {}
        self._peers: dict[int, list[int]] = {}
        self._observations = [0] * rows
        self._typical = [(1.0, 1.0)] * rows
        self._hoped_ns = [0] * rows
        self._identities: dict[int, tuple[str, str, str, str]] = {}
        for row in range(rows):
            self._renew(row)

    def adopt(self, backends: Iterable[Backend]) -> None:
        """Keep what is known of engines that stay, forget the others."""
        now = {one.row: (one.url, one.cluster, one.model, one.variant) for one in backends}
        for row, identity in list(self._identities.items()):
            if now.get(row) != identity:
                forget(self.prefixes, row, 0)
                self._renew(row)
                del self._identities[row]
        for row, identity in now.items():
            if row not in self._identities:
                self._identities[row] = identity
                self.conditions[row] = Condition()
                self._ratios[row] = WaitCorrection(), Correction()
        peers: dict[tuple[str, str], list[int]] = {}
        for row, (_, _, model, variant) in now.items():
            peers.setdefault((model, variant), []).append(row)
        self._peers = {row: rows for rows in peers.values() for row in rows}
        for rows in peers.values():
            self._hope(rows[0], 0)

    def _renew(self, row: int) -> None:
        own = self.own[row]
        own.ttft_ratio = own.tpot_ratio = own.hoped_ttft = own.hoped_tpot = 1.0
        own.admit_ppm = ALL_TRAFFIC_PPM
        own.wait_us = 0.0
        own.foreign = own.foreign_ns = own.learned_ns = 0
        own.foreign_sequence = -1
        self.conditions.pop(row, None)
        self._ratios.pop(row, None)
        self._heard_ns.pop(row, None)
        self._observations[row] = 0

    def observe(self, row: int, event: str, now_ns: int) -> None:
        """An engine answered, or failed to."""
        condition = self.conditions.get(row)
        if condition is None:
            return
        word: Event = event if event in EVENTS else "reset"
        if condition.observe(word, now_ns):
            if condition.state == "ejected":
                self._heard_ns[row] = now_ns
            self._heed(row, condition, now_ns)

    def tick(self, now_ns: int, board: Records) -> None:
        """Let engines that are out come back when their time is up, or when the probes on the `board` say so."""
        for row, condition in self.conditions.items():
            changed = condition.tick(now_ns)
            if condition.admit_ppm < ALL_TRAFFIC_PPM and condition.state in ("ejected", "probation"):
                changed |= self._hear(row, condition, board)
            if changed:
                self._heed(row, condition, now_ns, is_due_known=False)
        self._next_due(now_ns)

    def _hear(self, row: int, condition: Condition, board: Records) -> bool:
        """Tell a condition of the latest probes since it was ejected; True when that changed it."""
        since_ns = self._heard_ns.get(row, 0)
        probed = board[row]
        passed_ns, failed_ns = int(probed.probe_passed_ns), int(probed.probe_failed_ns)
        told: list[tuple[int, Event]] = [(passed_ns, "probe-ok"), (failed_ns, "probe-failed")]
        changed = False
        for at_ns, event in sorted(told):
            if at_ns > since_ns:
                changed |= condition.observe(event, at_ns)
                self._heard_ns[row] = at_ns
        return changed

    def expected(self, row: int, predicted: tuple[float, float], ahead: int) -> tuple[float, float]:
        """(TTFT, TPOT) in µs by what has been learned until now, of a prediction with so many requests ahead."""
        ratios = self._ratios.get(row)
        if ratios is None:
            return predicted
        ttft, tpot = ratios
        return ttft.factor * predicted[0] + ttft.wait_us * ahead, tpot.factor * predicted[1]

    def learn(
        self,
        row: int,
        predicted: tuple[float, float],
        ahead: int,
        observed: tuple[float, float],
        *,
        decided_ns: int,
        now_ns: int,
    ) -> None:
        """Compare (TTFT, TPOT) of one request in µs, which had so many others ahead of it, with what was observed; 0
        where nothing was."""
        ratios = self._ratios.get(row)
        if ratios is None:
            return
        count = self._observations[row]
        self._observations[row] = count + 1
        silence_ns = decided_ns - self._words[row * _OWN_WORDS + _LEARNED] - BELIEVED_NS
        if count == 0 or silence_ns > 0:
            ratios = self._begin_anew(row, max(0.0, 1.0 - silence_ns / FADING_NS) if count else 0.0)
        ttft, tpot = ratios
        if observed[0] > 0.0:
            ttft.learn(predicted[0], ahead, observed[0])
            self._floats[row * _OWN_WORDS + _TTFT_RATIO] = _or_alike(ttft.factor, self._typical[row][0])
            self._floats[row * _OWN_WORDS + _WAIT] = ttft.wait_us
            self._words[row * _OWN_WORDS + _LEARNED] = now_ns
        if observed[1] > 0.0:
            factor = tpot.learn(predicted[1], observed[1])
            self._floats[row * _OWN_WORDS + _TPOT_RATIO] = _or_alike(factor, self._typical[row][1])
        if now_ns - self._hoped_ns[row] >= HOPED_NS:
            self._hope(row, now_ns)

    def _begin_anew(self, row: int, belief: float) -> tuple[WaitCorrection, Correction]:
        """Learn from what is believed of an engine by now: `belief` is its own past's share, the rest its peers'."""
        hoped_ttft, hoped_tpot = (self._floats[row * _OWN_WORDS + at] for at in (_HOPED_TTFT, _HOPED_TPOT))
        before_ttft, before_tpot = self._ratios[row]
        ttft, tpot = WaitCorrection(), Correction()
        ttft.prior = hoped_ttft + belief * (before_ttft.factor - hoped_ttft)
        tpot.prior = hoped_tpot + belief * (before_tpot.factor - hoped_tpot)
        ttft.factor, tpot.factor = ttft.prior, tpot.prior
        self._ratios[row] = ttft, tpot
        return ttft, tpot

    def _hope(self, row: int, now_ns: int) -> None:
        """Expect of engines that nobody knows that they are as much faster than declared as the best of their model.

        Else one that was found faster would be given everything for ever, and its equals nothing. That one was found
        slower says nothing of the others: they are tried instead. O(peers)."""
        peers = self._peers.get(row, [])
        known = [self._ratios[one] for one in peers if self._observations[one]]
        ttft = _best([one.factor for one, _ in known])
        tpot = _best([one.factor for _, one in known])
        floats = self._floats
        for one in peers:
            self._typical[one] = ttft, tpot
            self._hoped_ns[one] = now_ns
            floats[one * _OWN_WORDS + _HOPED_TTFT] = min(1.0, ttft)
            floats[one * _OWN_WORDS + _HOPED_TPOT] = min(1.0, tpot)
            if self._observations[one]:
                first, later = self._ratios[one]
                floats[one * _OWN_WORDS + _TTFT_RATIO] = _or_alike(first.factor, ttft)
                floats[one * _OWN_WORDS + _TPOT_RATIO] = _or_alike(later.factor, tpot)

    def retry_after_ms(self, now_ns: int) -> int:
        """When it makes sense to ask again, while nobody may be used."""
        changes = [one.next_change_ns for one in self.conditions.values() if one.state == "ejected"]
        soonest = min((change for change in changes if change is not None), default=now_ns)
        return min(LAST_RETRY_MS, max(FIRST_RETRY_MS, (soonest - now_ns) // 1_000_000))

    def _heed(self, row: int, condition: Condition, now_ns: int, *, is_due_known: bool = True) -> None:
        self.own[row].admit_ppm = condition.admit_ppm
        if condition.state == "ejected":
            forget(self.prefixes, row, 0)  # who comes back has mostly started anew
        if is_due_known:
            self._next_due(now_ns)

    def _next_due(self, now_ns: int) -> None:
        limited = [one for one in self.conditions.values() if one.admit_ppm < ALL_TRAFFIC_PPM]
        looks = NEVER_NS if not limited else now_ns + LOOK_NS
        self.due_ns = min((one.next_change_ns or NEVER_NS for one in limited), default=NEVER_NS)
        self.due_ns = min(self.due_ns, looks)


def _best(factors: list[float]) -> float:
    """The geometric mean of the least factor and of those that are like it; 1 without any."""
    if not factors:
        return 1.0
    least = min(factors)
    alike = [factor for factor in factors if factor <= ALIKE * least]
    return rounded(math.exp(sum(map(math.log, alike)) / len(alike)))


def _or_alike(factor: float, typical: float) -> float:
    """The typical factor, where this one is like it."""
    return typical if typical <= ALIKE * factor and factor <= ALIKE * typical else rounded(factor)
