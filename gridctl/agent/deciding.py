"""Deciding: the next step for one model, from what is wanted, what is here, and the moment. Pure.

The same question is asked again after every step and every sync, so nothing depends on how the site came to be as it
is. Invariants: nothing new starts after the desired state has expired; a trial whose lease ran out, that is not wanted
any more or whose engine fails is reverted whatever else is wanted; only a trial that was proved is committed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gridctl.agent.pointers import MAX_ATTEMPTS, Pointers
from gridctl.rollout.protocol import Reason, Version, Wanted

Act = Literal["fetch", "try", "commit", "renumber", "revert", "drop", "refuse"]


@dataclass(frozen=True, slots=True)
class Moment:
    """What the steps depend on besides disk and wish. `proved` is the trial that was found well, if any;
    `engine_failed` says that the engine failed since; `retry_at` is when a step that failed may be tried again."""

    now_unix_s: float
    may_start: bool
    is_window_open: bool
    lease_left_s: float
    proved: Version | None = None
    engine_failed: bool = False
    retry_at_unix_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Next:
    """A step to take. `why` is for the log and for reports."""

    act: Act
    reason: Reason | None = None
    why: str = ""


def next_step(wanted: Wanted | None, pointers: Pointers, whole: frozenset[str], moment: Moment) -> Next | None:
    """What to do now; None when there is nothing to do, or not yet."""
    if pointers.trial is not None:
        return _in_trial(wanted, pointers.trial, moment)
    if wanted is None:
        return None
    if wanted.mode == "absent":
        return Next("drop") if pointers.named else None
    version = wanted.version
    committed = pointers.committed
    if committed is not None and committed.digest == version.digest and version.digest in whole:
        # A lower counter asks for what is here anyway: nothing is lost by agreeing, and nothing is taken back.
        return Next("renumber") if version.counter > committed.counter and wanted.mode == "commit" else None
    if version.counter < pointers.highest:
        return _refused(pointers, version, "counter", f"counter {version.counter} is below {pointers.highest}")
    if not moment.may_start or not moment.is_window_open or moment.now_unix_s < moment.retry_at_unix_s:
        return None
    if wanted.deadline_unix_s is not None and moment.now_unix_s >= wanted.deadline_unix_s:
        return _refused(pointers, version, "interrupted", "its deadline has passed")
    if version.digest not in whole:
        return Next("fetch")
    if wanted.mode == "stage" or pointers.attempts_of(version) >= MAX_ATTEMPTS:
        return None
    return Next("try") if wanted.mode == "commit" or moment.lease_left_s > 0 else None


def _refused(pointers: Pointers, version: Version, reason: Reason, why: str) -> Next | None:
    """A refusal, told once."""
    told = pointers.failed
    is_told = told is not None and (told.digest, told.reason, told.detail) == (version.digest, reason, why)
    return None if is_told else Next("refuse", reason, why)


def _in_trial(wanted: Wanted | None, trial: Version, moment: Moment) -> Next | None:
    if wanted is None or wanted.mode in ("absent", "stage") or wanted.version.digest != trial.digest:
        return Next("revert", None, "it is not wanted any more")
    if moment.proved != trial:
        return Next("revert", "interrupted", "the agent ended while it was tried")
    if moment.engine_failed:
        return Next("revert", "engine", "the engine failed while it was tried")
    if wanted.mode == "commit":
        return Next("commit")
    return Next("revert", "lease", "the orchestrator was not heard of in time") if moment.lease_left_s <= 0 else None
