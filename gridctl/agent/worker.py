"""Worker: takes the steps, one at a time, that bring a site's models to what is wanted. All disk and engine work.

`step` asks `deciding` for the next step of each model and takes the first there is; called again and again it ends
where nothing is left to do. One thread calls it. Others wish, tell that the orchestrator was heard, look, and stop.
Invariants: the pointer to a trial is on the disk before the engine loads it and goes only after the engine is back; so
whenever the agent dies, what the engine may serve is named, whole and verified.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gridctl.agent.collecting import collect, removable
from gridctl.agent.deciding import Moment, Next, next_step
from gridctl.agent.engine import EngineError
from gridctl.agent.fetching import Fetch, FetchError
from gridctl.agent.journal import JournalFile
from gridctl.agent.order import Order
from gridctl.agent.pointers import Pointers
from gridctl.agent.steps import Reached, unobserved
from gridctl.agent.versions import Versions
from gridctl.agent.watching import EngineWatch
from gridctl.artifacts.recipe import Derivation
from gridctl.errors import Interrupted
from gridctl.rollout.protocol import Failure, Reason, Version, Wanted
from gridctl.rollout.windows import is_open

MAX_DETAIL = 500
LONGEST_RETRY = 240
"""Times the first pause; a lasting failure waits three times that at once."""
COLLECT_EVERY_S = 3_600.0
ENDING_S = 5.0
"""Seconds for a transfer to end; a silent registry must not hold up the end, and what came is a whole prefix."""
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _Retry:
    """A step of a version that failed so often, and when it may be taken again."""

    version: Version
    failures: int
    at_unix_s: float


class Worker:
    """The models of one site."""

    def __init__(
        self,
        order: Order,
        journal: JournalFile,
        versions: Versions,
        watch: EngineWatch,
        derivations: Mapping[str, Derivation],
        say: Say,
        reached: Reached = unobserved,
        may_try: bool = True,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self.versions = versions
        self.journal = journal
        self.watch = watch
        self.link_bytes_per_s = 0.0
        self.fetch: Fetch | None = None
        self.trouble = ""
        self._order = order
        self._derivations = derivations
        self._say = say
        self._reached = reached
        self._may_try = may_try
        self._wake = wake
        self._wanted: Mapping[str, Wanted] = {}
        self._lease_until = 0.0
        self._clock_ahead_s = 0.0
        self._proved: dict[str, Version] = {}
        self._retries: dict[str, _Retry] = {}
        self._stop = threading.Event()
        self._insist = threading.Event()
        self._collected_at = 0.0

    def wish(self, wanted: Mapping[str, Wanted], clock_ahead_s: float) -> None:
        """What is wanted from now on, by model. A transfer of something else ends."""
        self._wanted = wanted
        self._clock_ahead_s = clock_ahead_s
        self._wake()
        under_way = self.fetch
        if under_way is not None:
            now = wanted.get(under_way.wanted.model)
            if now is None or now.mode == "absent" or now.version.digest != under_way.wanted.version.digest:
                under_way.end()

    def heard(self, asked_at: float) -> None:
        """The orchestrator answered what left at this monotonic time: a trial's lease runs from there."""
        desired = self.journal.value.desired
        if desired is not None:
            self._lease_until = max(self._lease_until, asked_at + desired.lease_s)
            self._wake()

    def stop(self, *, at_once: bool = False) -> None:
        """Start nothing more and end what is waited for; `at_once`: an engine on its way back, too."""
        self._stop.set()
        if at_once:
            self._insist.set()
        under_way = self.fetch
        if under_way is not None:
            under_way.end()

    @property
    def is_stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stop.is_set()

    @property
    def has_trial(self) -> bool:
        """Whether a version is being tried."""
        return any(self.versions.pointers(model).trial is not None for model in self.versions.models)

    def step(self) -> bool:
        """Take one step; False when there is none to take now."""
        self.watch.look(is_trial=self.has_trial)
        if self.fetch is not None and self.fetch.is_over:
            self._take_fetched(self.fetch)
            return True
        for model in sorted({*self._wanted, *self.versions.models}):
            if self._stop.is_set():
                return False
            wanted = self._wanted.get(model)
            if wanted is not None:
                self.versions.set(model, self.versions.pointers(model).asked(wanted.version))
            found = next_step(wanted, self.versions.pointers(model), self.versions.whole(model), self._moment(model))
            if found is not None and self._take(found, model, wanted):
                return True
        if time.monotonic() - self._collected_at > COLLECT_EVERY_S:
            self.collect()
        return False

    def release(self) -> None:
        """Take every trial back: nobody will watch it. Called once `stop` was, by the thread that stepped."""
        if self.fetch is not None:
            self.fetch.wait(ENDING_S)
        for model in self.versions.models:
            if self.versions.pointers(model).trial is not None:
                self._revert(model, "interrupted", "the agent was stopped", at_fault=False)

    def collect(self) -> int:
        """Remove what nobody needs; the bytes that came free."""
        self._collected_at = time.monotonic()
        if self.fetch is None:
            self.journal.keep_only(self.journal.value.wanted)
        freed = collect(self.versions, removable(self.versions.folder, self.versions, self.journal.value, self._now()))
        self._reached("collected")
        if freed:
            self._say(f"removed {freed:,} bytes that nobody needs")
        return freed

    def _now(self) -> float:
        return time.time() + self._clock_ahead_s

    def _moment(self, model: str) -> Moment:
        now = self._now()
        desired = self.journal.value.desired
        wanted, retry = self._wanted.get(model), self._retries.get(model)
        is_waiting = retry is not None and wanted is not None and retry.version == wanted.version
        return Moment(
            now_unix_s=now,
            may_start=desired is not None and now < desired.expires_unix_s,
            is_window_open=wanted is None or is_open(wanted.windows, now),
            lease_left_s=self._lease_until - time.monotonic() if self._may_try else 0.0,
            proved=self._proved.get(model),
            engine_failed=self.watch.has_failed,
            retry_at_unix_s=retry.at_unix_s if retry is not None and is_waiting else 0.0,
        )

    def _take(self, found: Next, model: str, wanted: Wanted | None) -> bool:
        pointers = self.versions.pointers(model)
        if found.act == "revert":
            return self._revert(model, found.reason, found.why, at_fault=found.reason in ("engine", "interrupted"))
        if found.act == "commit":
            return self._commit(model, pointers)
        assert wanted is not None, "all other steps are towards something wanted"
        if found.act == "fetch":
            return self._fetch(model, wanted)
        if found.act == "try":
            return self._try(model, wanted)
        if found.act == "drop":
            return self._drop(model, pointers)
        if found.act == "renumber":
            self.versions.set(model, pointers.renumbered(wanted.version))
            return True
        assert found.reason is not None
        self._fail(model, wanted.version, found.reason, found.why)
        return True

    def _fetch(self, model: str, wanted: Wanted) -> bool:
        """Begin a transfer, if none is under way. It is taken when it is over."""
        if self.fetch is None and not self._stop.is_set():
            self._say(f"{model}: fetching {wanted.version.variant} {wanted.version.digest[:19]}…")
            self.fetch = Fetch(
                self._order,
                wanted,
                self.versions,
                self.journal,
                self._derivations,
                reached=self._reached,
                now=self._now,
                done=self._wake,
            )
            self.fetch.start()
        return False

    def _take_fetched(self, fetch: Fetch) -> None:
        model, version = fetch.wanted.model, fetch.wanted.version
        self.fetch = None
        try:
            self.link_bytes_per_s = fetch.take()
        except Interrupted:
            self._say(f"{model}: the transfer pauses; what came is kept")
            self._wait(model, version)
            return
        except FetchError as error:
            self._fail(model, version, error.reason, error.what)
            has_room = error.reason == "disk" and self.collect() > 0
            self._wait(model, version, is_lasting=error.is_lasting, at_once=has_room)
            return
        self._well(model, version)
        self._say(f"{model}: {version.variant} is here, whole and verified")

    def _try(self, model: str, wanted: Wanted) -> bool:
        version = wanted.version
        self.watch.remember_committed()
        self.versions.set(model, self.versions.pointers(model).trying(version))
        self._reached("attempt-noted")
        self._say(f"{model}: loading {version.variant} {version.digest[:19]}… on trial")
        try:
            self.watch.engine.load(model, version, self.versions.path(model, version.digest), self._stop)
            self._reached("loaded")
            complaint = self.watch.prove()
        except EngineError as error:
            self._revert(model, "engine", error.what, at_fault=not self._stop.is_set())
            self._wait(model, version)
            return True
        if complaint:
            self._revert(model, "probe", complaint, at_fault=True, is_final=True)
            return True
        self._proved[model] = version
        self._well(model, version)
        self._reached("proved")
        return True

    def _commit(self, model: str, pointers: Pointers) -> bool:
        version = pointers.trial
        assert version is not None
        self.versions.set(model, pointers.committing())
        self._proved.pop(model, None)
        self._reached("committed")
        self.versions.follow(model)
        self._reached("pointed")
        self._say(f"{model}: serves {version.variant} {version.digest[:19]}… from now on")
        self.collect()
        return True

    def _revert(self, model: str, reason: Reason | None, why: str, *, at_fault: bool, is_final: bool = False) -> bool:
        """Engine first, pointer last. False when the engine does not go back: it is tried again."""
        pointers = self.versions.pointers(model)
        trial = pointers.trial
        assert trial is not None
        retry = self._retries.get(f"{model} back")
        if retry is not None and retry.at_unix_s > self._now() and not self._stop.is_set():
            return False
        failure = self._failure_of(pointers, trial, reason, why)
        noted = pointers.failing(failure or pointers.failed)
        self.versions.set(model, noted.given_up() if is_final else noted)
        self._say(f"{model}: going back from {trial.variant}: {why}")
        self._proved.pop(model, None)
        committed = pointers.committed
        if self.watch.engine.is_told:
            path = self.versions.path(model, committed.digest) if committed is not None else None
            try:
                self.watch.engine.load(model, committed, path, self._insist)
            except EngineError as error:
                self._say(f"{model}: the engine does not go back: {error.what}")
                self._wait(f"{model} back", trial)
                return False
        self._retries.pop(f"{model} back", None)
        self.watch.forget()
        self._reached("engine-restored")
        is_version_at_fault = at_fault and (failure is None or failure.reason != "lease")
        now = self.versions.pointers(model)
        self.versions.set(model, now.reverted(is_version_at_fault=is_version_at_fault))
        self._reached("reverted")
        return True

    def _failure_of(self, pointers: Pointers, trial: Version, reason: Reason | None, why: str) -> Failure | None:
        """What is told of a trial that ended; an earlier, better word for the same trial stays."""
        if reason is None:
            return None
        told = pointers.failed
        if reason == "interrupted" and told is not None and told.digest == trial.digest:
            return told
        return Failure(trial.digest, reason, why[:MAX_DETAIL])

    def _drop(self, model: str, pointers: Pointers) -> bool:
        if self.watch.engine.is_told:
            try:
                self.watch.engine.load(model, None, None, self._stop)
            except EngineError as error:
                self._say(f"{model}: the engine does not let go: {error.what}")
                return False
        self.versions.set(model, Pointers(highest=pointers.highest, bytes_received=pointers.bytes_received))
        self.versions.follow(model)
        self._say(f"{model}: not held any more; its files go after a day")
        return True

    def _fail(self, model: str, version: Version, reason: Reason, why: str) -> None:
        failure = Failure(version.digest, reason, why[:MAX_DETAIL])
        self._say(f"{model}: {version.variant} failed: {reason}: {why[:MAX_DETAIL]}")
        try:
            self.versions.set(model, self.versions.pointers(model).failing(failure))
        except OSError as error:  # a full disk cannot take even this; the report is made from the next success
            self._say(f"{model}: {error.strerror}")

    def _well(self, model: str, version: Version) -> None:
        self._retries.pop(model, None)
        pointers = self.versions.pointers(model)
        if pointers.failed is not None and pointers.failed.digest == version.digest:
            self.versions.set(model, pointers.failing(None))

    def _wait(self, model: str, version: Version, *, is_lasting: bool = False, at_once: bool = False) -> None:
        held = self._retries.get(model)
        failures = held.failures + 1 if held is not None and held.version == version else 1
        factor = 3 * LONGEST_RETRY if is_lasting else min(LONGEST_RETRY, 2 ** (failures - 1))
        pause = 0.0 if at_once else self._order.retry_s * factor
        self._retries[model] = _Retry(version, failures, self._now() + pause)
