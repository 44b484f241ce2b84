"""State: a rollout and its sites as data, the events that happen to it, and the instructions that follow.

Holds no rule: those are the machine's. A rollout goes

    planned → distributing → activating → baking → (next wave: distributing …) → completed
    paused and back;  rolling_back → rolled_back | stuck;  aborted

and each of its sites waiting → fetching → staged → trial → committed, or failed, reverting → reverted, left. That a
site cannot be reached is a flag with a time, never a state. Times are Unix seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, get_args

import msgspec

from gridctl.rollout.analysis import Limits, Verdict
from gridctl.rollout.protocol import Actual, Failure, Mode, Version, Wanted, Window

Phase = Literal[
    "planned",
    "distributing",
    "activating",
    "baking",
    "paused",
    "rolling_back",
    "rolled_back",
    "stuck",
    "aborted",
    "completed",
]
PHASES: tuple[Phase, ...] = get_args(Phase)
TERMINAL: tuple[Phase, ...] = ("rolled_back", "stuck", "aborted", "completed")
FORWARD: tuple[Phase, ...] = ("planned", "distributing", "activating", "baking", "paused")
SitePhase = Literal["waiting", "fetching", "staged", "trial", "committed", "failed", "reverting", "reverted", "left"]
Order = Literal["none", "stage", "trial", "commit", "back"]
Verb = Literal["pause", "resume", "promote", "abort", "undo"]
VERBS: tuple[Verb, ...] = get_args(Verb)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator asked for. Shares are of the sites of a wave, or of a jurisdiction among the rollout's sites;
    one site may always be unavailable, none may fail unless said. `region_bytes_per_s` is for all of a jurisdiction's
    sites of a wave together."""

    soak_s: float = 1800.0
    max_unavailable: float = 0.1
    max_unreachable: float = 0.1
    max_failed: float = 0.0
    unreachable_after_s: float = 180.0
    stuck_after_s: float = 3600.0
    auto_rollback: bool = True
    bandwidth_bytes_per_s: int | None = None
    region_bytes_per_s: int | None = None
    windows: tuple[Window, ...] = ()
    limits: Limits = Limits()


class SiteProgress(msgspec.Struct, frozen=True, kw_only=True):
    """A site of a rollout. `group` is its jurisdiction. `before` is what it was last known to have committed when the
    rollout came to it, once `is_known`; `was_there`: that was the very version. `order` is what it was last told, in
    the desired state of generation `instructed`; reports of older ones say nothing of it. `was_tried`: it was told to
    serve the version at some time, so it may."""

    site: str
    wave: int
    group: str = ""
    phase: SitePhase = "waiting"
    order: Order = "none"
    before: Version | None = None
    is_known: bool = False
    was_there: bool = False
    was_tried: bool = False
    instructed: int = 0
    since_s: float = 0.0
    attempts: int = 0
    failure: Failure | None = None
    unreachable_since_s: float | None = None

    @property
    def has_it(self) -> bool:
        """Whether the version is on its disk, as far as is known."""
        return self.phase in ("staged", "trial", "committed")

    @property
    def is_in_trial(self) -> bool:
        """Whether it was told to try the version and is not known to have come out of that. A site that was not heard
        for so long has: its lease is over."""
        is_open = self.order in ("trial", "commit") and self.phase in ("waiting", "fetching", "staged", "trial")
        return is_open and self.unreachable_since_s is None

    @property
    def is_touched(self) -> bool:
        """Whether it may serve, or may have served, the version because of the rollout."""
        return self.was_tried and not self.was_there


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """A rollout. `resume` is where a pause goes back to; `because` says why it is in its phase, in words; `verdict` is
    the last analysis of the wave. `generation` is that of its last change."""

    name: str
    model: str
    reference: str
    version: Version
    disk_bytes: int = 0
    requires_signature: bool = False
    settings: Settings = Settings()
    phase: Phase = "planned"
    resume: Phase | None = None
    wave: int = 0
    waves: int = 1
    because: str = ""
    since_s: float = 0.0
    created_s: float = 0.0
    created_by: str = ""
    generation: int = 0
    is_window_open: bool = True
    verdict: Verdict | None = None
    sites: dict[str, SiteProgress] = {}

    @property
    def is_over(self) -> bool:
        """Whether nothing will change any more."""
        return self.phase in TERMINAL

    def in_wave(self, wave: int | None = None) -> list[SiteProgress]:
        """The sites of a wave, of the current one unless said."""
        wanted = self.wave if wave is None else wave
        return [site for site in self.sites.values() if site.wave == wanted]


# ── events: what happens ────────────────────────────────────────────────────────────────────────────────────────────


class SiteReported(NamedTuple):
    """A site's agent said what it holds of the model (None: nothing), having seen the desired state `generation`."""

    site: str
    actual: Actual | None
    generation: int
    is_healthy: bool = True


class AnalysisResult(NamedTuple):
    """The wave that has been baking since `since_s` was compared with control sites."""

    wave: int
    since_s: float
    verdict: Verdict


class Timer(NamedTuple):
    """Time has passed. `heard_s`: when each site was last heard; one that is missing never was."""

    heard_s: Mapping[str, float]


class Operated(NamedTuple):
    """An operator wants something."""

    verb: Verb
    who: str
    reason: str = ""


class WindowChanged(NamedTuple):
    """The rollout's windows opened or shut."""

    is_open: bool


class Restarted(NamedTuple):
    """The orchestrator runs anew: what it counted of a wave that was baking is gone."""


Event = SiteReported | AnalysisResult | Timer | Operated | WindowChanged | Restarted


# ── instructions: what follows ──────────────────────────────────────────────────────────────────────────────────────


class Instruct(NamedTuple):
    """A site should do this from now on about the model."""

    site: str
    wanted: Wanted


class Withdraw(NamedTuple):
    """A site should be told nothing more about the model; what it has committed goes on."""

    site: str
    model: str


Instruction = Instruct | Withdraw


class Step(NamedTuple):
    """What an event led to; `rollout` is the very one given when it led to nothing."""

    rollout: Rollout
    instructions: tuple[Instruction, ...] = ()


MODES: dict[Order, Mode] = {"stage": "stage", "trial": "trial", "commit": "commit", "back": "commit"}
