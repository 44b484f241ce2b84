"""Rollouts of a live grid: reports in, instructions out, time and analysis in between.

Drives the machine of `rollout`; decides nothing itself. All of the store's work happens in one thread of its own, in
the order it came, so the event loop that requests are watched from never waits for a disk. Invariant: nothing is
answered before it is written.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from gridctl.control.canary import (
    Reading,
    canary_sites,
    control_sites,
    like_sites,
    reading_of,
    sample_before,
    sample_of,
)
from gridctl.control.declaring import declare
from gridctl.control.prices import price_figure, usd_per_mtok
from gridctl.control.weights import Weights
from gridctl.errors import GridctlError
from gridctl.rollout.analysis import Figure, Verdict, judge
from gridctl.rollout.desired import Timing, desired_of, etag_of
from gridctl.rollout.protocol import Report
from gridctl.rollout.releasekey import ReleaseKey, open_release_key
from gridctl.rollout.state import AnalysisResult, Event, Restarted, Rollout, Timer, WindowChanged
from gridctl.rollout.store import FILE, RolloutStore
from gridctl.rollout.windows import is_open
from gridctl.signals.totals import read_totals

if TYPE_CHECKING:
    from gridctl.control.live import Live

PERIOD_S = 1.0
ANALYSED_EVERY_S = 10.0
RETRIED_AFTER_S = 30.0
_Made = TypeVar("_Made")


class Rollouts:
    """The rollouts of one orchestrator. `say` takes lines for the operator."""

    def __init__(
        self,
        folder: Path,
        say: Callable[[str], None],
        timing: Timing | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.timing = timing or Timing()
        self.weights = Weights()
        self._folder = folder
        self._say = say
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="rollouts")
        self._opened: RolloutStore | None = None
        self._key: ReleaseKey | None = None
        self._started_s = clock()
        self._baselines: dict[tuple[str, float], Reading] = {}
        self._analysed_s: dict[str, float] = {}
        self._prices: dict[tuple[int, str], dict[str, float]] = {}
        self._refused: dict[int, float] = {}
        self._trouble = ""
        self._answers: dict[str, tuple[int, float, bytes, str]] = {}

    @property
    def _is_used(self) -> bool:
        """Whether there ever was a rollout, or an agent: a grid without them gets no file for them."""
        return self._opened is not None or (self._folder / FILE).exists()

    async def close(self) -> None:
        """Let go of the store."""
        if self._opened is not None:
            await self.do(lambda store: store.close())
        self._thread.shutdown()

    async def do(self, work: Callable[[RolloutStore], _Made]) -> _Made:
        """Run `work` over the store, after whatever was asked before."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: work(self._store()))

    async def happen(self, name: str, event: Event) -> Rollout:
        """Let an event happen to a rollout."""
        return await self.do(lambda store: store.happen(name, event, self._clock()))

    async def sync(self, site: str, report: Report, seen: str) -> tuple[bytes | None, str]:
        """Take a site's report; what it should hold, as JSON, and its tag. None when `seen` is that tag."""

        def work(store: RolloutStore) -> tuple[bytes | None, str]:
            if store.report(site, report, self._clock()):
                self.weights.take(site, report)
            content, etag = self._answer(store, site)
            return (None if seen == etag else content), etag

        return await self.do(work)

    async def public_key(self) -> str:
        """What agents pin, in PEM."""
        return await self.do(lambda store: self._release_key().public_pem)

    async def run(self, live: Live) -> None:
        """Let time pass for rollouts, until cancelled."""
        if self._is_used:
            await self.do(self._restart)
        while True:
            await asyncio.sleep(PERIOD_S)
            try:
                if not self._is_used:
                    continue
                await self.look(live)
                self._trouble = ""
            except GridctlError as error:
                self._complain(error.what + (f" ({error.where})" if error.where else ""))
            except Exception as error:
                # Time must go on passing for the other rollouts: a site that is waited for for ever is worse.
                self._complain(f"{type(error).__name__}: {error}")

    async def look(self, live: Live) -> None:
        """One round: what is late, whose hours begin or end, how new versions do, what the registry is to be told."""
        for rollout in (await self.do(lambda store: store.active)).values():
            await self.do(lambda store, name=rollout.name: self._pass_time(store, name))  # type: ignore[misc]
            await self._analyse(live, rollout.name)
        await self._declare(live)

    def _complain(self, text: str) -> None:
        if text != self._trouble:
            self._say(f"rollouts: {text}")
        self._trouble = text

    # ── inside: in the store's thread ───────────────────────────────────────────────────────────────────────────────

    def _store(self) -> RolloutStore:
        if self._opened is None:
            self._opened = RolloutStore.open(self._folder)
        return self._opened

    def _release_key(self) -> ReleaseKey:
        if self._key is None:
            self._key = open_release_key(self._folder)
        return self._key

    def _answer(self, store: RolloutStore, site: str) -> tuple[bytes, str]:
        generation, now_s = store.site_generation(site), self._clock()
        hour = now_s // 3600
        known = self._answers.get(site)
        if known is None or known[:2] != (generation, hour):
            desired = desired_of(site, generation, store.wanted(site), now_s, self.timing, self._release_key())
            known = (generation, hour, msgspec.json.encode(desired), etag_of(desired))
            self._answers[site] = known
        return known[2], known[3]

    def _restart(self, store: RolloutStore) -> None:
        for name in store.active:
            store.happen(name, Restarted(), self._clock())
        for site in store.heard_s():
            if (known := store.known_site(site)) is not None:
                self.weights.take(site, known.report)

    def _pass_time(self, store: RolloutStore, name: str) -> None:
        rollout, now_s = store.active.get(name), self._clock()
        if rollout is None:
            return
        is_open_now = is_open(rollout.settings.windows, now_s)
        if is_open_now != rollout.is_window_open:
            store.happen(name, WindowChanged(is_open_now), now_s)
        # Nobody could report while this process did not run: who was heard before counts from its start.
        heard_s = {site: max(at_s, self._started_s) for site, at_s in store.heard_s().items()}
        never_s = max(rollout.created_s, self._started_s)
        store.happen(name, Timer({site: heard_s.get(site, never_s) for site in rollout.sites}), now_s)

    # ── inside: beside it ───────────────────────────────────────────────────────────────────────────────────────────

    async def _analyse(self, live: Live, name: str) -> None:
        """Compare the sites of a wave that bakes with others: every ten seconds, and when its soak is over."""
        rollout = (await self.do(lambda store: store.active)).get(name)
        if rollout is None or "baking" not in (rollout.phase, rollout.resume):
            return
        now_s, mark = self._clock(), (name, rollout.since_s)
        reading = reading_of(read_totals(live.board), rollout.model)
        if mark not in self._baselines:
            self._baselines = {key: before for key, before in self._baselines.items() if key[0] != name}
            self._baselines[mark] = reading
            return
        is_over = rollout.phase == "baking" and now_s - rollout.since_s >= rollout.settings.soak_s
        if not is_over and now_s - self._analysed_s.get(name, 0.0) < ANALYSED_EVERY_S:
            return
        self._analysed_s[name] = now_s
        probes = await self.do(lambda store: _probes(store, rollout))
        verdict = self._verdict(live, rollout, reading, self._baselines[mark], probes)
        figure = await self._price_figure(live, rollout)
        if figure is not None:
            verdict = msgspec.structs.replace(verdict, figures=(figure,))
        before = rollout.verdict.word if rollout.verdict is not None else None
        if is_over or verdict.word != before:
            await self.happen(name, AnalysisResult(rollout.wave, rollout.since_s, verdict))

    def _verdict(
        self,
        live: Live,
        rollout: Rollout,
        now: Reading,
        then: Reading,
        probes: Mapping[str, Mapping[str, float]],
    ) -> Verdict:
        canary = sample_of(canary_sites(rollout), now, then, probes)
        others = control_sites(rollout, live.plan)
        control = sample_of(others, now, then, probes) if others else sample_before(rollout, live.history.series)
        here, there = like_sites(rollout, live.plan, others)
        alike, others_alike = sample_of(here, now, then, {}), sample_of(there, now, then, {})
        canary = msgspec.structs.replace(canary, ttft=alike.ttft, tpot=alike.tpot)
        control = msgspec.structs.replace(control, ttft=others_alike.ttft, tpot=others_alike.tpot)
        return judge(canary, control, rollout.settings.limits)

    async def _price_figure(self, live: Live, rollout: Rollout) -> Figure | None:
        """What tokens cost at the canary and elsewhere; worked out once for each state of the grid."""
        plan, key = live.plan, (live.plan.generation, rollout.model)
        if key not in self._prices:
            self._prices = {key: await asyncio.to_thread(usd_per_mtok, plan, rollout.model)}
        return price_figure(self._prices[key], canary_sites(rollout), control_sites(rollout, plan))

    async def _declare(self, live: Live) -> None:
        now_s = self._clock()
        for told in await self.do(lambda store: store.declarations()):
            if now_s - self._refused.get(told.number, 0.0) < RETRIED_AFTER_S:
                continue
            try:
                changed = await asyncio.to_thread(declare, live.services, told)
            except GridctlError as error:
                if told.number not in self._refused:
                    self._say(f"site {told.site} serves {told.model}/{told.variant}, not declared so: {error.what}")
                self._refused[told.number] = now_s
                continue
            if changed:
                self._say(f"site {told.site} serves {told.model}/{told.variant}")
            await self.do(lambda store, number=told.number: store.declared(number))  # type: ignore[misc]


def _probes(store: RolloutStore, rollout: Rollout) -> dict[str, Mapping[str, float]]:
    """The last probe figures of every site that has any."""
    found: dict[str, Mapping[str, float]] = {}
    for site in store.heard_s():
        known = store.known_site(site)
        if known is not None and known.report.probe and known.report.of(rollout.model) is not None:
            found[site] = known.report.probe
    return found
