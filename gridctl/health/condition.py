"""One thing's health (an engine, a site) as one machine: circuit breaker, ejection and probation together.

    unknown → healthy ⇄ degraded → ejected → probation → healthy

Decides states and the share of traffic a thing may get, from what is observed of it and from the time, which is an
input: the same events at the same times give the same states, however often `tick` is called in between. Must not
read a clock, draw a random number or know what the thing is. What an operator says wins, and the machine underneath
goes on observing, so that it knows the truth when the operator is done.

The number of ejections, which each lasts longer than the one before, falls by one per healthy interval. A success of
a request that was already under way does not end an ejection. A passed probe does, if the thing had been out of reach:
an engine that answers /health and fails every request gains nothing by it. Connections that broke may be either, an
engine that died and came back between two probes or one that breaks them: the first ejection of a healthy thing for
them ends with a passed probe, on trial, and the next ones, which say that it breaks them, last their time. While probes
fail an ejection does not end, because clients' requests need not find out what probes know; but every ejection ends
when its probes fall silent. Probes that fail while requests are served say degraded, not dead: a full engine answers
/health late. One failed probe after a failed request says dead at once.
"""

from __future__ import annotations

from collections import deque

from gridctl.health.change import Change
from gridctl.health.sampling import Sampling
from gridctl.health.settings import DEFAULTS, Settings
from gridctl.health.trial import Trial
from gridctl.health.window import Window
from gridctl.health.words import ALL_PPM, FAILURES, NEVER_NS, Event, MachineState, OperatorState, State
from gridctl.units import NS_PER_S

KEPT_CHANGES = 32
CONFIRMED_NS = 5 * NS_PER_S
"""So long after a failed request a failed probe confirms it."""
_REACH = frozenset({"connect-failed", "timeout", "probe-failed", "probe-starting"})
"""Causes of which a passed probe is the contrary."""
_MAYBE_GONE = frozenset({"reset", "truncated"})
"""What a process that dies does to the requests it had."""


