"""What is observed of the engines: probes, their own reports, and what became of requests; and the verdict from it.

One process observes for all workers. Probes and counters feed one condition per engine; what conditions, comparisons
with peers and panic together allow is written to the board, once a second, as a state and a share of traffic. Workers
hold conditions of their own, from what they see first; the worse of both counts.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable, Iterable

import numpy as np

from gridctl.broker.plan import Backend, Plan
from gridctl.health import outliers
from gridctl.health.condition import Condition
from gridctl.health.facts import Readings
from gridctl.health.outcome import Outcome
from gridctl.health.outliers import Sample, Suspect, suspects
from gridctl.health.panic import Member, Panic, admissions
from gridctl.health.probe import Prober
from gridctl.health.probe import Settings as ProbeSettings
from gridctl.health.probe import Target as ProbeTarget
from gridctl.health.words import Event, OperatorState, State
from gridctl.resources import Cluster, Site
from gridctl.signals.board import Board
from gridctl.signals.rows import CORDONED, FAILING, FRESH, HEALTH_STATES, STALE
from gridctl.signals.scrape import Scraper
from gridctl.signals.scrape import Target as ScrapeTarget
from gridctl.signals.totals import read_totals

PERIOD_S = 1.0
COMPARED_EVERY = 10
"""Rounds between two comparisons of engines with their peers."""
READ_EVERY = 5
"""Rounds between two readings of the meters, for rates."""
KEPT_OUTCOMES = 40
_CODES: dict[State, int] = {
    "cordoned": CORDONED,
    "draining": CORDONED,
    "down": CORDONED,
    **{state: HEALTH_STATES.index(state) for state in ("unknown", "healthy", "degraded", "ejected", "probation")},
}
_COUNTED = ("completed", "failures", "connect_failures", "breaks")


class Observer:
    """Observes the engines of a plan. `run` until cancelled; `follow` whenever the plan changes."""

    def __init__(self, board: Board, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self.conditions: dict[int, Condition] = {}
        self.outcomes: dict[int, deque[Outcome]] = {}
        self.panics: dict[str, Panic] = {}
        self.suspects: tuple[Suspect, ...] = ()
        self.readings = Readings()
        self.scraper = Scraper(board, clock)
        self._prober = Prober(self._take, ProbeSettings())
        self._board = board
        self._clock = clock
        self._backends: dict[int, Backend] = {}
        self._regions: dict[str, str] = {}
        self._counted = np.zeros((board.backends, len(_COUNTED)), np.int64)
        self._compared = np.zeros((board.backends, len(_COUNTED)), np.int64)
        self._reported: dict[int, int] = {}
        self._round = 0

    def follow(self, plan: Plan) -> None:
        """Observe this plan's engines from now on. What is known of engines that stay is kept."""
        now_ns = self._clock()
        before, self._backends = self._backends, {backend.row: backend for backend in plan.backends}
        self._regions = {one.name: one.spec.country for one in plan.resources if isinstance(one, Site)}
        for row in [row for row in before if self._backends.get(row) != before[row]]:
            self._forget(row)
        said = _operator_states(plan)
        for row, backend in self._backends.items():
            if row not in self.conditions:
                self.conditions[row] = Condition(now_ns=now_ns)
                self.outcomes[row] = deque(maxlen=KEPT_OUTCOMES)
                self._counted[row] = self._compared[row] = self._counts()[row]
            self.conditions[row].operate(said[backend.cluster], now_ns)
        targets = [_scrape_target(backend, plan.generation) for backend in self._backends.values()]
        self.scraper.watch(targets)
        self._prober.retarget(_probe_target(backend) for backend in self._backends.values())
        self._write(now_ns)

    async def run(self) -> None:
        """Observe, until cancelled."""
        tasks = [asyncio.create_task(self.scraper.run()), asyncio.create_task(self._prober.run())]
        try:
            while True:
                await asyncio.sleep(PERIOD_S)
                self.look()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def look(self) -> None:
        """One round: what was counted and reported since the last one, and the verdict."""
        now_ns = self._clock()
        counts = self._counts()
        for row, condition in self.conditions.items():
            completed, failures, unreached, breaks = (counts[row] - self._counted[row]).tolist()
            if completed > 0 or failures > 0:
                kind = _mostly(failures, unreached, breaks)
                condition.observe_counts(max(0, completed), max(0, failures), now_ns, event=kind)
            if failures > 0 or unreached > 0:
                self._prober.hurry(str(row))
            state = self._board.scraped(row).telemetry_state
            if state == FAILING and self._reported.get(row) != FAILING:
                self._prober.hurry(str(row))
            self._reported[row] = state
            if state == FRESH:
                condition.observe("telemetry-fresh", now_ns)
            elif state == STALE:
                condition.observe("telemetry-stale", now_ns)
            condition.tick(now_ns)
        self._counted = counts
        self._round += 1
        if self._round % COMPARED_EVERY == 0:
            self._compare(counts, now_ns)
        if self._round % READ_EVERY == 1:
            self.readings.take(now_ns, read_totals(self._board))
        self._write(now_ns)

    def note_probe(self, row: int) -> Outcome | None:
        """The last probe of an engine, or None before the first."""
        known = self.outcomes.get(row)
        return known[-1] if known else None

    # ── inside ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _take(self, outcome: Outcome) -> None:
        row = int(outcome.key)
        condition = self.conditions.get(row)
        if condition is None:
            return
        self.outcomes[row].append(outcome)
        if outcome.event is not None:
            self._board.note_probe(row, outcome.at_ns, passed=outcome.event == "probe-ok")
        if outcome.event is not None and condition.observe(outcome.event, outcome.at_ns, outcome.detail):
            self._write(outcome.at_ns)

    def _compare(self, counts: np.ndarray[tuple[int, int], np.dtype[np.int64]], now_ns: int) -> None:
        samples = []
        for row, backend in self._backends.items():
            completed, failures, _, _ = (counts[row] - self._compared[row]).tolist()
            failed = max(0, failures)
            samples.append(
                Sample(
                    row,
                    f"{backend.cluster}/{backend.replica}",
                    backend.model,
                    f"{backend.model}/{backend.variant}",
                    self._regions.get(backend.site, ""),
                    max(0, completed) + failed,
                    failed,
                )
            )
        ejected = [row for row, condition in self.conditions.items() if condition.state == "ejected"]
        for found in outliers.outliers(samples, ejected):
            if not found.is_held_back:
                self.conditions[found.row].eject(found.cause, now_ns)
        self.suspects = suspects(samples)
        self._compared = counts

    def _write(self, now_ns: int) -> None:
        """Each engine's state and share on the board, model by model: engines of one model stand in for each other."""
        pools: dict[str, list[Member]] = {}
        for row, backend in self._backends.items():
            condition = self.conditions[row]
            pools.setdefault(backend.model, []).append(Member(row, condition.state, condition.admit_ppm))
        self.panics = {}
        for model, pool in pools.items():
            granted, panic = admissions(pool)
            if panic is not None:
                self.panics[model] = panic
            for member in pool:
                self._board.set_health(member.row, _CODES[member.state], granted[member.row])

    def _counts(self) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
        """Answers and failures of each engine since the board was made; and how many of the failures were connections
        that could not be made, and connections that broke."""
        counts = np.empty((self._board.backends, len(_COUNTED)), np.int64)
        for column, field in enumerate(_COUNTED):
            counts[:, column] = self._board.slots[field].sum(axis=0)
        return counts

    def _forget(self, row: int) -> None:
        self.conditions.pop(row, None)
        self.outcomes.pop(row, None)
        self._reported.pop(row, None)


