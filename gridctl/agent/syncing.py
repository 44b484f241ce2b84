"""Syncing: what is told to the orchestrator and when, and what of its answer becomes the worker's wish.

Decides the pause between syncs: 20 % more or less than asked for, so that sites do not come at once; longer after each
failure; much longer when refused; as short as a lease needs while a version is on trial; at once, almost, when there is
something to tell. Invariant: a desired state is checked, and on the disk, before anything is done for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
import uuid

from gridctl.agent.acceptance import CLOCK_TOLERANCE_S, check_desired, sensible
from gridctl.agent.journal import JournalFile
from gridctl.agent.order import Order
from gridctl.agent.steps import Reached, unobserved
from gridctl.agent.talking import Heard, Line, SyncBusyError
from gridctl.agent.telling import report_of
from gridctl.agent.worker import Say, Worker
from gridctl.errors import GridctlError
from gridctl.rollout.protocol import Desired, Report

JITTER = 0.2
LONGEST_WAIT_S = 600.0
REFUSED_FACTOR = 10.0
"""Times the interval, when the orchestrator refuses us: it will hardly be different in a moment."""
LEASE_SHARE = 3.0
"""Syncs in the time of a lease, while a version is on trial."""
EARLY_SHARE = 0.1
"""Share of the interval after which something new is told ahead of time."""


class Syncing:
    """The sync loop of one site. `news` is set when there is something to tell."""

    def __init__(
        self, order: Order, journal: JournalFile, worker: Worker, line: Line, say: Say, reached: Reached = unobserved
    ) -> None:
        self.news = asyncio.Event()
        self._order = order
        self._journal = journal
        self._worker = worker
        self._line = line
        self._say = say
        self._reached = reached
        self._boot_id = uuid.uuid4().hex
        self._sequence = journal.take_sequences()
        self._complaints: list[str] = []
        self._trouble = ""
        self._clock_ahead_s = journal.value.clock_ahead_s
        self.wish()

    async def for_ever(self) -> None:
        """Sync again and again, whatever comes, until the worker was stopped."""
        failures = 0
        while not self._worker.is_stopped:
            wait, failures = await self._synced(failures)
            if self._worker.has_trial:
                wait = min(wait, self._lease_s() / LEASE_SHARE)
            await self._pause(wait * random.uniform(1 - JITTER, 1 + JITTER))

    async def sync(self) -> None:
        """One sync. Raises: SyncRefusedError, SyncBusyError, RefusedError, InputError, OSError of a full disk."""
        self.news.clear()
        heard = await self._line.sync(self.report(), self._etag())
        self._sequence += 1
        if heard.clock_ahead_s is not None:
            is_far = abs(heard.clock_ahead_s) > CLOCK_TOLERANCE_S
            self._clock_ahead_s = heard.clock_ahead_s if is_far else 0.0
        if heard.desired is not None:
            await asyncio.to_thread(self._accept, heard, heard.desired)
            self._reached("accepted")
        self._worker.heard(heard.asked_at)

    def wish(self) -> None:
        """Have the worker follow what was accepted last."""
        journal = self._journal.value
        sound, complaints = sensible(journal.desired.wanted if journal.desired is not None else ())
        for complaint in complaints:
            if complaint not in self._complaints:
                self._say(f"not followed: {complaint}")
        self._complaints = complaints
        self._worker.wish({wanted.model: wanted for wanted in sound}, self._clock_ahead_s)

    def report(self) -> Report:
        """What the site tells now."""
        if self._sequence >= self._journal.value.next_sequence:
            self._sequence = self._journal.take_sequences()
        told = [self._trouble, self._worker.trouble]
        if self._clock_ahead_s:
            told.append(f"the orchestrator's clock is {self._clock_ahead_s:+.0f} s from this one")
        errors = [*self._complaints, *(text for text in told if text)]
        return report_of(self._worker, self._boot_id, self._sequence, errors, time.time())

    async def _synced(self, failures: int) -> tuple[float, int]:
        """One sync, whatever comes of it: seconds to the next, and failures in a row."""
        wait = self._interval_s()
        try:
            await self.sync()
        except SyncBusyError as error:
            self._trouble_is(error.what)
            return max(error.wait_s, min(LONGEST_WAIT_S, wait * 2 ** min(failures, 10))), failures + 1
        except GridctlError as error:
            self._trouble_is(error.what)
            return max(wait, min(LONGEST_WAIT_S, wait * REFUSED_FACTOR)), 0
        except OSError as error:
            self._trouble_is(f"what is wanted cannot be written down: {error.strerror or error}")
            return wait, 0
        self._trouble_is("")
        return self._interval_s(), 0

    async def _pause(self, seconds: float) -> None:
        early = seconds * EARLY_SHARE
        await asyncio.sleep(early)
        if self._trouble:  # whoever is not heard does not call more often for having more to say
            await asyncio.sleep(seconds - early)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds - early):
                await self.news.wait()

    def _accept(self, heard: Heard, desired: Desired) -> None:
        journal = self._journal.value
        now = time.time() + self._clock_ahead_s
        check_desired(desired, journal, self._order.key_pem, now)
        if desired != journal.desired or heard.etag != journal.etag:
            self._journal.change(
                desired=desired,
                etag=heard.etag,
                highest=max(desired.counter, journal.highest),
                accepted_unix_s=now,
                clock_ahead_s=self._clock_ahead_s,
            )
        self.wish()

    def _etag(self) -> str:
        """What we have, unless it is past half its life: then it is asked for anew, so that it does not run out."""
        journal = self._journal.value
        if journal.desired is None:
            return ""
        half = (journal.accepted_unix_s + journal.desired.expires_unix_s) / 2
        return journal.etag if time.time() + self._clock_ahead_s < half else ""

    def _interval_s(self) -> float:
        desired = self._journal.value.desired
        return desired.next_sync_s if desired is not None and desired.next_sync_s > 0 else self._order.interval_s

    def _lease_s(self) -> float:
        desired = self._journal.value.desired
        return desired.lease_s if desired is not None else self._order.interval_s

    def _trouble_is(self, what: str) -> None:
        if what != self._trouble:
            self._say(what or "the orchestrator answers again")
        self._trouble = what
