"""Messages of rollouts: what the admin API takes and gives, made from the rollouts' own state."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any

import msgspec

from gridctl.rollout.analysis import Check, Limits, Verdict
from gridctl.rollout.protocol import Digest, Named
from gridctl.rollout.state import Phase, Rollout, Settings, SitePhase, SiteProgress
from gridctl.rollout.store import HistoryEntry, KnownSite

NAME_PATTERN = r"^[a-z0-9]([a-z0-9._-]{0,126}[a-z0-9])?$(?!\n)"
RolloutName = Annotated[str, msgspec.Meta(pattern=NAME_PATTERN)]
Reference = Annotated[str, msgspec.Meta(min_length=3, max_length=512)]


class StartRollout(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rollout to begin. `reference` names the manifest by its digest, too; `waves` are the sites of each, in
    order."""

    name: RolloutName
    model: Named
    variant: Named
    reference: Reference
    digest: Digest
    waves: Annotated[tuple[tuple[Named, ...], ...], msgspec.Meta(min_length=1, max_length=1000)]
    disk_bytes: Annotated[int, msgspec.Meta(ge=0)] = 0
    requires_signature: bool = False
    settings: Settings = Settings()
    dry_run: bool = False


class Operate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why an operator does what the path says; `name` is that of the rollout which undoes one that is over."""

    reason: Annotated[str, msgspec.Meta(max_length=500)] = ""
    name: RolloutName | None = None


class RolloutSite(msgspec.Struct, frozen=True, kw_only=True):
    """A site of a rollout. `percent` and `bytes_per_s` of a transfer under way; `serves` and `before` are variants and
    the first letters of digests; `heard_s_ago` is None for a site that was never heard."""

    site: str
    wave: int
    group: str
    phase: SitePhase
    percent: float | None = None
    bytes_per_s: float | None = None
    bytes_received: int = 0
    ways: str = ""
    serves: str = ""
    before: str = ""
    failure: str = ""
    is_reachable: bool = True
    heard_s_ago: float | None = None


class RolloutSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A rollout in a line. `wave` counts from 1."""

    name: str
    model: str
    variant: str
    digest: str
    reference: str
    phase: Phase
    because: str
    wave: int
    waves: int
    sites: int
    committed: int
    failed: int
    reverted: int
    unreachable: int
    created_unix_s: float
    created_by: str
    since_unix_s: float


class RolloutReport(RolloutSummary, frozen=True, kw_only=True):
    """A rollout whole: its sites, the last analysis of its wave, how long the wave soaks."""

    soak_s: float
    max_ttft_ratio: float = Limits().max_ttft_ratio
    verdict: Verdict | None = None
    progress: tuple[RolloutSite, ...] = ()


class RolloutList(msgspec.Struct, frozen=True, kw_only=True):
    """Rollouts, the newest first."""

    items: tuple[RolloutSummary, ...]


class RolloutHistory(msgspec.Struct, frozen=True, kw_only=True):
    """What happened, oldest first."""

    items: tuple[HistoryEntry, ...]


class ReleasePublicKey(msgspec.Struct, frozen=True, kw_only=True):
    """What agents pin to know the orchestrator's word: an ed25519 public key in PEM."""

    pem: str


def summary_of(rollout: Rollout) -> RolloutSummary:
    """The rollout in a line."""
    return RolloutSummary(**_summary(rollout))


def report_of(rollout: Rollout, known: dict[str, KnownSite], now_s: float) -> RolloutReport:
    """The rollout whole, with what its sites last said."""
    return RolloutReport(
        **_summary(rollout),
        soak_s=rollout.settings.soak_s,
        max_ttft_ratio=rollout.settings.limits.max_ttft_ratio,
        verdict=rollout.verdict,
        progress=tuple(_site(rollout, site, known.get(site.site), now_s) for site in rollout.sites.values()),
    )


def _summary(rollout: Rollout) -> dict[str, Any]:
    phases = Counter(site.phase for site in rollout.sites.values())
    return {
        "name": rollout.name,
        "model": rollout.model,
        "variant": rollout.version.variant,
        "digest": rollout.version.digest,
        "reference": rollout.reference,
        "phase": rollout.phase,
        "because": rollout.because,
        "wave": rollout.wave + 1,
        "waves": rollout.waves,
        "sites": len(rollout.sites),
        "committed": phases["committed"],
        "failed": phases["failed"],
        "reverted": phases["reverted"],
        "unreachable": sum(site.unreachable_since_s is not None for site in rollout.sites.values()),
        "created_unix_s": rollout.created_s,
        "created_by": rollout.created_by,
        "since_unix_s": rollout.since_s,
    }


def _site(rollout: Rollout, site: SiteProgress, known: KnownSite | None, now_s: float) -> RolloutSite:
    actual = known.report.of(rollout.model) if known is not None else None
    fetching = actual.fetching if actual is not None else None
    if fetching is not None and fetching.digest != rollout.version.digest:
        fetching = None
    serving = actual.serving if actual is not None else None
    failure = site.failure
    return RolloutSite(
        site=site.site,
        wave=site.wave + 1,
        group=site.group,
        phase=site.phase,
        percent=fetching.percent if fetching is not None else None,
        bytes_per_s=fetching.bytes_per_s if fetching is not None else None,
        bytes_received=actual.bytes_received if actual is not None else 0,
        ways=" ".join(way for way, count in sorted(actual.method.items()) if count) if actual is not None else "",
        serves=f"{serving.variant} {serving.digest[7:19]}" if serving is not None else "",
        before=f"{site.before.variant} {site.before.digest[7:19]}" if site.before is not None else "",
        failure=f"{failure.reason}: {failure.detail}".removesuffix(": ") if failure is not None else "",
        is_reachable=site.unreachable_since_s is None,
        heard_s_ago=max(0.0, now_s - known.heard_s) if known is not None else None,
    )


__all__ = [
    "NAME_PATTERN",
    "Check",
    "HistoryEntry",
    "Operate",
    "ReleasePublicKey",
    "RolloutHistory",
    "RolloutList",
    "RolloutReport",
    "RolloutSite",
    "RolloutSummary",
    "StartRollout",
    "report_of",
    "summary_of",
]
