"""Watching: whether the engine is well, and the figures of its probes, now and under the committed version.

Decides how often it is asked and how often it must fail before it has failed. The answers of the committed version are
kept in memory, so that a trial's can be compared with them. One thread looks; others read the figures.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from gridctl.agent.engine import Engine
from gridctl.agent.order import Order
from gridctl.agent.probing import Answered, figures

FAILURES = 3
"""Checks in a row that an engine must fail."""
MAX_ERROR_SHARE = 0.10
"""Share of probes that may fail on a trial before the site takes it back without asking."""


class EngineWatch:
    """What is known of the engine's health."""

    def __init__(self, order: Order, engine: Engine) -> None:
        self.engine = engine
        self.is_well = True
        self.figures: Mapping[str, float] = {}
        self._order = order
        self._failures = 0
        self._committed: Sequence[Answered] = ()
        self._look_at = 0.0
        self._probe_at = 0.0

    @property
    def has_failed(self) -> bool:
        """Whether it failed so often in a row that it is not by chance."""
        return self._failures >= FAILURES

    def look(self, *, is_trial: bool) -> None:
        """Ask the engine, when it is time to."""
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + self._order.health_every_s
            self.is_well = self.engine.is_well()
            self._failures = 0 if self.is_well else self._failures + 1
        if now >= self._probe_at and self.is_well:
            self._probe_at = now + self._order.probe_every_s
            answers = self.engine.probe()
            if not is_trial:
                self._keep(answers)
            self._tell(answers)

    def remember_committed(self) -> None:
        """Have answers of the committed version before another is loaded."""
        if not self._committed and self.engine.is_well():
            self._keep(self.engine.probe())

    def prove(self) -> str:
        """Probe what was just loaded; what is wrong with it, "" when nothing is."""
        self.forget()
        self._probe_at = time.monotonic() + self._order.probe_every_s
        answers = self.engine.probe()
        self._tell(answers)
        failed = sum(1 for answer in answers if answer.text is None)
        if failed > MAX_ERROR_SHARE * len(answers):
            return f"{failed} of {len(answers)} probes failed"
        return ""

    def forget(self) -> None:
        """Something else is loaded: what was counted against the engine does not count any more."""
        self._failures = 0
        self.is_well = True
        self._look_at = time.monotonic() + self._order.health_every_s

    def _keep(self, answers: Sequence[Answered]) -> None:
        if answers and all(answer.text is not None for answer in answers):
            self._committed = answers

    def _tell(self, answers: Sequence[Answered]) -> None:
        if answers:
            self.figures = figures(answers, self._committed, self._order.probes)