class Condition:
    """The health of one thing. Times are nanoseconds of any clock that does not run backwards; one that does stands."""

    __slots__ = (
        "_admit_ppm",
        "_cause",
        "_changes",
        "_decay_ns",
        "_due_ns",
        "_failed_ns",
        "_failing_probes",
        "_is_reach",
        "_life_ns",
        "_now_ns",
        "_operator",
        "_operator_cause",
        "_operator_since_ns",
        "_probe_ns",
        "_sampling",
        "_served_ns",
        "_settings",
        "_since_ns",
        "_stale_since_ns",
        "_state",
        "_streak",
        "_trial",
        "_until_ns",
        "_window",
        "ejections",
    )

    def __init__(self, settings: Settings = DEFAULTS, now_ns: int = 0) -> None:
        self._settings = settings
        self._state: MachineState = "unknown"
        self._since_ns = self._now_ns = self._life_ns = now_ns
        self._cause = "nothing has been heard of it yet"
        self._admit_ppm = ALL_PPM
        self._operator: OperatorState = "active"
        self._operator_cause = ""
        self._operator_since_ns = now_ns
        self._window = Window(round(settings.window_s * NS_PER_S), now_ns)
        self._sampling = Sampling(settings, now_ns)
        self._trial = Trial(settings)
        self._streak = self._failing_probes = 0
        self._probe_ns = now_ns
        self._served_ns = now_ns - 1
        self._failed_ns = -NEVER_NS
        self._is_reach = False
        self._until_ns = self._decay_ns = self._stale_since_ns = NEVER_NS
        self._changes: deque[Change] = deque(maxlen=KEPT_CHANGES)
        self._due_ns = self._sampling.due_ns
        self.ejections = 0

    # ── what it says ────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def state(self) -> State:
        """The state to act on: the operator's word where there is one, else the machine's."""
        return self._state if self._operator == "active" else self._operator

    @property
    def since_ns(self) -> int:
        """Since when `state` holds."""
        return self._since_ns if self._operator == "active" else self._operator_since_ns

    @property
    def cause(self) -> str:
        """Why `state` holds, in words."""
        return self._cause if self._operator == "active" else self._operator_cause

    @property
    def admit_ppm(self) -> int:
        """The share of the traffic meant for it that it may get, in millionths."""
        return self._admit_ppm if self._operator == "active" else 0

    @property
    def next_change_ns(self) -> int | None:
        """When it changes by itself if nothing more is observed: None when it does not."""
        if self._operator != "active":
            return None
        due = min(self._ejection_end_ns(), self._ramp_ns())
        return None if due >= NEVER_NS else due

    @property
    def flapping(self) -> bool:
        """Whether it changes so often that its recovery is not believed yet."""
        return self._sampling.flapping.is_flapping

    @property
    def flap_percent(self) -> float:
        """How restless it was lately, 0 to 100; see `health.flapping`."""
        return self._sampling.flapping.percent

    def take_changes(self) -> list[Change]:
        """The changes since the last call, oldest first; of more than 32 the latest."""
        changes = list(self._changes)
        self._changes.clear()
        return changes

    # ── what it is told ─────────────────────────────────────────────────────────────────────────────────────────────

    def observe(self, event: Event, now_ns: int, detail: str = "") -> bool:
        """Take in one event; True when the state or the share of traffic changed. `detail` is the failure in words."""
        if event == "success" and self._state == "healthy" and now_ns < self._due_ns:
            # The hot path: nearly all requests of nearly all engines end here. With a failure in the window its share
            # is to be judged: one more answer may be what makes it tell.
            window = self._window
            if now_ns >= window.next_ns:
                window.advance(now_ns)
            if not window.failed and not window.slow:
                self._served_ns = now_ns
                self._streak = 0
                window.add(1)
                return False
        before = self._told()
        now_ns = self._advance(now_ns)
        if event == "success" or event == "slow":
            self._answered(now_ns, 1, int(event == "slow"))
        elif event in FAILURES:
            self._failed(event, now_ns, 1, detail)
        elif event == "probe-ok":
            self._probe_passed(now_ns)
        elif event == "probe-failed" or event == "probe-starting":
            self._probe_failed(event, now_ns, detail)
        elif event == "telemetry-fresh":
            self._stale_since_ns = NEVER_NS
            self._life_ns = now_ns
        elif event == "telemetry-stale":
            self._stale_since_ns = min(self._stale_since_ns, now_ns)
        elif event == "busy":
            self._life_ns = now_ns  # a full queue is busy, not dead: neither a success nor a failure
        else:
            raise ValueError(f"no such event of health: {event}")
        self._due_ns = self._next_due_ns()
        return self._told() != before

    def observe_counts(
        self, succeeded: int, failed: int, now_ns: int, detail: str = "", event: Event = "status-5xx"
    ) -> bool:
        """Take in counters' growth since the last look, in which the order of answers is lost; True when it changed.
        `event` is what most of the failures were. With both kinds among them a run of failures in a row cannot be told,
        so only shares and probation judge."""
        before = self._told()
        now_ns = self._advance(now_ns)
        words = detail or "requests failed"
        if succeeded and failed and self._state in ("unknown", "healthy", "degraded"):
            self._served_ns = self._failed_ns = now_ns
            self._streak = 0
            self._window.add(succeeded, failed=failed)
            self._judge_shares(now_ns, words, is_reach=self._tells_reach(event))
        elif failed:
            self._failed(event, now_ns, failed, words)
        elif succeeded:
            self._answered(now_ns, succeeded, 0)
        self._due_ns = self._next_due_ns()
        return self._told() != before

    def eject(self, cause: str, now_ns: int) -> bool:
        """Eject it for a reason found elsewhere, by comparing it with its peers; True when it changed."""
        now_ns = self._advance(now_ns)
        if self._state == "ejected":
            return False
        self._eject(cause, now_ns, is_reach=False)
        self._due_ns = self._next_due_ns()
        return True

    def operate(self, word: OperatorState, now_ns: int, cause: str = "") -> bool:
        """Take in what the operator says; `active` gives the word back to the machine. True when it changed."""
        now_ns = self._advance(now_ns)
        if word == self._operator:
            return False
        before = self.state
        self._operator = word
        self._operator_since_ns = now_ns
        self._operator_cause = cause or f"an operator set it to {word}"
        self._changes.append(Change(now_ns, before, self.state, self.cause))
        return True

    def tick(self, now_ns: int) -> bool:
        """Let time pass with nothing observed; True when the state or the share of traffic changed."""
        if now_ns < self._due_ns:
            return False
        before = self._told()
        self._advance(now_ns)
        return self._told() != before

    # ── how it moves ────────────────────────────────────────────────────────────────────────────────────────────────

    def _told(self) -> tuple[str, int, bool]:
        return self._state, self._admit_ppm, self._sampling.flapping.is_flapping

    def _answered(self, now_ns: int, count: int, slow: int) -> None:
        self._served_ns = now_ns
        if self._state == "ejected":
            return  # it was under way before
        self._streak = 0
        self._window.add(count, slow=slow)
        if self._state == "unknown":
            self._enter("healthy", "it answers", now_ns, ALL_PPM)
        elif self._state == "probation":
            self._succeeded_on_trial(count, now_ns)
        self._judge_shares(now_ns)

    def _succeeded_on_trial(self, count: int, now_ns: int) -> None:
        if self._trial.succeeded(count, now_ns):
            self._advance(now_ns)

    def _failed(self, event: str, now_ns: int, count: int, detail: str) -> None:
        if self._state == "ejected":
            self._is_reach |= event == "connect-failed"
            return
        self._streak += count
        self._failed_ns = now_ns
        self._window.add(0, failed=count)
        words = detail or FAILURES[event]
        is_reach = self._tells_reach(event)
        if self._state == "probation":
            self._eject(f"it failed again while tried with little traffic: {words}", now_ns, is_reach=is_reach)
        elif self._streak >= self._settings.consecutive_failures:
            self._eject(f"{self._streak} requests in a row failed, the last: {words}", now_ns, is_reach=is_reach)
        else:
            self._judge_shares(now_ns, words, is_reach=is_reach)

    def _tells_reach(self, event: str) -> bool:
        """Whether such a failure says that it is out of reach, so that a passed probe says the contrary."""
        return event in _REACH or (event in _MAYBE_GONE and not self.ejections)

    def _judge_shares(self, now_ns: int, words: str = "", *, is_reach: bool = False) -> None:
        """Eject, degrade or restore by the shares of the window. Cost: constant."""
        window, settings = self._window, self._settings
        if self._state not in ("unknown", "healthy", "degraded"):
            return
        failed, slow = window.failed_share(), window.slow_share()
        if window.answered >= settings.window_requests:
            told = f"of {window.answered} requests in {settings.window_s:g} s"
            if failed >= settings.ejecting_share:
                last = f", the last: {words}" if words else ""
                self._eject(f"{window.failed} {told} failed{last}", now_ns, is_reach=is_reach)
                return
            if self._state != "degraded" and failed >= settings.degrading_share:
                self._enter("degraded", f"{window.failed} {told} failed", now_ns, settings.degraded_ppm)
                return
            if self._state != "degraded" and slow >= settings.slow_share:
                self._enter(
                    "degraded", f"{window.slow} {told} were much slower than predicted", now_ns, settings.degraded_ppm
                )
                return
        if (
            self._state == "degraded"
            and now_ns - self._since_ns >= settings.degraded_min_s * NS_PER_S
            and failed <= settings.degrading_share * settings.recovered_part
            and slow <= settings.slow_share * settings.recovered_part
            and self._failing_probes < settings.probe_failures
        ):
            self._enter("healthy", "few requests fail or are slow again", now_ns, ALL_PPM)

    def _probe_passed(self, now_ns: int) -> None:
        self._failing_probes = 0
        self._life_ns = self._probe_ns = now_ns
        if self._state == "unknown":
            self._enter("healthy", "it passes its probes", now_ns, ALL_PPM)
        elif self._state == "ejected" and (self._is_reach or now_ns >= self._until_ns):
            self._try_again("it passes its probes again: tried with little traffic", now_ns)
        elif self._state == "probation":
            self._succeeded_on_trial(1, now_ns)
        else:
            self._judge_shares(now_ns)

    def _probe_failed(self, event: str, now_ns: int, detail: str) -> None:
        last_probe_ns, self._probe_ns = self._probe_ns, now_ns
        self._failing_probes += 1
        is_starting = event == "probe-starting"
        enough = self._settings.probe_failures
        # A request failed a moment ago and none has been answered since: the probe confirms it.
        is_confirmed = now_ns - self._failed_ns <= CONFIRMED_NS and self._served_ns <= self._failed_ns
        if self._state == "probation" or (is_starting and self._state == "unknown") or is_confirmed:
            enough = 1
        if self._state == "ejected":
            self._is_reach = True  # whatever it was ejected for, now it is out of reach
            return
        if self._failing_probes < enough:
            return
        words = detail or ("not ready" if is_starting else "no answer")
        told = f"{self._failing_probes} probes in a row" if self._failing_probes > 1 else "a probe"
        if is_confirmed:
            told = f"requests and {told}"
        if is_starting:
            self._eject(f"it is starting: {words}", now_ns, is_reach=True, is_counted=False)
        elif self._served_ns >= last_probe_ns and self._state != "probation" and not is_confirmed:
            if self._state != "degraded":
                cause = f"{told} failed ({words}) while requests are answered"
                self._enter("degraded", cause, now_ns, self._settings.degraded_ppm)
        else:
            self._eject(f"{told} failed: {words}", now_ns, is_reach=True)

    def _eject(self, cause: str, now_ns: int, *, is_reach: bool, is_counted: bool = True) -> None:
        self.ejections += is_counted
        self._is_reach = is_reach
        self._until_ns = now_ns + self._settings.ejection_ns(self.ejections)
        self._streak = 0
        self._window.clear(now_ns)
        self._enter("ejected", cause, now_ns, 0)

    def _try_again(self, cause: str, now_ns: int) -> None:
        self._until_ns = NEVER_NS
        self._failing_probes = 0
        self._window.clear(now_ns)
        self._streak = 0
        self._enter("probation", cause, now_ns, self._trial.begin(now_ns))

    def _enter(self, state: MachineState, cause: str, now_ns: int, admit_ppm: int) -> None:
        before = self.state
        self._state, self._cause, self._since_ns, self._admit_ppm = state, cause, now_ns, admit_ppm
        if self._is_out():
            self._sampling.is_bad = True
        self._decay_ns = NEVER_NS
        if state == "healthy" and self.ejections:
            self._decay_ns = now_ns + round(self._settings.healthy_interval_s * NS_PER_S)
        if self.state != before:
            self._changes.append(Change(now_ns, before, self.state, cause, self.flapping))

    def _is_out(self) -> bool:
        return self._state == "ejected" or self._state == "probation"

    # ── what time does ──────────────────────────────────────────────────────────────────────────────────────────────

    def _advance(self, now_ns: int) -> int:
        """Do what was due until now, in the order of time; returns now, or the latest time known if that is later."""
        now_ns = self._now_ns = max(now_ns, self._now_ns)
        while (due_ns := self._next_due_ns()) <= now_ns:
            if due_ns == self._sampling.due_ns:
                self._sample(now_ns)
            elif due_ns == self._ejection_end_ns():
                self._try_again("its ejection is over: tried with little traffic", due_ns)
            elif due_ns == self._ramp_ns():
                self._climb(due_ns)
            elif due_ns == self._decay_ns:
                self._decay()
            else:
                self._enter(
                    "unknown",
                    f"no answer and no telemetry for {self._settings.silent_after_s:g} s",
                    due_ns,
                    self._settings.silent_ppm,
                )
        if now_ns >= self._window.next_ns:
            self._window.advance(now_ns)
        self._due_ns = due_ns
        return now_ns

    def _next_due_ns(self) -> int:
        return min(self._sampling.due_ns, self._ejection_end_ns(), self._ramp_ns(), self._decay_ns, self._silence_ns())

    def _ejection_end_ns(self) -> int:
        """When an ejection ends by itself: later than meant while probes fail, but not for ever if they fall silent."""
        if self._state != "ejected":
            return NEVER_NS
        if not self._failing_probes:
            return self._until_ns
        return max(self._until_ns, self._probe_ns + round(self._settings.max_ejection_s * NS_PER_S))

    def _ramp_ns(self) -> int:
        """When a probation's share rises."""
        return self._trial.due_ns(is_flapping=self.flapping) if self._state == "probation" else NEVER_NS

    def _silence_ns(self) -> int:
        if self._stale_since_ns == NEVER_NS or self._state not in ("healthy", "degraded"):
            return NEVER_NS
        heard_ns = max(self._life_ns, self._served_ns, self._stale_since_ns)
        return heard_ns + round(self._settings.silent_after_s * NS_PER_S)

    def _climb(self, now_ns: int) -> None:
        share_ppm = self._trial.climb(now_ns)
        if share_ppm is not None:
            self._admit_ppm = share_ppm
        else:
            self._enter("healthy", "it answered well while tried with little traffic", now_ns, ALL_PPM)

    def _decay(self) -> None:
        self.ejections -= 1
        interval_ns = round(self._settings.healthy_interval_s * NS_PER_S)
        self._decay_ns = self._decay_ns + interval_ns if self.ejections else NEVER_NS

    def _sample(self, now_ns: int) -> None:
        """End the sampling interval, and with it those until now in which nothing else is due."""
        sampling, at_ns = self._sampling, self._sampling.due_ns
        turn = sampling.close(is_bad_now=self._is_out())
        if turn == "begins":
            words = f"it changes too often (flap {self.flap_percent:.0f} %): {self._cause}"
            self._changes.append(Change(at_ns, self.state, self.state, words))
        elif turn == "ends":
            self._trial.believe(at_ns)
        others_ns = min(self._ejection_end_ns(), self._ramp_ns(), self._decay_ns, self._silence_ns())
        if others_ns > now_ns:
            sampling.skip(now_ns)
