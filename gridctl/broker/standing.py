"""Standing: what this worker itself has found out about each engine: whether it answers, and how far predictions were
off. Kept by row of the board, over reloads of the plan; a row whose engine is another one starts anew.

Failures seen here eject an engine here at once, before any probe; the board's opinion, which probes make, counts beside
it, and the worse of the two holds.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from gridctl.broker.learning import Correction
from gridctl.broker.plan import Backend
from gridctl.broker.prefixes import PrefixIndex, empty_index, forget
from gridctl.broker.rows import OWN
from gridctl.health.condition import NEVER_NS, Condition
from gridctl.health.words import EVENTS, Event
from gridctl.kernels import Records
from gridctl.signals.rows import ALL_TRAFFIC_PPM, WORD_BYTES

FIRST_RETRY_MS, LAST_RETRY_MS = 500, 30_000
_OWN_WORDS = OWN.itemsize // WORD_BYTES
_TTFT_RATIO, _TPOT_RATIO = ((OWN.names or ()).index(name) for name in ("ttft_ratio", "tpot_ratio"))


class Standing:
    """The engines as one worker knows them. `own` is read by decisions; `due_ns` is when `tick` has something to do."""

    def __init__(self, rows: int) -> None:
        self.own: Records = np.zeros(rows, OWN).view(np.recarray)
        # The same memory as one row of doubles: a record's attributes cost ten times as much to write.
        self._floats = memoryview(self.own.view(np.ndarray).view(np.float64))
        self.prefixes: PrefixIndex = empty_index(rows)
        self.conditions: dict[int, Condition] = {}
        self.due_ns = NEVER_NS
        self._ratios: dict[int, tuple[Correction, Correction]] = {}
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
                self._ratios[row] = Correction(), Correction()

    def _renew(self, row: int) -> None:
        own = self.own[row]
        own.ttft_ratio = own.tpot_ratio = 1.0
        own.admit_ppm = ALL_TRAFFIC_PPM
        own.foreign = own.foreign_ns = 0
        own.foreign_sequence = -1
        self.conditions.pop(row, None)
        self._ratios.pop(row, None)

    def observe(self, row: int, event: str, now_ns: int) -> None:
        """An engine answered, or failed to."""
        condition = self.conditions.get(row)
        if condition is None:
            return
        word: Event = event if event in EVENTS else "reset"
        if condition.observe(word, now_ns):
            self._heed(row, condition)

    def tick(self, now_ns: int) -> None:
        """Let engines that are out come back when their time is up."""
        for row, condition in self.conditions.items():
            if condition.tick(now_ns):
                self._heed(row, condition, is_due_known=False)
        self._next_due()

    def learn(self, row: int, predicted: tuple[float, float], observed: tuple[float, float]) -> None:
        """Compare (TTFT, TPOT) of one request in µs with what was observed; 0 where nothing was."""
        ratios = self._ratios.get(row)
        if ratios is None:
            return
        ttft, tpot = ratios
        if observed[0] > 0.0:
            self._floats[row * _OWN_WORDS + _TTFT_RATIO] = ttft.learn(predicted[0], observed[0])
        if observed[1] > 0.0:
            self._floats[row * _OWN_WORDS + _TPOT_RATIO] = tpot.learn(predicted[1], observed[1])

    def retry_after_ms(self, now_ns: int) -> int:
        """When it makes sense to ask again, while nobody may be used."""
        changes = [one.next_change_ns for one in self.conditions.values() if one.state == "ejected"]
        soonest = min((change for change in changes if change is not None), default=now_ns)
        return min(LAST_RETRY_MS, max(FIRST_RETRY_MS, (soonest - now_ns) // 1_000_000))

    def _heed(self, row: int, condition: Condition, *, is_due_known: bool = True) -> None:
        self.own[row].admit_ppm = condition.admit_ppm
        if condition.state == "ejected":
            forget(self.prefixes, row, 0)  # who comes back has mostly started anew
        if is_due_known:
            self._next_due()

    def _next_due(self) -> None:
        changes = [one.next_change_ns for one in self.conditions.values() if one.admit_ppm < ALL_TRAFFIC_PPM]
        self.due_ns = min((change for change in changes if change is not None), default=NEVER_NS)
