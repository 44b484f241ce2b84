"""Draft: a rollout while one event is worked in: what is known of its sites, what they are told, what is counted.

Must not decide when to go on; that is the machine's. Invariant: a site is told to go back only to a version that was
committed there before the rollout came, under a new and higher counter, or to hold nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import msgspec

from gridctl.rollout.protocol import Actual, Failure, Version, Wanted
from gridctl.rollout.state import (
    MODES,
    Instruct,
    Instruction,
    Order,
    Phase,
    Rollout,
    SiteProgress,
    Step,
    Withdraw,
)

TRANSIENT = ("lease", "interrupted", "network", "registry")
"""Reasons of a failed trial that say nothing of the version."""
MOST_ATTEMPTS = 3


class Draft:
    """One step of a rollout under way. `generation` is that of whatever is changed."""

    def __init__(self, rollout: Rollout, now_s: float, generation: int) -> None:
        self.before = rollout
        self.now_s = now_s
        self.generation = generation
        self.sites = rollout.sites
        self.instructions: list[Instruction] = []
        self._fields: dict[str, Any] = {}

    # ── the rollout ─────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def phase(self) -> Phase:
        return self._fields.get("phase", self.before.phase)  # type: ignore[no-any-return]

    @property
    def wave(self) -> int:
        return self._fields.get("wave", self.before.wave)  # type: ignore[no-any-return]

    @property
    def since_s(self) -> float:
        return self._fields.get("since_s", self.before.since_s)  # type: ignore[no-any-return]

    @property
    def because(self) -> str:
        return self._fields.get("because", self.before.because)  # type: ignore[no-any-return]

    @property
    def is_window_open(self) -> bool:
        return self._fields.get("is_window_open", self.before.is_window_open)  # type: ignore[no-any-return]

    def set(self, **fields: object) -> None:
        """Change fields of the rollout."""
        self._fields |= fields

    def enter(self, phase: Phase, because: str, **fields: object) -> None:
        """Go to a phase, now and for that reason."""
        self.set(phase=phase, because=because, since_s=self.now_s, **fields)

    @property
    def has_changed(self) -> bool:
        """Whether anything is not as it was."""
        before = self.before
        has_moved = self.sites is not before.sites or bool(self.instructions)
        return has_moved or any(getattr(before, name) != value for name, value in self._fields.items())

    def step(self) -> Step:
        """What came of it."""
        if not self.has_changed:
            return Step(self.before)
        after = msgspec.structs.replace(self.before, **self._fields, sites=self.sites, generation=self.generation)
        return Step(after, tuple(self.instructions))

    # ── sites ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def in_wave(self) -> list[SiteProgress]:
        """The sites of the current wave."""
        return [site for site in self.sites.values() if site.wave == self.wave]

    def change(self, name: str, **fields: object) -> None:
        """Change what is known of a site; its time starts anew when its phase changes."""
        site = self.sites[name]
        fields = {field: value for field, value in fields.items() if getattr(site, field) != value}
        if "phase" in fields:
            fields["since_s"] = self.now_s
        if fields:
            if self.sites is self.before.sites:
                self.sites = dict(self.sites)
            self.sites[name] = msgspec.structs.replace(site, **fields)

    def order(self, name: str, order: Order) -> None:
        """Tell a site to stage, try or keep the version."""
        self._tell(name, order, self.before.version)
        if order in ("trial", "commit"):
            self.change(name, was_tried=True)

    def send_back(self, name: str) -> None:
        """Tell a site to go back to what it had committed before; to hold nothing, if that was nothing."""
        site = self.sites[name]
        if site.was_there or site.order in ("none", "back"):
            return
        may_serve = site.was_tried
        if site.before is None and not may_serve:
            self.instructions.append(Withdraw(name, self.before.model))
        else:
            before = site.before
            back = None if before is None else msgspec.structs.replace(before, counter=self.generation)
            self._tell(name, "back", back)
        # What was only staged never served anybody: there is nothing to wait for.
        self.change(name, order="back", phase="reverting" if may_serve else "reverted", failure=site.failure)

    def _tell(self, name: str, order: Order, version: Version | None) -> None:
        rollout = self.before
        settings = rollout.settings
        told = version or rollout.version
        wanted = Wanted(
            model=rollout.model,
            reference=reference_of(rollout.reference, told.digest),
            version=told,
            mode="absent" if version is None else MODES[order],
            # Going back is urgent: neither hours nor caps hold it up.
            bandwidth_bytes_per_s=None if order == "back" else self._bandwidth(name),
            windows=() if order == "back" else settings.windows,
            disk_bytes=0 if order == "back" else rollout.disk_bytes,
            requires_signature=rollout.requires_signature and order != "back",
        )
        self.instructions.append(Instruct(name, wanted))
        self.change(name, order=order, instructed=self.generation, failure=None)

    def _bandwidth(self, name: str) -> int | None:
        """Bytes per second a site may take: its cap, or its even part of what is for its jurisdiction in its wave."""
        settings, site = self.before.settings, self.sites[name]
        if settings.region_bytes_per_s is None:
            return settings.bandwidth_bytes_per_s
        beside = sum(one.group == site.group and one.wave == site.wave for one in self.sites.values())
        part = max(1, settings.region_bytes_per_s // beside)
        return min(part, settings.bandwidth_bytes_per_s or part)

    # ── what a site says ────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def may_instruct(self) -> bool:
        """Whether sites are told what to do next: not while it is paused, nor when it is over."""
        return self.phase != "paused" and not self.before.is_over

    def hear(self, name: str, actual: Actual | None, generation: int, *, is_healthy: bool) -> None:
        """Take a site's word for what it holds."""
        site = self.sites[name]
        self.change(name, unreachable_since_s=None)
        if not site.is_known and site.order in ("none", "stage"):
            committed = actual.committed if actual is not None else None
            there = committed is not None and committed.digest == self.before.version.digest
            self.change(name, is_known=True, before=None if there else committed, was_there=there)
            if there:
                self.change(name, phase="committed")
        site = self.sites[name]
        if generation < site.instructed or site.was_there or site.order == "none":
            return
        if site.order == "back":
            self._hear_back(site, actual)
        else:
            self._hear_forward(site, actual, is_healthy=is_healthy)

    def _hear_forward(self, site: SiteProgress, actual: Actual | None, *, is_healthy: bool) -> None:
        digest = self.before.version.digest
        if site.phase == "reverted":
            return
        if actual is None:
            self.change(site.site, phase="waiting")
        elif actual.trial is not None and actual.trial.digest == digest:
            self.change(site.site, phase="trial", failure=None)
            if is_healthy and site.order == "trial" and self.may_instruct:
                self.order(site.site, "commit")
        elif actual.committed is not None and actual.committed.digest == digest:
            self.change(site.site, phase="committed", failure=None)
        elif actual.failed is not None and actual.failed.digest == digest:
            self._hear_failure(site, actual.failed)
        elif site.phase == "committed" or (site.phase == "trial" and site.order == "commit"):
            gone = Failure(digest, "interrupted", "the site serves another version again, and does not say why")
            self.change(site.site, phase="reverted", failure=gone)
        elif actual.holds(digest):
            self.change(site.site, phase="staged", failure=None)
        elif actual.fetching is not None and actual.fetching.digest == digest:
            self.change(site.site, phase="fetching", failure=None)

    def _hear_failure(self, site: SiteProgress, failure: Failure) -> None:
        if site.phase == "left":
            return
        if not site.is_in_trial:
            self.change(site.site, phase="failed", failure=failure)
        elif failure.reason in TRANSIENT and site.attempts + 1 < MOST_ATTEMPTS:
            if not self.may_instruct:
                return
            # Not the version's fault: fetch what is missing, if anything, and try again when there is room.
            self.change(site.site, phase="waiting", attempts=site.attempts + 1)
            self.order(site.site, "stage")
        else:
            self.change(site.site, phase="reverted", failure=failure)

    def _hear_back(self, site: SiteProgress, actual: Actual | None) -> None:
        if site.phase == "reverted":
            return
        digest = self.before.version.digest
        trial = actual.trial if actual is not None else None
        committed = actual.committed if actual is not None else None
        is_back = trial is None and (
            (committed is None or committed.digest != digest)
            if site.before is None
            else (committed is not None and committed.digest == site.before.digest)
        )
        if is_back:
            self.change(site.site, phase="reverted", failure=None)
        elif actual is not None and actual.failed is not None:
            self.change(site.site, failure=actual.failed)


def allowance(share: float, of: int) -> int:
    """How many of so many sites a share is, rounded down."""
    return math.floor(share * of + 1e-9)


def reference_of(reference: str, digest: str) -> str:
    """The place of a digest in the repository of a reference.

    >>> reference_of("host:5000/models/a:v2@sha256:12", "sha256:34")
    'host:5000/models/a@sha256:34'
    """
    place = reference.partition("@")[0]
    start = place.rfind("/") + 1
    name = place[start:].partition(":")[0]
    return f"{place[:start]}{name}@{digest}"


def listed(names: Iterable[str], most: int = 3) -> str:
    """Names in a sentence, the first few.

    >>> listed(["a", "b", "c", "d"])
    'a, b, c and 1 more'
    """
    known = list(names)
    shown = ", ".join(known[:most])
    return shown if len(known) <= most else f"{shown} and {len(known) - most} more"