def _mostly(failures: int, unreached: int, breaks: int) -> Event:
    """What at least half of the failures were."""
    if unreached > 0 and 2 * unreached >= failures:
        return "connect-failed"
    return "reset" if breaks > 0 and 2 * breaks >= failures else "status-5xx"


def _operator_states(plan: Plan) -> dict[str, OperatorState]:
    """What the operator said of each cluster: the worse of the cluster's own state and its site's."""
    order: tuple[OperatorState, ...] = ("active", "cordoned", "draining", "down")
    sites = {one.name: one.spec.state for one in plan.resources if isinstance(one, Site)}
    clusters = [one for one in plan.resources if isinstance(one, Cluster)]
    return {one.name: max(one.spec.state, sites.get(one.spec.site, "active"), key=order.index) for one in clusters}


def _scrape_target(backend: Backend, generation: int) -> ScrapeTarget:
    token = credential_of(backend)
    return ScrapeTarget(backend.row, backend.url, f"Bearer {token}" if token else None, generation=generation)


def _probe_target(backend: Backend) -> ProbeTarget:
    return ProbeTarget(
        key=str(backend.row), url=backend.url, model=backend.served_model or None, token=credential_of(backend)
    )


def credential_of(backend: Backend) -> str | None:
    """What an engine wants as a bearer token, from the environment of this process; None when it wants nothing."""
    return os.environ.get(backend.credential_env) or None if backend.credential_env else None


def missing_credentials(backends: Iterable[Backend]) -> list[str]:
    """Names of variables that engines need and this process's environment lacks."""
    return sorted({one.credential_env for one in backends if one.credential_env and credential_of(one) is None})
